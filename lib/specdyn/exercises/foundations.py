"""Self-checks of the chapter on singular values. Each takes the reader's function and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from specdyn.exercises.verdict import Mistakes, Verdict, judge
from specdyn.spectra import effective_rank, measure, singular_values

Array = NDArray[np.float64]


def check_effective_rank(answer: Callable[[Array], Any]) -> Verdict:
    """Check a function of a matrix W that returns its effective rank exp(H) / R.

    >>> check_effective_rank(lambda W: float(effective_rank(np.linalg.svd(W, compute_uv=False))))
    Right: exp(H) / R of the singular values, zeros included.
    """
    cases = {
        "a random 6 x 4 matrix": [_matrix(6, 4, 0)],
        "a random 3 x 8 matrix": [_matrix(3, 8, 1)],
        "a diagonal matrix with a zero": [np.diag([3.0, 1.0, 0.0, 2.0])],
    }
    praise = "exp(H) / R of the singular values, zeros included."
    return judge(answer, lambda W: _directions(W) / min(W.shape), cases, _RANK_MISTAKES, praise)


def check_components(answer: Callable[[Array, float], Any]) -> Verdict:
    """Check a function of (W, share): the fewest top components that hold that share of ||W||^2.

    >>> def components(W, share):
    ...     energy = np.linalg.svd(W, compute_uv=False) ** 2
    ...     return int((energy.cumsum() < share * energy.sum()).sum()) + 1
    >>> check_components(components)
    Right: squared singular values add up to the squared norm, and you counted them from the top.
    """
    cases = {
        "half the norm of diag(4, 3, 2, 1)": [np.diag([4.0, 3.0, 2.0, 1.0]), 0.5],
        "95 % of a random 12 x 9 matrix": [_matrix(12, 9, 2), 0.95],
        "80 % of a random 7 x 30 matrix": [_matrix(7, 30, 3), 0.8],
    }
    praise = "squared singular values add up to the squared norm, and you counted them from the top."
    return judge(answer, lambda W, share: _fewest(_shares(W, 2), share), cases, _COMPONENT_MISTAKES, praise)


def check_alignment(answer: Callable[[Array, Array], Any]) -> Verdict:
    """Check a function of two weights, ``first`` feeding ``second``: |<u_j, v'_j>| for every j.

    >>> def aligned(first, second):
    ...     U = np.linalg.svd(first, full_matrices=False)[0]
    ...     Vh = np.linalg.svd(second, full_matrices=False)[2]
    ...     k = min(U.shape[1], len(Vh))
    ...     return np.abs((U[:, :k] * Vh[:k].T).sum(axis=0))
    >>> check_alignment(aligned)
    Right: what the first layer writes against what the second one reads, one number a component.
    """
    cases = {
        "two random 5 x 5 layers": [_matrix(5, 5, 4), _matrix(5, 5, 5)],
        "a 6 x 4 layer that feeds a 5 x 6 layer": [_matrix(6, 4, 6), _matrix(5, 6, 7)],
    }
    praise = "what the first layer writes against what the second one reads, one number a component."
    return judge(answer, _aligned, cases, _ALIGNMENT_MISTAKES, praise)


def check_half_time(answer: Callable[[float, float], Any]) -> Verdict:
    """Check a function of (s, a0): the time at which a mode has half its final strength s.

    >>> check_half_time(lambda s, a0: np.log(s / a0 - 1) / (2 * s))
    Right: the larger a mode, the earlier it is learned, and a small start costs only a logarithm.
    """
    cases = {"s = 4, a0 = 0.001": [4.0, 1e-3], "s = 1, a0 = 0.1": [1.0, 0.1], "s = 2.5, a0 = 0.5": [2.5, 0.5]}
    praise = "the larger a mode, the earlier it is learned, and a small start costs only a logarithm."
    return judge(answer, lambda s, a0: np.log(s / a0 - 1) / (2 * s), cases, _HALF_TIME_MISTAKES, praise)


def check_most_ordered(answer: Callable[[nn.Module], Any], model: nn.Module) -> Verdict:
    """Check a function of a network: the name of the matrix furthest below a random one of its shape.

    It is tried on a network made for the purpose, in which a matrix that lost directions hides behind its
    shape, and then on the reader's own ``model``, whose numbers are in the verdict.

    >>> def most_ordered(model):
    ...     return min(measure(model).values(), key=lambda m: m.effective_rank / random_rank(m.shape)).name
    >>> check_most_ordered(most_ordered, nn.Sequential(nn.Linear(30, 30))).right
    True
    """
    cases = {"the network made for this check": [_disguised()]}
    verdict = judge(answer, _most_ordered, cases, _ORDER_MISTAKES, "")
    return _on_own_model(answer, model) if verdict.right else verdict


def random_rank(shape: tuple[int, int]) -> float:
    """Return the effective rank of one Gaussian matrix of this shape, the same one at every call.

    >>> random_rank((64, 256)) > random_rank((64, 64))
    True
    """
    draw = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return float(effective_rank(singular_values(draw)))


# --- right answers, from NumPy alone -----------------------------------------------------------------------


def _matrix(m: int, n: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(m, n))


def _shares(W: Array, power: int = 1) -> Array:
    s = np.linalg.svd(W, compute_uv=False) ** power
    return np.asarray(s / s.sum())


def _entropy(W: Array, power: int = 1) -> float:
    p = _shares(W, power)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def _directions(W: Array, power: int = 1) -> float:
    return float(np.exp(_entropy(W, power)))


def _fewest(p: Array, share: float) -> int:
    return int((p.cumsum() < share).sum()) + 1


def _factors(W: Array) -> tuple[Array, Array]:
    U, _, Vh = np.linalg.svd(W, full_matrices=False)
    return U, Vh


def _overlaps(first: Array, second: Array) -> Array:
    return np.asarray(_factors(first)[0].T @ _factors(second)[1].T)


def _aligned(first: Array, second: Array) -> Array:
    return np.abs(np.diagonal(_overlaps(first, second)))


def _by_order(model: nn.Module) -> dict[str, float]:
    return {name: m.effective_rank / random_rank(m.shape) for name, m in measure(model).items()}


def _most_ordered(model: nn.Module) -> str:
    ratio = _by_order(model)
    return min(ratio, key=ratio.__getitem__)


# --- mistakes, and what to say of them ---------------------------------------------------------------------


def _unnormalised(W: Array) -> float:
    s = np.linalg.svd(W, compute_uv=False)
    minus_entropy = float((s[s > 0] * np.log(s[s > 0])).sum())
    return float(np.exp(-minus_entropy) / min(W.shape))


def _nan_at_zero(W: Array) -> float:
    return float(_directions(W) / min(W.shape)) if _shares(W).all() else float("nan")


_RANK_MISTAKES: Mistakes = {
    "this is the entropy H. The effective rank is exp(H) / R.": _entropy,
    "this is exp(H), a number of directions. Divide it by R to get a share of the possible ones.": _directions,
    "this is H / R, as in the paper's Equation 1. The code, and this book, use exp(H) / R.": lambda W: (
        _entropy(W) / min(W.shape)
    ),
    "this is H / log R. It also lies in [0, 1], but the book uses exp(H) / R.": lambda W: (
        _entropy(W) / np.log(min(W.shape))
    ),
    "the singular values are squared. p is s / sum(s), not s**2 / sum(s**2).": lambda W: (
        _directions(W, 2) / min(W.shape)
    ),
    "you divide by the number of rows m. R = min(m, n) is the number of singular values.": lambda W: (
        _directions(W) / W.shape[0]
    ),
    "you divide by the number of columns n. R = min(m, n) is the number of singular values.": lambda W: (
        _directions(W) / W.shape[1]
    ),
    "the logarithm has base 2 but the exponential has base e. Use one base for both.": lambda W: (
        np.exp(_entropy(W) / np.log(2)) / min(W.shape)
    ),
    "the logarithm has base 10 but the exponential has base e. Use one base for both.": lambda W: (
        np.exp(_entropy(W) / np.log(10)) / min(W.shape)
    ),
    "the singular values are not normalised: p must sum to 1 before the entropy is taken.": _unnormalised,
    "a singular value of exactly zero gives NaN. Here 0 log 0 is 0: leave zeros out of the sum.": _nan_at_zero,
}

_COMPONENT_MISTAKES: Mistakes = {
    "you add up singular values. The squared norm is the sum of their squares.": lambda W, share: _fewest(
        _shares(W), share
    ),
    "this is one too few: an index that starts at 0 is not yet a count.": lambda W, share: (
        _fewest(_shares(W, 2), share) - 1
    ),
    "this is one too many: the component that reaches the share is already enough.": lambda W, share: (
        _fewest(_shares(W, 2), share) + 1
    ),
    "you count from the smallest singular value. The top components are the largest.": lambda W, share: _fewest(
        _shares(W, 2)[::-1], share
    ),
    "this is a share of the components, k / R. The exercise asks for k itself.": lambda W, share: (
        _fewest(_shares(W, 2), share) / min(W.shape)
    ),
}

_ALIGNMENT_MISTAKES: Mistakes = {
    "the signs are still there. A singular vector is defined up to its sign: take absolute values.": lambda a, b: (
        np.diagonal(_overlaps(a, b))
    ),
    "this compares every component with every other. Alignment is the diagonal of that table.": lambda a, b: np.abs(
        _overlaps(a, b)
    ),
    "you compare what the first layer reads with what the second writes. They meet at the other ends: "
    "u_j of the first, v_j of the second.": lambda first, second: _aligned(second, first),
    "NumPy returns V transposed: v_j is row j of Vh, not column j.": lambda first, second: np.abs(
        (_factors(first)[0] * _factors(second)[1]).sum(axis=0)
    ),
    "you compare the output vectors of both layers. The second layer reads with its v_j.": lambda first, second: np.abs(
        (_factors(first)[0] * _factors(second)[0]).sum(axis=0)
    ),
    "this is the square of the cosine. Alignment is its absolute value.": lambda a, b: _aligned(a, b) ** 2,
    "this is the mean over all components. Return one number for each.": lambda first, second: _aligned(
        first, second
    ).mean(),
}

_HALF_TIME_MISTAKES: Mistakes = {
    "a factor 2 is missing: both layers grow, so the product grows at the rate 2 s.": lambda s, a0: (
        np.log(s / a0 - 1) / s
    ),
    "this is close for a small start, but not exact: s/a0 - 1, not s/a0, stands in the closed form.": lambda s, a0: (
        np.log(s / a0) / (2 * s)
    ),
    "the logarithm has base 10. The closed form has exp, so it is undone by the natural one.": lambda s, a0: (
        np.log10(s / a0 - 1) / (2 * s)
    ),
    "the time has to fall with s: divide by 2 s.": lambda s, a0: np.log(s / a0 - 1) / 2,
    "this is minus the time: the sign of the exponent was lost.": lambda s, a0: -np.log(s / a0 - 1) / (2 * s),
}

_ORDER_MISTAKES: Mistakes = {
    "you compare effective ranks as they are. A square matrix starts lower than a long one, so compare "
    "each with a random matrix of its own shape.": lambda model: (
        min(measure(model).values(), key=lambda m: m.effective_rank).name
    ),
    "this is the matrix with the most directions in use; the exercise asks for the fewest.": lambda model: max(
        _by_order(model), key=_by_order(model).__getitem__
    ),
}


# --- the reader's own model --------------------------------------------------------------------------------


def _disguised() -> nn.Module:
    """A long matrix that lost directions, but still has more than a fresh square one; and one that lost none."""
    layers = [nn.Linear(n, m, bias=False) for n, m in ((32, 32), (32, 128), (128, 40))]
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in layers:
            layer.weight.normal_(generator=draw)
        layers[1].weight[:, :4] *= 0.01
        layers[2].weight.copy_(torch.linalg.qr(layers[2].weight.mT).Q.mT)
    return nn.Sequential(*layers)


def _on_own_model(answer: Callable[[nn.Module], Any], model: nn.Module) -> Verdict:
    try:
        snapshot, name = measure(model), answer(model)
    except Exception as error:  # the model is the reader's, and so is the function
        return Verdict(False, f"on your own model: {type(error).__name__}: {error}")
    if name not in snapshot:
        return Verdict(False, f"your model has no matrix {name!r}; it has {', '.join(snapshot)}.")
    ratio = _by_order(model)
    if ratio[name] > min(ratio.values()) + 0.02:  # closer ones depend on the random matrix drawn
        return Verdict(False, f"on your own model another matrix lies further below chance than {name}.")
    rank, chance = snapshot[name].effective_rank, random_rank(snapshot[name].shape)
    return Verdict(
        True, f"in your model this is {name}, with effective rank {rank:.3f}; a random matrix has {chance:.3f}."
    )
