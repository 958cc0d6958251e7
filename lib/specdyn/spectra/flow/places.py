"""Shapes, views, pieces and places: what happens to features when a tensor is laid out differently."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from specdyn.spectra.flow.features import Features, Lost, lost
from specdyn.spectra.flow.walk import PLAIN, Walk, Weight


def size(x: Any, axis: Any = None) -> Any:
    """Return the sizes of a tensor, as far as they are known, or that of one axis."""
    if isinstance(x, Weight):
        sizes: tuple[Any, ...] = x.shape[::-1] if x.turned else x.shape
    elif isinstance(x, Features):
        known = [PLAIN if factor is None or x.flat else x.sizes[factor] for factor in x.axes]
        sizes = tuple(PLAIN if size is None else size for size in known)
    else:
        return PLAIN
    if axis is None:
        return sizes
    return sizes[axis] if has(sizes, axis) else PLAIN


def has(values: Sequence[Any], index: Any) -> bool:
    """Whether a place or a range among values is known and exists."""
    if isinstance(index, slice):
        return PLAIN not in (index.start, index.stop, index.step)
    return isinstance(index, int) and -len(values) <= index < len(values)


def _shape(values: Sequence[Any]) -> list[int | None]:
    """Return sizes as they are given, in a row or in one tuple, with ``None`` for the unknown."""
    sizes = values[0] if len(values) == 1 and isinstance(values[0], tuple | list) else values
    return [size if isinstance(size, int) and size >= 0 else None for size in sizes]


def _on_features(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a rule to a tensor whose features are known, and pass on anything else."""

    def call(walk: Walk, x: Any, *args: Any, **kwargs: Any) -> Any:
        return rule(x, *args, **kwargs) if isinstance(x, Features) else x

    return call


def _view(x: Features, *shape: Any, **kwargs: Any) -> Any:
    return x.view(_shape([*shape, *kwargs.values()]))


def _permute(x: Features, *order: Any, **kwargs: Any) -> Any:
    given = [*order, *kwargs.values()]
    return x.permute(given[0] if isinstance(given[0], tuple | list) else given)


def transpose(walk: Walk, x: Any, dim0: Any = -2, dim1: Any = -1) -> Any:
    """Return a tensor or a parameter with two axes exchanged."""
    if isinstance(x, Weight):
        return replace(x, turned=not x.turned) if len(x.shape) == 2 else x
    return x.transpose(dim0, dim1) if isinstance(x, Features) else x


def _flatten(x: Features, start_dim: int = 0, end_dim: int = -1) -> Any:
    return x.flatten(start_dim, end_dim)


def _unflatten(x: Features, dim: int, sizes: Any) -> Any:
    return x.unflatten(dim, _shape(list(sizes)))


def _unsqueeze(x: Features, dim: int) -> Any:
    return x.insert(dim)


def _squeeze(walk: Walk, x: Any, dim: Any = None) -> Any:
    if isinstance(x, tuple):
        return x[0] if len(x) == 1 else lost(x, "comes through several states at once")
    if not isinstance(x, Features):
        return x
    if dim is None:
        last = max(at for at, factor in enumerate(x.axes) if factor is not None)
        return Features(x.runs, x.sizes, x.axes[: last + 1], x.flat)
    for axis in sorted({x.axis(a) for a in (dim if isinstance(dim, tuple | list) else [dim])}, reverse=True):
        if x.along(axis) is None or x.width == 1:
            x = x.drop(axis)
            if not isinstance(x, Features):
                return PLAIN
    return x


def _expand(x: Features, *shape: Any, **kwargs: Any) -> Any:
    sizes = _shape([*shape, *kwargs.values()])
    extra = len(sizes) - len(x.axes)
    grown = any(
        factor is not None and size not in (None, x.sizes[factor])
        for factor, size in zip(x.axes, sizes[extra:], strict=False)
    )
    if grown or extra < 0:
        return x.lost("is repeated along the axis of features")
    return Features(x.runs, x.sizes, (*[None] * extra, *x.axes), x.flat)


def _moved(x: Features, name: str, dims: Any) -> Any:
    """Shift or mirror along some axes, which must not be those of the features."""
    axes = list(dims) if isinstance(dims, tuple | list) else [dims]
    if any(_either(x, axis) for axis in axes):
        return x.lost(_EITHER)
    keeps = all(isinstance(axis, int) and x.along(axis) is None for axis in axes)
    return x if keeps else x.lost(f"comes through {name}() along the axis of features")


_EITHER = "is rearranged along axis 1, which may be that of features or of tokens; count it from the end"


