"""What each kind of layer reads, and what it passes on."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from specdyn.spectra.flow.features import Features, Lost, join, together
from specdyn.spectra.flow.trace import forward_home, is_leaf
from specdyn.spectra.flow.walk import PLAIN, Walk, Weight

_KEEPING = ("activation", "batchnorm", "dropout", "instancenorm", "normalization")
_SPATIAL = ("padding", "pooling", "upsampling")


@singledispatch
def through(module: nn.Module, walk: Walk, path: str, *args: Any, **kwargs: Any) -> Any:
    """Return what a layer makes of its arguments, and note what its matrices read.

    A layer of a kind that is not known here but has one matrix of its own reads its first argument and
    passes its outputs on along the last axis, or along that of channels if it is a kernel.
    """
    x = (*args, *kwargs.values(), PLAIN)[0]
    home = forward_home(module).removeprefix("torch.nn.modules.")
    if home in _KEEPING or type(module).forward is nn.Identity.forward:
        walk.keep(path, x)
        return x
    if home in _SPATIAL:
        return _spatial(module, x)
    own = [name for name in walk.reading.parts if name.rpartition(".")[0] == path]
    if len(own) != 1:
        return _given_up(module, *args, *kwargs.values())
    whole = walk.reading.parts[own[0]][0]
    dimensions = whole.stored.ndim - 2 if whole.positions > 1 and whole.stored is not None else 0
    if dimensions:
        return convolve(walk, own[0], x, dimensions, whole.view.shape[0])
    walk.read(own[0], x)
    return walk.emit(whole.view.shape[0] // whole.blocks, walk.axes(x), own[0])


def _within(module: Any, walk: Walk, path: str, *args: Any) -> Any:
    """Return what a layer inside another makes of its arguments, if it is of a kind there are rules for."""
    return through(module, walk, path, *args) if is_leaf(module) else _given_up(module, *args)


def arguments(module: nn.Module) -> list[Any]:
    """Return plain inputs for a network that is a single layer.

    >>> len(arguments(nn.Linear(3, 2)))
    1
    """
    parameters = inspect.signature(module.forward).parameters.values()
    return [PLAIN for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]


def _given_up(module: nn.Module, *values: Any) -> Any:
    found = [value for value in values if isinstance(value, Features | Lost)]
    if not found and not list(module.parameters()):
        return PLAIN
    reasons = frozenset[str]().union(*(value.reasons for value in found))
    return Lost(reasons | {f"comes through {type(module).__name__}, of which it is not known what it does to features"})


def _spatial(module: nn.Module, x: Any) -> Any:
    """Pool, pad or resize: over the last axes, along which no features may lie."""
    dimensions = re.search(r"([123])d$", type(module).__name__)
    last = range(-int(dimensions[1]) if dimensions else -1, 0)
    if isinstance(x, Features) and any(x.along(axis) is not None for axis in last):
        return x.lost(f"comes through {type(module).__name__}, which here pools over features")
    return x


@through.register
def _(module: nn.GLU, walk: Walk, path: str, input: Any) -> Any:
    return halves(input, module.dim)


def halves(x: Any, axis: int) -> Any:
    """Return the first half of the features multiplied by a function of the second."""
    if not isinstance(x, Features):
        return x
    width = x.width
    if x.along(axis) != 0 or width is None or width % 2 or len(x.sizes) > 1:
        return x.lost("gated along another axis than that of the features")
    pair = [x.cut(axis, 0, width // 2), x.cut(axis, width // 2, width)]
    return together(pair)


@through.register(nn.PixelShuffle)
@through.register(nn.PixelUnshuffle)
@through.register(nn.ChannelShuffle)
@through.register(nn.Fold)
@through.register(nn.Unfold)
def _(module: nn.Module, walk: Walk, path: str, input: Any) -> Any:
    return _given_up(module, input)


@through.register
def _(module: nn.Flatten, walk: Walk, path: str, input: Any) -> Any:
    return input.flatten(module.start_dim, module.end_dim) if isinstance(input, Features) else input


@through.register
def _(module: nn.Unflatten, walk: Walk, path: str, input: Any) -> Any:
    if not isinstance(input, Features):
        return input
    sizes = [size if isinstance(size, int) and size >= 0 else None for size in module.unflattened_size]
    return input.unflatten(int(module.dim), sizes)


@through.register
def _(module: nn.Linear, walk: Walk, path: str, input: Any) -> Any:
    name = named(path, "weight")
    walk.read(name, input)
    return walk.emit(module.out_features, walk.axes(input), name)


@through.register
def _(module: nn.Bilinear, walk: Walk, path: str, input1: Any, input2: Any) -> Any:
    name = named(path, "weight")
    for x in (input1, input2):
        if isinstance(x, Features | Lost):
            walk.doubt(name, [*x.reasons, "reads products of two tensors"])
    return walk.emit(module.out_features, walk.axes(input1), name)


@through.register
def _(module: nn.Embedding, walk: Walk, path: str, input: Any) -> Any:
    return walk.emit(module.embedding_dim, walk.axes(PLAIN), named(path, "weight"))


@through.register
def _(module: nn.EmbeddingBag, walk: Walk, path: str, input: Any, *rest: Any, **kwargs: Any) -> Any:
    return walk.emit(module.embedding_dim, (None, 0), named(path, "weight"))


@through.register(nn.Conv1d | nn.Conv2d | nn.Conv3d)
@through.register(nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
def _(module: Any, walk: Walk, path: str, input: Any, *rest: Any) -> Any:
    return convolve(walk, named(path, "weight"), input, len(module.kernel_size), module.out_channels, module.groups)


def convolve(walk: Walk, name: str, x: Any, dimensions: int, width: int, groups: int = 1) -> Any:
    """Return what a convolution makes of a tensor."""
    if groups == 1:
        walk.read(name, x, -dimensions - 1)
    elif isinstance(x, Features | Lost):
        walk.doubt(name, [*x.reasons, f"reads in {groups} groups, so its columns are not the features that arrive"])
    return walk.emit(width, (None, 0, *[None] * dimensions), name)


@through.register
def _(module: nn.RNNBase, walk: Walk, path: str, input: Any, hx: Any = None) -> Any:
    lstm = module.mode == "LSTM"
    first = hx[0] if lstm and isinstance(hx, tuple) else hx
    finals: list[Any] = []
    for layer in range(module.num_layers):
        outputs = []
        for way in (f"l{layer}", f"l{layer}_reverse")[: 2 if module.bidirectional else 1]:
            before = first[len(finals)] if isinstance(first, tuple) and len(finals) < len(first) else first
            outputs.append(_recurrent(module, walk, path, f"_{way}", input, before))
            finals.append(outputs[-1].drop(0) if isinstance(outputs[-1], Features) else outputs[-1])
        input = join(outputs, -1)
    state = tuple(finals)
    return input, (state, state) if lstm else state


def _recurrent(module: nn.RNNBase, walk: Walk, path: str, suffix: str, x: Any, before: Any) -> Features | Lost:
    """Follow one layer in one direction; its state is ``before``, then what it gave the step before."""
    ih, hh, hr = (named(path, f"weight_{side}{suffix}") for side in ("ih", "hh", "hr"))
    axes = (None, None, 0)
    output = walk.emit(module.hidden_size, axes, ih, hh)
    walk.read(ih, x)
    if module.proj_size:
        walk.read(hr, output)
        output = walk.emit(module.proj_size, axes, hr)
    walk.read(hh, before)
    walk.read(hh, output)
    return output


@through.register
def _(module: nn.RNNCellBase, walk: Walk, path: str, input: Any, hx: Any = None) -> Any:
    ih, hh = named(path, "weight_ih"), named(path, "weight_hh")
    walk.read(ih, input)
    walk.read(hh, hx[0] if isinstance(hx, tuple) else hx)
    state = walk.emit(module.hidden_size, (None, 0), ih, hh)
    return (state, state) if isinstance(module, nn.LSTMCell) else state


@through.register
def _(
    module: nn.MultiheadAttention, walk: Walk, path: str, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> Any:
    inputs = (query, key, value)
    queries, keys, values = _separate(module, walk, path, inputs) or _fused(module, walk, path, inputs)
    if isinstance(queries, Features) and isinstance(keys, Features):
        sizes = (module.num_heads, module.head_dim)
        walk.meet(*(replace(x, sizes=sizes, axes=(None, 0, None, 1)) for x in (queries, keys)))
    out = named(path, "out_proj.weight")
    walk.read(out, values)
    return walk.emit(module.embed_dim, walk.axes(query), out), PLAIN


def _separate(module: nn.MultiheadAttention, walk: Walk, path: str, inputs: Sequence[Any]) -> list[Any]:
    """Return queries, keys and values where each has a parameter of its own."""
    if module.in_proj_weight is not None:
        return []
    names = [named(path, f"{letter}_proj_weight") for letter in "qkv"]
    for name, x in zip(names, inputs, strict=True):
        walk.read(name, x)
    return [walk.emit(module.embed_dim, (None, None, 0), name) for name in names]


def _fused(module: nn.MultiheadAttention, walk: Walk, path: str, inputs: Sequence[Any]) -> list[Any]:
    """Return queries, keys and values where one parameter gives all three."""
    name, width = named(path, "in_proj_weight"), module.embed_dim
    if inputs[0] == inputs[1] == inputs[2]:
        walk.read(name, inputs[0])
    else:
        for label, x in zip("qkv", inputs, strict=True):
            walk.read(name, x, label=label)
    fused = walk.emit(3 * width, (None, None, 0), name)
    if isinstance(fused, Lost):
        return [fused] * 3
    return [fused.cut(-1, at * width, (at + 1) * width) for at in range(3)]


@through.register
def _(module: ParametrizationList, walk: Walk, path: str) -> Any:
    owner, _, name = path.rpartition("parametrizations.")
    parts = walk.reading.parts.get(owner + name)
    return Weight(owner + name, tuple(parts[0].view.shape)) if parts and parts[0].positions == 1 else PLAIN


@through.register
def _(module: nn.TransformerEncoderLayer, walk: Walk, path: str, src: Any, *_: Any, **__: Any) -> Any:
    x = _attended(module.self_attn, walk, named(path, "self_attn"), src, src)
    return _fed(module, walk, path, x)


@through.register
def _(module: nn.TransformerDecoderLayer, walk: Walk, path: str, tgt: Any, memory: Any, *_: Any, **__: Any) -> Any:
    x = _attended(module.self_attn, walk, named(path, "self_attn"), tgt, tgt)
    x = _attended(module.multihead_attn, walk, named(path, "multihead_attn"), x, memory)
    return _fed(module, walk, path, x)


def _attended(module: nn.Module, walk: Walk, path: str, x: Any, memory: Any) -> Any:
    """Return the sum of a tensor and what attention makes of it."""
    change = _within(module, walk, path, x, memory, memory)
    return _residual(x, change[0] if isinstance(change, tuple) else change)


def _fed(module: nn.Module, walk: Walk, path: str, x: Any) -> Any:
    inner = _within(module.linear1, walk, named(path, "linear1"), x)
    return _residual(x, _within(module.linear2, walk, named(path, "linear2"), inner))


def _residual(x: Any, change: Any) -> Any:
    """Return the sum of a tensor that is passed on and a change to it."""
    found = [x.skipping() if isinstance(x, Features) else x, change]
    found = [value for value in found if isinstance(value, Features | Lost)]
    return together(found) if found else PLAIN


@through.register
def _(module: nn.TransformerEncoder, walk: Walk, path: str, src: Any, *_: Any, **__: Any) -> Any:
    for index, layer in enumerate(module.layers):
        src = _within(layer, walk, named(path, f"layers.{index}"), src)
    return src


@through.register
def _(module: nn.TransformerDecoder, walk: Walk, path: str, tgt: Any, memory: Any, *_: Any, **__: Any) -> Any:
    for index, layer in enumerate(module.layers):
        tgt = _within(layer, walk, named(path, f"layers.{index}"), tgt, memory)
    return tgt


@through.register
def _(module: nn.Transformer, walk: Walk, path: str, src: Any, tgt: Any, *_: Any, **__: Any) -> Any:
    memory = _within(module.encoder, walk, named(path, "encoder"), src)
    return _within(module.decoder, walk, named(path, "decoder"), tgt, memory)


def named(path: str, name: str) -> str:
    """Return the name of a parameter or a child of the module at ``path``.

    >>> named("", "weight"), named("fc", "weight")
    ('weight', 'fc.weight')
    """
    return f"{path}.{name}" if path else name
