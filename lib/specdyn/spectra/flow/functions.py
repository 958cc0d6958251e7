"""What functions and tensor methods do to the features in their arguments."""

import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from specdyn.spectra.flow.features import Features, Lost, join, together
from specdyn.spectra.flow.layers import convolve, halves
from specdyn.spectra.flow.walk import PLAIN, Walk, Weight

_KEEP_PLACES = """
abs acos addcdiv addcmul alpha_dropout asin atan batch_norm bfloat16 bool ceil celu clamp clamp_max clamp_min
clip clone contiguous cos cosh cpu cuda detach div divide double dropout dropout1d dropout2d dropout3d elu erf expand_as
exp expm1 feature_alpha_dropout float floor floordiv gelu group_norm half hardshrink hardsigmoid hardswish
hardtanh instance_norm layer_norm leaky_relu lerp local_response_norm log log10 log1p log2 log_softmax
logsigmoid masked_fill maximum minimum mish mul multiply nan_to_num neg negative normalize pack_padded_sequence
pad_packed_sequence pos pow prelu reciprocal relu relu6 requires_grad rms_norm round rrelu rsqrt selu sigmoid
sign silu sin sinh softmax softmin softplus softshrink softsign sqrt square tan tanh tanhshrink threshold to
true_divide truediv type type_as where
"""
_ONE_BY_ONE = frozenset(_KEEP_PLACES.split())
_SUMS = {"add", "sub", "subtract", "rsub"}
_REDUCING = {"all", "amax", "amin", "any", "argmax", "argmin", "logsumexp", "mean", "norm", "prod", "std", "sum", "var"}
_EXTREMES = {"max", "min", "median"}
_ARITHMETIC = (*(getattr(operator, name) for name in operator.__all__), math.prod, math.ceil, math.floor)
_KERNEL = re.compile(r"conv(_transpose)?([123])d")
_OVER_PIXELS = re.compile(r"(adaptive_)?(avg|max|lp)_pool([123])d|interpolate|upsample|pad")


