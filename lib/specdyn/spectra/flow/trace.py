"""What a network does to its input, written down as a graph of calls without running it."""

import dis
import inspect
import math
import os
import re
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import fx, nn

from specdyn.spectra.layers import read_module

_CREATING = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "tensor", "zeros")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def trace(model: nn.Module) -> fx.Graph:
    """Return the calls that ``model.forward`` makes, with arguments that have a default at their default.

    The model is left as it is, attributes that its ``forward`` sets included.

    Raises ``ValueError`` with the reason where ``forward`` depends on values that only a run would know.

    >>> [node.target for node in trace(nn.Sequential(nn.Linear(3, 2), nn.ReLU())).nodes]
    ['input', '0', '1', 'output']
    """
    try:
        twin = _twin(model, {})
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), _recorded(_CREATING):
            warnings.simplefilter("ignore")
            return _Tracer(twin).trace(twin, _fixed(model))
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} cannot be traced, so what feeds what is not known: {_told(error)}; "
            'say it yourself, as in specdyn.declare(model, "embed -> attention", "attention -> out")'
        ) from error


def _fixed(model: nn.Module) -> dict[str, Any]:
    """Return what the arguments of ``forward`` are fixed to: their defaults, and nothing behind the stars.

    What is left is an input. Where nothing is left, that is a first argument whose default is ``None``.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    fixed = {p.name: p.default for p in parameters if p.default is not p.empty}
    fixed |= {f"**{p.name}": {} for p in parameters if p.kind is p.VAR_KEYWORD}
    fixed |= {f"*{p.name}": () for p in parameters if p.kind is p.VAR_POSITIONAL}
    if len(fixed) == len(parameters) and parameters and parameters[0].default is None:
        del fixed[parameters[0].name]
    return fixed


def _told(error: Exception) -> str:
    """Say what went wrong and in which line of the network's own code."""
    what = f"{type(error).__name__}, {' '.join(str(error).split()).partition('. ')[0].rstrip('.')}"
    machinery = (os.path.dirname(torch.__file__), __file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(machinery)]
    if not frames:
        return what
    at = frames[-1]
    return f"{what} ({os.path.basename(at.filename)}, line {at.lineno} in {at.name}: {at.line or '?'})"


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is followed by a rule for its kind, not by looking into its ``forward``.

    >>> is_leaf(nn.Linear(3, 2)), is_leaf(nn.Sequential())
    (True, False)
    """
    if isinstance(module, nn.Sequential | torch.jit.ScriptModule):
        return False
    if forward_home(module).startswith(("torch.nn", "torch.ao.nn")):
        return True
    kinds = type(module).__mro__
    registered = next(at for at, kind in enumerate(kinds) if kind in read_module.registry)
    defined = next(at for at, kind in enumerate(kinds) if "forward" in kind.__dict__)
    wholes = [part.parameter for part in read_module(module) if not part.label]
    return registered <= defined and len(wholes) == 1 and "." not in wholes[0]


def forward_home(module: nn.Module) -> str:
    """Return the name of the Python module where a layer's ``forward`` was written.

    >>> forward_home(nn.BatchNorm2d(3))
    'torch.nn.modules.batchnorm'
    """
    return type(module).forward.__module__


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # masks are cut to sizes that only a run would know

    def __init__(self, model: nn.Module) -> None:
        # While the model is traced its weights are stand-ins, which cannot be read.
        self._leaves = {module for module in model.modules() if is_leaf(module)}
        modules: Any = (math, torch.nn.utils.rnn)
        super().__init__(autowrap_modules=modules)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self._leaves

    def iter(self, obj: Any) -> Iterator[fx.Proxy]:
        node = obj.node
        count = (*node.args[1:2], *(value for key, value in node.kwargs.items() if key == "chunks"))
        if node.target in ("chunk", torch.chunk) and isinstance(count[0], int):
            return iter([obj[at] for at in range(count[0])])
        return super().iter(obj)

    def to_bool(self, obj: fx.Proxy) -> bool:
        # A check of the input says nothing of the flow: the answer is the one that raises no error.
        frame = inspect.currentframe()
        asking = frame.f_back.f_back if frame and frame.f_back else None
        answer = _harmless(asking) if asking else None
        return super().to_bool(obj) if answer is None else answer


def _harmless(frame: FrameType) -> bool | None:
    """Return the truth value with which a frame goes on, if it raises an error with the other."""
    steps = list(dis.get_instructions(frame.f_code))
    places = {step.offset: at for at, step in enumerate(steps)}
    at = places[frame.f_lasti]
    at += steps[at].opname == "TO_BOOL"
    if not re.fullmatch(r"POP_JUMP_(FORWARD_)?IF_(TRUE|FALSE)", steps[at].opname):
        return None
    on, over = _raises(steps, places, at + 1), _raises(steps, places, places[steps[at].argval])
    return None if on == over else on == steps[at].opname.endswith("TRUE")


def _raises(steps: list[dis.Instruction], places: dict[int, int], at: int) -> bool:
    """Whether code from some place on does nothing but raise an error."""
    while at < len(steps):
        step = steps[at]
        if step.opname == "RAISE_VARARGS":
            return True
        if "RETURN" in step.opname or "BACKWARD" in step.opname or step.opname in ("FOR_ITER", "SEND"):
            return False
        ahead = places.get(step.argval, 0) if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs else 0
        if ahead and step.opname != "JUMP_FORWARD" and not _raises(steps, places, ahead):
            return False
        at = ahead if ahead and step.opname == "JUMP_FORWARD" else at + 1
    return False


def _twin(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    """Return modules of their own around the same tensors, so that what ``forward`` sets is set there."""
    if id(module) not in made:
        twin: nn.Module = type(module).__new__(type(module))
        made[id(module)] = twin
        twin.__dict__.update({key: _shallow(value) for key, value in module.__dict__.items()})
        twin.__dict__.update({key: OrderedDict() for key in _HOOKS})
        # Reading a spectrally normalised weight in training writes to its buffers.
        twin.__dict__["_buffers"] = {name: x if x is None else x.clone() for name, x in module._buffers.items()}
        twin.__dict__["_modules"] = {name: child and _twin(child, made) for name, child in module._modules.items()}
    return made[id(module)]


def _shallow(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list | set) else value


@contextmanager
def _recorded(names: tuple[str, ...]) -> Iterator[None]:
    """Let functions that make tensors out of sizes be recorded as well; they know no stand-in for a size."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(torch, name, _recording(getattr(torch, name))))
        yield


def _recording(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        found: list[fx.Proxy] = []
        fx.node.map_aggregate((args, kwargs), lambda x: found.append(x) if isinstance(x, fx.Proxy) else None)
        if found:
            return found[0].tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)

    return call
