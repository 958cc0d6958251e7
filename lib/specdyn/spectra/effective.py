"""The weights a network computes with, where they are not the parameters it stores.

A parametrized, normalised or pruned layer stores something else than it multiplies by, and reading
its ``weight`` either runs code that changes its buffers or shows a value from before the last update.
So such a layer is read off a stand-in: an object of its class that has the effective weight for an
attribute. The layer itself is only looked at.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


class Computed(NamedTuple):
    """A weight that a module computes: its name, its value, and the parameters it is computed from."""

    name: str
    value: Tensor
    sources: tuple[str, ...]


class StandIns:
    """Stand-ins for the modules of a network, each made once.

    ``instead`` maps the identity of a parameter to the tensor that is read in its place. ``computed``
    collects, by the identity of a module, what was computed for it.
    """

    def __init__(self, instead: Mapping[int, Tensor]) -> None:
        """Start with nothing made."""
        self.computed: dict[int, list[Computed]] = {}
        self._instead = instead
        self._made: dict[int, nn.Module] = {}

    def of(self, module: nn.Module) -> nn.Module:
        """Return a stand-in, or the module itself where nothing in it is read differently.

        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        >>> stand_in = StandIns({}).of(layer)
        >>> type(stand_in) is nn.Linear, torch.equal(stand_in.weight, layer.weight)
        (True, True)
        """
        if id(module) not in self._made:
            self._made[id(module)] = self._make(module)
        return self._made[id(module)]

    def _make(self, module: nn.Module) -> nn.Module:
        children = {name: child and self.of(child) for name, child in module._modules.items()}
        own = {name: self._instead.get(id(value), value) for name, value in module._parameters.items()}
        changed = any(child is not module._modules[name] for name, child in children.items())
        changed |= any(value is not module._parameters[name] for name, value in own.items())
        if not (changed or _computes(module)):
            return module
        kind = parametrize.type_before_parametrizations(module)
        stand_in = _twin(module, kind, _parameters=own, _modules=children)
        for computed in _compute(stand_in):
            self.computed.setdefault(id(module), []).append(computed)
            stand_in.__dict__[computed.name] = computed.value
        return stand_in


def _computes(module: nn.Module) -> bool:
    known = (prune.BasePruningMethod, WeightNorm, SpectralNorm)
    hooked = any(isinstance(hook, known) for hook in module._forward_pre_hooks.values())
    return hooked or parametrize.is_parametrized(module)


def _compute(module: nn.Module) -> Iterator[Computed]:
    """Compute the weights of a stand-in from what it stores now."""
    if parametrize.is_parametrized(module):
        for name, chain in module.get_submodule("parametrizations").named_children():
            sources = tuple(f"parametrizations.{name}.{path}" for path, _ in chain.named_parameters())
            yield Computed(name, _evaluate(chain), sources)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod):
            yield _pruned(hook, module)
        elif isinstance(hook, WeightNorm):
            yield Computed(hook.name, hook.compute_weight(module), (f"{hook.name}_g", f"{hook.name}_v"))
        elif isinstance(hook, SpectralNorm):
            value = hook.compute_weight(module, do_power_iteration=False)
            yield Computed(hook.name, value, (f"{hook.name}_orig",))


def _pruned(method: Any, module: nn.Module) -> Computed:
    name = method._tensor_name
    return Computed(name, method.apply_mask(module), (f"{name}_orig",))


def _evaluate(chain: nn.Module) -> Tensor:
    """Return what parametrizations make of their originals in evaluation, without leaving a trace."""
    devices = {parameter.device for parameter in chain.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        value: Tensor = _in_evaluation(chain)()
    return value


def _in_evaluation(module: nn.Module) -> nn.Module:
    buffers = {name: None if buffer is None else buffer.clone() for name, buffer in module._buffers.items()}
    children = {name: child and _in_evaluation(child) for name, child in module._modules.items()}
    return _twin(module, type(module), training=False, _buffers=buffers, _modules=children)


def _twin(module: nn.Module, kind: type[nn.Module], **different: Any) -> nn.Module:
    """Return an object of the given class that has all the module has, but for what is different."""
    twin = kind.__new__(kind)
    twin.__dict__.update(module.__dict__, **different)
    return twin
