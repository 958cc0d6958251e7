"""What functions and tensor methods do to the features in their arguments."""

import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from specdyn.spectra.flow.features import Features, Lost, join, lost, together
from specdyn.spectra.flow.layers import halves
from specdyn.spectra.flow.places import PLACES, has, size, transpose
from specdyn.spectra.flow.products import PRODUCTS, convolve_with
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
_OF_SEVERAL = {"cat", "concat", "concatenate", "stack", "squeeze"}
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
        return _attribute(walk, args[0], args[1])
    if name == "getitem" and isinstance(args[0], tuple | list):
        return args[0][args[1]] if has(args[0], args[1]) else PLAIN
    if not carried:
        return _computed(target, args) if target in _ARITHMETIC else PLAIN
    x = args[0] if args else carried[0]
    if isinstance(x, tuple) and name not in _OF_SEVERAL:
        return lost(x, f"comes through {name}() of several states at once")
    if name in _RULES:
        try:
            return _RULES[name](walk, *args, **kwargs)
        except (AttributeError, IndexError, TypeError, ValueError):
            return lost(carried, f"comes through {name}() with arguments that are not known here")
    if isinstance(x, Weight) and len(carried) == 1:
        return x if name in _ONE_BY_ONE else PLAIN
    if name in _ONE_BY_ONE or name in _SUMS:
        return _elementwise(walk, carried)
    if name in _REDUCING or name in _EXTREMES:
        return _reduce(walk, name, *args, **kwargs)
    if kernel := _KERNEL.fullmatch(name):
        return convolve_with(walk, int(kernel[2]), bool(kernel[1]), *args, **kwargs)
    if pixels := _OVER_PIXELS.fullmatch(name):
        return _over_pixels(name, x, len(args[1]) // 2 if name == "pad" else int(pixels[3] or 1))
    return lost(carried, f"comes through {name}(), which may move features")


def _elementwise(walk: Walk, operands: Sequence[Any]) -> Any:
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


def _attribute(walk: Walk, x: Any, name: Any) -> Any:
    if name == "shape":
        return size(x)
    if name in ("T", "mT", "H", "mH"):
        return transpose(walk, x)
    return PLAIN if name in ("device", "dtype", "ndim", "is_cuda", "requires_grad") else x


def _computed(target: Any, args: Sequence[Any]) -> Any:
    """Compute with sizes, as far as they are known."""
    if any(x is PLAIN for x in args):
        return PLAIN
    try:
        return target(*args)
    except (TypeError, ValueError, ArithmeticError):
        return PLAIN


def _cat(walk: Walk, tensors: Any, dim: int = 0, axis: int | None = None) -> Any:
    values = [x if isinstance(x, Features | Lost) else None for x in tensors]
    return join(values, dim if axis is None else axis)


def _stack(walk: Walk, tensors: Any, dim: int = 0) -> Any:
    found = together([x for x in tensors if isinstance(x, Features | Lost)])
    return found.insert(dim) if isinstance(found, Features) else found


def _reduce(walk: Walk, name: str, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Sum or the like over axes; over the axis of features nothing is left of them."""
    if name in _EXTREMES and args and not isinstance(args[0], int):
        return _elementwise(walk, [y for y in (x, *args) if isinstance(y, Features | Lost | Weight)])
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
    **PLACES,
    **PRODUCTS,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "embedding": _embedding,
    "glu": _glu,
    "stack": _stack,
}
