"""Products: of features with features, with parameters given to a function, and with kernels."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from specdyn.spectra.flow.features import Features, Lost, lost, together
from specdyn.spectra.flow.layers import convolve
from specdyn.spectra.flow.walk import PLAIN, Walk, Weight


def _contract(walk: Walk, operands: Sequence[Any], names: Sequence[Sequence[str]], outcome: Sequence[str]) -> Any:
    """Return the product of two tensors, summed over the axes that ``outcome`` does not name.

    ``names`` gives the axes of both operands names, as ``torch.einsum`` does.
    """
    (left, right), (first, second) = operands, names
    if isinstance(right, Weight):
        return _weighed(walk, left, right, first, second, outcome)
    if isinstance(left, Weight):
        return _weighed(walk, right, left, second, first, outcome)
    laid = [_layout(x, own) for x, own in zip(operands, names, strict=True)]
    kept = [bool(at) and set(at) <= set(outcome) for at in laid]
    if all(laid) and laid[0][-1] == laid[1][-1] and not any(kept):
        if laid[0] == laid[1] and left.sizes == right.sizes and set(laid[0][:-1]) <= set(outcome):
            walk.meet(left, right)
        return PLAIN
    if sum(kept) == 1:
        # Whatever else the other holds, it says how much of each token is taken, not of which feature.
        x, at = operands[kept.index(True)], laid[kept.index(True)]
        return Features(x.runs, x.sizes, tuple(at.index(name) if name in at else None for name in outcome), x.flat)
    if any(isinstance(x, Features | Lost) for x in operands):
        return lost(operands, "is multiplied with other features or with weights that are not measured")
    return PLAIN


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
        return lost([x], f"comes through {weight.name} in a way that is not known")
    axes = [0 if name == made[0] else None for name in outcome]
    return _multiplied(walk, x, weight, list(other).index(summed[0]), list(own).index(summed[0]), axes)


def _multiplied(walk: Walk, x: Any, weight: Weight, inputs: int, axis: int, axes: Sequence[int | None]) -> Any:
    """Read a tensor along ``axis`` with the axis ``inputs`` of a parameter."""
    name = weight.name
    if name in walk.reading.parts and _inputs(walk, weight) != inputs:
        return lost([x], f"comes through {name} from its outputs to its inputs")
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
        return lost([input, weight], "comes through linear() with weights that are not measured")
    return _multiplied(walk, input, weight, 1, -1, walk.axes(input))


def convolve_with(
    walk: Walk, dimensions: int, transposed: bool, input: Any, weight: Any, *args: Any, **kwargs: Any
) -> Any:
    """Return what a convolution makes of a tensor, with a kernel that is given to it."""
    groups = kwargs.get("groups", args[4] if len(args) > 4 else 1)
    parts = walk.reading.parts.get(weight.name) if isinstance(weight, Weight) else None
    if parts is None or not isinstance(groups, int) or parts[0].positions == 1 != math.prod(weight.shape[2:]):
        return lost([input, weight], "comes through a convolution with weights that are not measured")
    width = weight.shape[1] * groups if transposed else weight.shape[0]
    return convolve(walk, weight.name, input, dimensions, width, groups)


def _matmul(walk: Walk, left: Any, right: Any) -> Any:
    ranks = [_rank(x) for x in (left, right)]
    if isinstance(right, Weight) and len(right.shape) == 2:
        return _multiplied(walk, left, right, 0, -1, walk.axes(left))
    if min(ranks) == 1:
        return lost([left, right], "is multiplied with a vector")
    count = max(*ranks, 2)
    batch = [f"batch{axis}" for axis in range(count - 2)]
    names = [[*batch[count - rank :], *last] for rank, last in zip(ranks, (["i", "k"], ["k", "j"]), strict=True)]
    return _contract(walk, (left, right), names, [*batch, "i", "j"])


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
        return lost(tensors, "comes through an einsum that is not a product of two tensors")
    count = max([0, *(_rank(x) - len(term) + 3 for x, term in zip(tensors, terms, strict=True) if "..." in term)])
    names = [_spelled(term, _rank(x) - len(term) + 3) for x, term in zip(tensors, terms, strict=True)]
    return _contract(walk, tensors, names, _spelled(outcome, count))


def _spelled(term: str, hidden: int) -> list[str]:
    """Give the axes of an einsum term names, those behind the dots by their place from the right."""
    before, dots, after = term.partition("...")
    middle = [f"...{place}" for place in range(hidden, 0, -1)] if dots else []
    return [*before, *middle, *after]


def _addmm(walk: Walk, added: Any, left: Any, right: Any, **kwargs: Any) -> Any:
    product = _matmul(walk, left, right)
    found = [x for x in (added, product) if isinstance(x, Features | Lost)]
    return together(found) if found else PLAIN


PRODUCTS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("matmul", "bmm", "mm"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm"), _addmm),
    "einsum": _einsum,
    "linear": _linear,
    "scaled_dot_product_attention": _attend,
}
