"""Self-checks of the chapter on lottery tickets. Each takes the reader's function and says what is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from math import comb, log, log2
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from specdyn.exercises.verdict import Mistakes, Verdict, judge, listed, named
from specdyn.interventions import magnitude_mask
from specdyn.spectra import matrices

Array = NDArray[Any]


def check_largest(answer: Callable[[Array, float], Any]) -> Verdict:
    """Check a function of a matrix and a fraction: which weights stay, as booleans in the shape of the matrix.

    >>> check_largest(_largest)
    Right: the largest in size, whatever their sign, and exactly as many as asked for.
    """
    W = _array(5, 11)
    cases = {"a quarter of 55 weights": [W, 0.25], "one weight": [W.T * 1e-3, 0.02], "all of them": [W, 1.0]}
    praise = "the largest in size, whatever their sign, and exactly as many as asked for."
    return judge(answer, _largest, cases, _LARGEST_MISTAKES, praise)


def check_bits(answer: Callable[[int, int], Any]) -> Verdict:
    """Check a function of two numbers, of weights and of those that stay: how many bits the masked matrix takes.

    >>> check_bits(_bits)
    Right: 32 for each weight, and the shortest way to say which of them they are.
    """
    cases = {"50 of 1000": [1000, 50], "half of 64": [64, 32], "all": [20, 20]}
    praise = "32 for each weight, and the shortest way to say which of them they are."
    return judge(answer, _bits, cases, _BITS_MISTAKES, praise)


def check_signs(answer: Callable[[Array, Array], Any]) -> Verdict:
    """Check a function of a matrix and a mask: the signs of the weights that stay, all of one size.

    >>> check_signs(_signs)
    Right: one size for all, that of the kept weights on average, and nothing where the mask keeps nothing.
    """
    W, other = _array(4, 6), _array(3, 3) - 0.5
    cases = {"half of the weights": [W, np.abs(W) > np.median(np.abs(W))], "a triangle": [other, np.tri(3) > 0]}
    praise = "one size for all, that of the kept weights on average, and nothing where the mask keeps nothing."
    return judge(answer, _signs, cases, _SIGNS_MISTAKES, praise)


def check_starved(answer: Callable[[nn.Module, float], Iterable[str]], model: nn.Module, kept: float) -> Verdict:
    """Check a function of a model and a fraction: the matrices that one threshold for all leaves next to nothing.

    Next to nothing is less than a tenth of the fraction. The last matrix stays whole and is not counted. It is tried
    on a network made for the purpose, then on the reader's own, whose names are in the verdict.

    >>> check_starved(_starved, made_network(), 0.1).right
    True
    """
    made = made_network()
    before = copy.deepcopy(made.state_dict())
    cases = {"the network made for this check": [made, 0.1], "the same with half kept": [made, 0.5]}
    verdict = judge(listed(answer), listed(_starved), cases, _STARVED_MISTAKES, "")
    if not all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items()):
        return Verdict(False, "your function changes the weights of the network it is given; look at them only.")
    return _on_own_network(answer, model, kept) if verdict.right else verdict


def made_network() -> nn.Module:
    """Return a network whose layers have weights of very different sizes.

    >>> [matrix.shape for matrix in matrices(made_network())]
    [(4, 9), (8, 36), (64, 72), (10, 64), (6, 10), (3, 6)]
    """
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 64), nn.ReLU(),
        nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for matrix, size in zip(matrices(network), (1.0, 0.5, 0.2, 0.12, 0.001, 0.001), strict=True):
        matrix.write(torch.from_numpy(size * rng.normal(size=matrix.shape)))
    return network


# --- right answers -----------------------------------------------------------------------------------------


def _array(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _top(scores: Array, count: int) -> Array:
    mask = np.zeros(scores.size, dtype=bool)
    mask[np.argsort(-scores, axis=None, kind="stable")[:count]] = True
    return mask.reshape(scores.shape)


def _largest(W: Array, kept: float) -> Array:
    return _top(np.abs(W), round(kept * W.size))


def _bits(total: int, count: int) -> float:
    return 32 * count + log2(comb(total, count))


def _signs(W: Array, mask: Array) -> Array:
    return np.where(mask, np.sign(W) * np.abs(W[mask]).mean(), 0.0)


def _shares(model: nn.Module, kept: float, *, spare: tuple[str, ...] | None = None) -> dict[str, float]:
    """Return the share of each matrix that one threshold for all of them keeps; by default the last is spared."""
    return magnitude_mask(model, kept, spare=spare, allow_empty=True).kept


def _starved(model: nn.Module, kept: float) -> list[str]:
    return [name for name, share in _shares(model, kept).items() if share < 0.1 * kept]


# --- mistakes, and what to say of them ---------------------------------------------------------------------

_LARGEST_MISTAKES: Mistakes = {
    "this keeps the largest numbers. A weight of -3 is larger in size than one of 2.": lambda W, kept: _top(
        W, round(kept * W.size)
    ),
    "these are the smallest.": lambda W, kept: _top(-np.abs(W), round(kept * W.size)),
    "this keeps what should go, and the other way round.": lambda W, kept: ~_largest(W, kept),
    "one weight is missing where the fraction is not a whole number of them: round, do not cut off.": (
        lambda W, kept: _top(np.abs(W), int(kept * W.size))
    ),
    "this keeps the same number in every row. There is one threshold for the whole matrix.": lambda W, kept: np.stack(
        [_top(np.abs(row), round(kept * row.size)) for row in W]
    ),
    "these are the weights that stay; asked is which, as booleans.": lambda W, kept: W * _largest(W, kept),
    "these are the places in a row, in order; asked is a boolean for every weight.": lambda W, kept: np.argsort(
        -np.abs(W), axis=None
    )[: round(kept * W.size)],
    "this takes the weights above a fraction of the largest one; asked is a fraction of how many there are.": (
        lambda W, kept: np.abs(W) > kept * np.abs(W).max()
    ),
}

_BITS_MISTAKES: Mistakes = {
    "these are the weights alone. Somebody has to say which of the places they stand in.": lambda N, k: 32 * k,
    "a bit for every place says it too, but not in the shortest way: there are only comb(total, count) masks, and one "
    "of so many takes the logarithm of their number.": lambda N, k: 32 * k + N,
    "this lists the places one by one, as if their order mattered.": lambda N, k: 32 * k + k * log2(N),
    "bits are logarithms to base 2.": lambda N, k: 32 * k + log(comb(N, k)),
    "these are the places alone; each weight that stays takes 32 bits.": lambda N, k: log2(comb(N, k)),
    "this is in bytes.": lambda N, k: _bits(N, k) / 8,
    "this counts 32 bits for all weights; those that are 0 need none.": lambda N, k: 32 * N + log2(comb(N, k)),
}

_SIGNS_MISTAKES: Mistakes = {
    "this has the size of all weights on average; take the kept ones alone.": lambda W, mask: np.where(
        mask, np.sign(W) * np.abs(W).mean(), 0.0
    ),
    "the average of positive and negative numbers is near zero: average their sizes.": lambda W, mask: np.where(
        mask, np.sign(W) * W[mask].mean(), 0.0
    ),
    "where the mask keeps nothing there is still something.": lambda W, mask: np.sign(W) * np.abs(W[mask]).mean(),
    "these are signs of size 1. A layer of another scale would learn at another pace.": lambda W, mask: np.where(
        mask, np.sign(W), 0.0
    ),
    "the signs are gone.": lambda W, mask: np.where(mask, np.abs(W[mask]).mean(), 0.0),
    "the sizes are still there.": lambda W, mask: np.where(mask, W, 0.0),
    "this divides by all places, and not by how many weights are kept.": lambda W, mask: np.where(
        mask, np.sign(W) * np.abs(W * mask).mean(), 0.0
    ),
}

_STARVED_MISTAKES: Mistakes = {
    "the last matrix stays whole, so its weights are not counted and it cannot starve.": lambda model, kept: named(
        name for name, share in _shares(model, kept, spare=()).items() if share < 0.1 * kept
    ),
    "these are all that keep less than the fraction; asked are those that keep less than a tenth of it.": (
        lambda model, kept: named(name for name, share in _shares(model, kept).items() if share < kept)
    ),
    "these are those of which nothing at all stays; a handful of weights is next to nothing too.": (
        lambda model, kept: named(name for name, share in _shares(model, kept).items() if not share)
    ),
    "these are those that keep less than a tenth of their weights; a tenth of the fraction is less.": (
        lambda model, kept: named(name for name, share in _shares(model, kept).items() if share < 0.1)
    ),
    "these are the matrices that keep more.": lambda model, kept: named(
        name for name, share in _shares(model, kept).items() if share >= 0.1 * kept
    ),
    "with a threshold for every layer none starves; draw one through all of them together.": lambda model, kept: "",
}


# --- the reader's own network ------------------------------------------------------------------------------


def _on_own_network(answer: Callable[[nn.Module, float], Iterable[str]], model: nn.Module, kept: float) -> Verdict:
    try:
        given, wanted, shares = set(answer(model, kept)), set(_starved(model, kept)), _shares(model, kept)
    except Exception as error:  # the network is the reader's, and so is the function
        return Verdict(False, f"on your own network: {type(error).__name__}: {error}")
    if unknown := given - set(shares):
        return Verdict(False, f"your network has no matrix {min(unknown)!r} to mask; it has {', '.join(shares)}.")
    if wrong := sorted(given ^ wanted):
        said = "does not belong" if wrong[0] in given else "is missing"
        return Verdict(False, f"on your own network {wrong[0]} {said}: it keeps {100 * shares[wrong[0]]:.2g} %.")
    told = f"{len(wanted)} of {len(shares)} matrices: {named(wanted) or 'none'}"
    return Verdict(True, f"in your network, at {100 * kept:g} % kept, next to nothing is left of {told}.")