def call(walk: Walk, name: str, target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return what a function makes of its arguments.

    What is not known to keep features in their place is taken to lose them.
    """
    carried = [x for x in _leaves((args, kwargs)) if isinstance(x, Features | Lost | Weight)]
    if name == "getattr":
        return _attribute(args[0], args[1])
    if name == "getitem" and isinstance(args[0], tuple | list):
        return args[0][args[1]] if _has(args[0], args[1]) else PLAIN
    if not carried:
        return _computed(target, args) if target in _ARITHMETIC else PLAIN
    if name in _RULES:
        try:
            return _RULES[name](walk, *args, **kwargs)
        except (AttributeError, IndexError, TypeError, ValueError):
            return _lost(carried, f"comes through {name}() with arguments that are not known here")
    x = args[0] if args else carried[0]
    if isinstance(x, tuple):
        return _lost(x, f"comes through {name}() of several states at once")
    if isinstance(x, Weight) and len(carried) == 1:
        return x if name in _ONE_BY_ONE else PLAIN
    if name in _ONE_BY_ONE or name in _SUMS:
        return elementwise(walk, carried)
    if name in _REDUCING or name in _EXTREMES:
        return _reduce(walk, name, *args, **kwargs)
    if kernel := _KERNEL.fullmatch(name):
        return _convolve(walk, int(kernel[2]), bool(kernel[1]), *args, **kwargs)
    if pixels := _OVER_PIXELS.fullmatch(name):
        return _over_pixels(name, x, len(args[1]) // 2 if name == "pad" else int(pixels[3] or 1))
    return _lost(carried, f"comes through {name}(), which may move features")


def elementwise(walk: Walk, operands: Sequence[Any]) -> Any:
    """Return a sum or product of tensors; parameters take part only if features do."""
    carried = [_as_features(walk, x) if isinstance(x, Weight) else x for x in operands]
    found = [x for x in carried if isinstance(x, Features | Lost)]
    if not any(isinstance(x, Features | Lost) for x in operands):
        return next(x for x in operands if isinstance(x, Weight))
    return together(found)


def _as_features(walk: Walk, weight: Weight) -> Any:
    """Read an embedding's table, added as it is, as the outputs that it holds."""
    parts = walk.reading.parts.get(weight.name)
    if parts and tuple(parts[0].view.shape) == weight.shape[::-1] and parts[0].kind.startswith("Embedding"):
        return walk.emit(weight.shape[1], (None, 0), weight.name)
    return None


def contract(walk: Walk, operands: Sequence[Any], names: Sequence[Sequence[str]], outcome: Sequence[str]) -> Any:
    """Return the product of two tensors, summed over the axes that ``outcome`` does not name.

    ``names`` gives the axes of both operands names, as ``torch.einsum`` does.
    """
    for x, weight, own, other in (*_both_ways(operands, names),):
        if isinstance(weight, Weight):
            return _weighed(walk, x, weight, own, other, outcome)
    laid = [_layout(x, own) for x, own in zip(operands, names, strict=True)]
    kept = [bool(at) and set(at) <= set(outcome) for at in laid]
    if all(laid) and laid[0][-1] == laid[1][-1] and not any(kept):
        left, right = operands
        if laid[0] == laid[1] and left.sizes == right.sizes and set(laid[0][:-1]) <= set(outcome):
            walk.meet(left, right)
        return PLAIN
    if sum(kept) == 1 and not all(laid):
        x, at = operands[kept.index(True)], laid[kept.index(True)]
        return Features(x.runs, x.sizes, tuple(at.index(name) if name in at else None for name in outcome), x.flat)
    if any(isinstance(x, Features | Lost) for x in operands):
        return _lost(operands, "is multiplied with other features or with weights that are not measured")
    return PLAIN


def _both_ways(operands: Sequence[Any], names: Sequence[Sequence[str]]) -> Sequence[tuple[Any, Any, Any, Any]]:
    (left, right), (first, second) = operands, names
    return ((left, right, first, second), (right, left, second, first))


def _layout(x: Any, names: Sequence[str]) -> list[str]:
    """Return the names of the axes along which features lie, in their order; none if they cannot be told."""
    if not isinstance(x, Features) or len(names) != len(x.axes):
        return []
    at = {factor: name for factor, name in zip(x.axes, names, strict=True) if factor is not None}
    return [at[factor] for factor in range(len(x.sizes))]


def _weighed(walk: Walk, x: Any, weight: Weight, own: Any, other: Any, outcome: Sequence[str]) -> Any:
    """Return the product of a tensor with a parameter of two axes."""
    summed = [name for name in other if name in own and name not in outcome]
    made = [name for name in other if name not in own and name in outcome]
    if len(other) != 2 or len(summed) != 1 or len(made) != 1 or len(weight.shape) != 2:
        return _lost([x], f"comes through {weight.name} in a way that is not known")
    axes = [0 if name == made[0] else None for name in outcome]
    return _multiplied(walk, x, weight, list(other).index(summed[0]), list(own).index(summed[0]), axes)


def _multiplied(walk: Walk, x: Any, weight: Weight, inputs: int, axis: int, axes: Sequence[int | None]) -> Any:
    """Read a tensor along ``axis`` with the axis ``inputs`` of a parameter."""
    name = weight.name
    if name in walk.reading.parts and _inputs(walk, weight) != inputs:
        return _lost([x], f"comes through {name} from its outputs to its inputs")
    walk.read(name, x, axis)
    return walk.emit(weight.shape[1 - inputs], axes, name)


def _inputs(walk: Walk, weight: Weight) -> int:
    """Return the axis of a parameter, as it is given to the function, that its layer reads inputs with."""
    whole = walk.reading.parts[weight.name][0].view
    stored = dict(walk.reading.model.named_parameters(remove_duplicate=False)).get(weight.name)
    upright = stored is None or whole.stride() == stored.stride()
    return int(upright != weight.turned)


def _linear(walk: Walk, input: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(weight, Weight) or len(weight.shape) != 2:
        return _lost([input, weight], "comes through linear() with weights that are not measured")
    return _multiplied(walk, input, weight, 1, -1, walk.axes(input))


def _convolve(walk: Walk, dimensions: int, transposed: bool, input: Any, weight: Any, *args: Any, **kwargs: Any) -> Any:
    groups = kwargs.get("groups", args[4] if len(args) > 4 else 1)
    parts = walk.reading.parts.get(weight.name) if isinstance(weight, Weight) else None
    if parts is None or not isinstance(groups, int) or parts[0].positions == 1 != math.prod(weight.shape[2:]):
        return _lost([input, weight], "comes through a convolution with weights that are not measured")
    width = weight.shape[1] * groups if transposed else weight.shape[0]
    return convolve(walk, weight.name, input, dimensions, width, groups)


def _matmul(walk: Walk, left: Any, right: Any) -> Any:
    ranks = [_rank(x) for x in (left, right)]
    if isinstance(right, Weight) and len(right.shape) == 2:
        return _multiplied(walk, left, right, 0, -1, walk.axes(left))
    if min(ranks) == 1:
        return _lost([left, right], "is multiplied with a vector")
    count = max(*ranks, 2)
    batch = [f"batch{axis}" for axis in range(count - 2)]
    names = [[*batch[count - rank :], *last] for rank, last in zip(ranks, (["i", "k"], ["k", "j"]), strict=True)]
    return contract(walk, (left, right), names, [*batch, "i", "j"])


def _rank(x: Any) -> int:
    if isinstance(x, Features):
        return len(x.axes)
    return len(x.shape) if isinstance(x, Weight) else 0


def _attend(walk: Walk, query: Any, key: Any, value: Any, *rest: Any, **kwargs: Any) -> Any:
    turned = key.transpose(-2, -1) if isinstance(key, Features) else key
    scores = _matmul(walk, query, turned)
    return _matmul(walk, PLAIN if isinstance(scores, Lost) else scores, value)


def _einsum(walk: Walk, equation: Any, *operands: Any) -> Any:
    tensors = operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    inputs, _, outcome = equation.replace(" ", "").partition("->") if isinstance(equation, str) else ("", "", "")
    terms = inputs.split(",")
    if not outcome or len(terms) != 2 or len(tensors) != 2:
        return _lost(tensors, "comes through an einsum that is not a product of two tensors")
    count = max([0, *(_rank(x) - len(term) + 3 for x, term in zip(tensors, terms, strict=True) if "..." in term)])
    names = [_spelled(term, _rank(x) - len(term) + 3) for x, term in zip(tensors, terms, strict=True)]
    return contract(walk, tensors, names, _spelled(outcome, count))


def _spelled(term: str, hidden: int) -> list[str]:
    """Give the axes of an einsum term names, those behind the dots by their place from the right."""
    before, dots, after = term.partition("...")
    middle = [f"...{place}" for place in range(hidden, 0, -1)] if dots else []
    return [*before, *middle, *after]


def _addmm(walk: Walk, added: Any, left: Any, right: Any, **kwargs: Any) -> Any:
    product = _matmul(walk, left, right)
    found = [x for x in (added, product) if isinstance(x, Features | Lost)]
    return together(found) if found else PLAIN


def _attribute(x: Any, name: Any) -> Any:
    if name == "shape":
        return _size(x)
    if name in ("T", "mT", "H", "mH"):
        return _transpose(None, x, -2, -1)
    return PLAIN if name in ("device", "dtype", "ndim", "is_cuda", "requires_grad") else x


def _size(x: Any, axis: Any = None) -> Any:
    if isinstance(x, Weight):
        sizes: tuple[Any, ...] = x.shape[::-1] if x.turned else x.shape
    elif isinstance(x, Features):
        known = [PLAIN if factor is None or x.flat else x.sizes[factor] for factor in x.axes]
        sizes = tuple(PLAIN if size is None else size for size in known)
    else:
        return PLAIN
    if axis is None:
        return sizes
    return sizes[axis] if _has(sizes, axis) else PLAIN


def _has(values: Sequence[Any], index: Any) -> bool:
    """Whether a place or a range among values is known and exists."""
    if isinstance(index, slice):
        return PLAIN not in (index.start, index.stop, index.step)
    return isinstance(index, int) and -len(values) <= index < len(values)


def _computed(target: Any, args: Sequence[Any]) -> Any:
    """Compute with sizes, as far as they are known."""
    if any(x is PLAIN for x in args):
        return PLAIN
    try:
        return target(*args)
    except (TypeError, ValueError, ArithmeticError):
        return PLAIN


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


def _transpose(walk: Any, x: Any, dim0: Any = -2, dim1: Any = -1) -> Any:
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
        return x[0] if len(x) == 1 else _lost(x, "comes through several states at once")
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
    keeps = all(isinstance(axis, int) and x.along(axis) is None for axis in axes)
    return x if keeps else x.lost(f"comes through {name}() along the axis of features")


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
    return tuple(x.cut(dim, low, high) for low, high in itertools.pairwise(ends))


def _unbind(x: Features, dim: int = 0) -> Any:
    factor = x.along(dim)
    if factor is None or x.sizes[factor] is None:
        return x.lost("is taken apart into pieces of unknown number")
    return tuple(_select(x, dim, place) for place in range(x.sizes[factor] or 0))


def _cat(walk: Walk, tensors: Any, dim: int = 0, axis: int | None = None) -> Any:
    values = [x if isinstance(x, Features | Lost) else None for x in tensors]
    return join(values, dim if axis is None else axis)


def _stack(walk: Walk, tensors: Any, dim: int = 0) -> Any:
    found = together([x for x in tensors if isinstance(x, Features | Lost)])
    return found.insert(dim) if isinstance(found, Features) else found


def _reduce(walk: Walk, name: str, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Sum or the like over axes; over the axis of features nothing is left of them."""
    if name in _EXTREMES and args and not isinstance(args[0], int):
        return elementwise(walk, [y for y in (x, *args) if isinstance(y, Features | Lost | Weight)])
    given = args[1:] if name == "norm" else args
    dims = kwargs.get("dim", kwargs.get("axis", given[0] if given else None))
    keep = kwargs.get("keepdim", given[-1] if len(given) > 1 and isinstance(given[-1], bool) else False)
    left = _without(x, dims, keep) if isinstance(x, Features) else x
    return (left, PLAIN) if name in _EXTREMES and dims is not None else left


def _without(x: Features, dims: Any, keep: bool) -> Any:
    axes = dims if isinstance(dims, tuple | list) else [dims]
    known = all(isinstance(axis, int) for axis in axes)
    if dims is None or not axes or (known and any(x.along(axis) is not None for axis in axes)):
        return PLAIN
    if not known or x.flat:
        return x.lost("is summed over axes that are not known")
    if keep:
        return x
    gone = {x.axis(axis) for axis in axes}
    return Features(x.runs, x.sizes, tuple(factor for at, factor in enumerate(x.axes) if at not in gone))


def _over_pixels(name: str, x: Any, dimensions: int) -> Any:
    if isinstance(x, Features) and any(x.along(-axis) is not None for axis in range(1, dimensions + 1)):
        return x.lost(f"comes through {name}() along the axis of features")
    return x


def _glu(walk: Walk, x: Any, dim: int = -1) -> Any:
    return halves(x, dim)


def _embedding(walk: Walk, input: Any, weight: Any, *args: Any, **kwargs: Any) -> Any:
    known = isinstance(weight, Weight) and _as_features(walk, weight)
    return walk.emit(weight.shape[1], walk.axes(PLAIN), weight.name) if known else PLAIN


def _lost(values: Sequence[Any], reason: str) -> Any:
    return Lost(frozenset[str]().union(*_reasons(values), {reason}))


def _reasons(values: Iterable[Any]) -> Iterator[frozenset[str]]:
    return (x.reasons for x in values if isinstance(x, Features | Lost))


def _leaves(values: Any) -> Iterator[Any]:
    """Go through everything in nested arguments."""
    if isinstance(values, dict):
        values = tuple(values.values())
    if isinstance(values, tuple | list):
        for value in values:
            yield from _leaves(value)
    else:
        yield values


_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    **dict.fromkeys(("view", "reshape"), _on_features(_view)),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t"), _transpose),
    **dict.fromkeys(("matmul", "bmm", "mm"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm"), _addmm),
    **dict.fromkeys(("split", "split_with_sizes"), _on_features(_split)),
    "chunk": _on_features(_chunk),
    "einsum": _einsum,
    "embedding": _embedding,
    "expand": _on_features(_expand),
    "flatten": _on_features(_flatten),
    "flip": _on_features(_flip),
    "getitem": _item,
    "glu": _glu,
    "linear": _linear,
    "narrow": _on_features(_narrow),
    "permute": _on_features(_permute),
    "roll": _on_features(_roll),
    "scaled_dot_product_attention": _attend,
    "select": _on_features(_select),
    "size": lambda walk, x, dim=None: _size(x, dim),
    "squeeze": _squeeze,
    "stack": _stack,
    "unbind": _on_features(_unbind),
    "unflatten": _on_features(_unflatten),
    "unsqueeze": _on_features(_unsqueeze),
}