def _either(x: Features, axis: Any) -> bool:
    """Whether an axis would be that of the features if the input, which does not tell, had one axis less."""
    return axis == 1 and x.axes == (None, None, 0)


def _roll(x: Features, shifts: Any, dims: Any = None) -> Any:
    return _moved(x, "roll", dims)


def _flip(x: Features, *dims: Any, **kwargs: Any) -> Any:
    given = [*dims, *kwargs.values()]
    return _moved(x, "flip", given[0] if isinstance(given[0], tuple | list) else given)


def _item(walk: Walk, x: Any, index: Any) -> Any:
    if isinstance(x, Weight):
        return x if index == slice(None) else PLAIN
    if not isinstance(x, Features):
        return x
    steps = list(index) if isinstance(index, tuple) else [index]
    taken = sum(step is not None and step is not Ellipsis for step in steps)
    if taken > len(x.axes):
        return x.lost("is indexed along more axes than it seems to have")
    dots = next((at for at, step in enumerate(steps) if step is Ellipsis), len(steps))
    axis = 0
    for step in [*steps[:dots], *[slice(None)] * (len(x.axes) - taken), *steps[dots + 1 :]]:
        found = _taken(x, axis, step)
        if not isinstance(found, Features):
            return PLAIN if found is None else found
        x, axis = found, axis + (not isinstance(step, int))
    return x


def _taken(x: Features, axis: int, step: Any) -> Features | Lost | None:
    """Apply one of the steps between the brackets to one axis."""
    if step is None:
        return x.insert(axis)
    if isinstance(step, int):
        return x.pick(axis, step)
    if not isinstance(step, slice) and _either(x, axis):
        return x.lost(_EITHER)
    if x.along(axis) is None or step == slice(None):
        return x
    size = x.sizes[x.along(axis) or 0]
    ends = (step.start, step.stop, step.step) if isinstance(step, slice) else (PLAIN,)
    if size is None or PLAIN in ends or not isinstance(step, slice) or step.step not in (None, 1):
        return x.lost("is indexed along the axis of features in a way that is not known")
    low, high, _ = step.indices(size)
    return x.cut(axis, low, high) if low < high else None


def _narrow(x: Features, dim: int, start: Any, length: Any) -> Any:
    known = isinstance(start, int) and isinstance(length, int)
    return _taken(x, x.axis(dim), slice(start, start + length) if known else PLAIN)


def _select(x: Features, dim: int, index: int) -> Any:
    found = x.pick(dim, index)
    return PLAIN if found is None else found


def _chunk(x: Features, chunks: int, dim: int = 0) -> Any:
    factor = x.along(dim)
    if factor is None:
        return (x,) * chunks
    size = x.sizes[factor]
    return _split(x, math.ceil(size / chunks), dim) if size else x.lost("is cut into pieces of unknown size")


def _split(x: Features, split_size: Any, dim: int = 0) -> Any:
    factor = x.along(dim)
    size = None if factor is None else x.sizes[factor]
    if isinstance(split_size, tuple | list) and (factor is None or None not in _shape([split_size])):
        lengths = list(split_size)
    elif isinstance(split_size, int) and size:
        lengths = [split_size] * (size // split_size) + [size % split_size] * bool(size % split_size)
    else:
        return x.lost("is cut into pieces of unknown size or number")
    if factor is None:
        return (x,) * len(lengths)
    ends = [sum(lengths[:at]) for at in range(len(lengths) + 1)]
    return tuple(x.cut(dim, low, high) for low, high in pairwise(ends))


def _unbind(x: Features, dim: int = 0) -> Any:
    factor = x.along(dim)
    if factor is None or x.sizes[factor] is None:
        return x.lost("is taken apart into pieces of unknown number")
    return tuple(_select(x, dim, place) for place in range(x.sizes[factor] or 0))


PLACES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "reshape"), _on_features(_view)),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t"), transpose),
    **dict.fromkeys(("split", "split_with_sizes"), _on_features(_split)),
    "chunk": _on_features(_chunk),
    "expand": _on_features(_expand),
    "flatten": _on_features(_flatten),
    "flip": _on_features(_flip),
    "getitem": _item,
    "narrow": _on_features(_narrow),
    "permute": _on_features(_permute),
    "roll": _on_features(_roll),
    "select": _on_features(_select),
    "size": lambda walk, x, dim=None: size(x, dim),
    "squeeze": _squeeze,
    "unbind": _on_features(_unbind),
    "unflatten": _on_features(_unflatten),
    "unsqueeze": _on_features(_unsqueeze),
}
