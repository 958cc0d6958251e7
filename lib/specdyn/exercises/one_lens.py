"""Self-checks of the page "One lens". Each takes the reader's function and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from specdyn.exercises.verdict import Mistakes, Verdict, judge

Array = NDArray[Any]


def check_within(answer: Callable[[Array, Array, Array], Any]) -> Verdict:
    """Check a function of two quantities and families: their rank correlation within families, averaged over these.

    >>> check_within(_within)
    Right: every family by itself, and each counted once.
    """
    rng = np.random.default_rng(0)
    family = np.repeat([1, 2, 3], [4, 9, 5])
    height = (family == 2) * 10.0 + (family == 3) * 20.0
    x = rng.normal(size=18)
    mixed = np.exp(rng.normal(size=18)) * x
    cases = {
        "families that differ in level": [x + height, 0.3 * rng.normal(size=18) - x + height, family],
        "families of opposite sign": [x, np.where(family == 2, mixed, -x), family],
    }
    praise = "every family by itself, and each counted once."
    return judge(answer, _within, cases, _WITHIN_MISTAKES, praise)


def check_settled(answer: Callable[[Array, Array, float], Any]) -> Verdict:
    """Check a function of steps, a curve and a level: the first step from which on the curve stays that high.

    >>> check_settled(_settled)
    Right: from the first step after it was below for the last time.
    """
    steps = np.array([0, 1, 2, 4, 8, 16, 32])
    cases = {
        "a curve that falls back": [steps, np.array([0.0, 0.6, 0.3, 0.5, 0.7, 0.9, 1.0]), 0.5],
        "one that is there from the start": [steps, np.linspace(0.8, 1, 7), 0.5],
        "one that ends below": [steps, np.array([0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.4]), 0.5],
    }
    praise = "from the first step after it was below for the last time."
    return judge(answer, _settled, cases, _SETTLED_MISTAKES, praise)


def check_in_order(
    answer: Callable[[Array, Array, Array, float], Any], rank: Array, held_out: Array, training: Array, within: float
) -> Verdict:
    """Check a function of rank, two errors and a distance: of pairs fitted alike, the share where low rank errs less.

    It is tried on runs made up for the purpose, then on the reader's own, about which the verdict says what it finds.

    >>> check_in_order(_in_order, np.array([0.2, 0.5]), np.array([0.3, 0.1]), np.array([0.0, 0.01]), 0.02)
    Right: of your 1 pairs fitted alike the lower rank errs less in 0 %. Of all 1 pairs it is 0 %.
    """
    rng = np.random.default_rng(1)
    fitted = np.repeat([0.0, 0.3, 0.6], 4) + 0.01 * rng.random(12)
    made, tied = rng.random(12), np.round(rng.random(12), 1)
    cases = {
        "twelve runs, fitted in three ways": [made, 0.2 * made + fitted, fitted, 0.02],
        "ties": [tied, np.round(rng.random(12), 1), np.zeros(12), 0.0],
    }
    verdict = judge(answer, _in_order, cases, _IN_ORDER_MISTAKES, "")
    if not verdict.right:
        return verdict
    alike, everywhere = (len(_alike(training, distance)[0]) for distance in (within, np.inf))
    if not alike:
        return Verdict(
            True, "but none of your runs are fitted alike: train some that are, or allow a greater distance."
        )
    found, of_all = (float(answer(rank, held_out, training, distance)) for distance in (within, np.inf))
    said = f"of your {alike} pairs fitted alike the lower rank errs less in {100 * found:.0f} %. "
    return Verdict(True, said + f"Of all {everywhere} pairs it is {100 * of_all:.0f} %.")


# --- right answers -----------------------------------------------------------------------------------------


def _families(x: Array, y: Array, family: Array) -> list[tuple[Array, Array]]:
    return [(x[family == name], y[family == name]) for name in sorted(set(family))]


def _rank_correlation(x: Array, y: Array) -> float:
    return float(spearmanr(x, y).statistic)


def _within(x: Array, y: Array, family: Array) -> float:
    return float(np.mean([_rank_correlation(a, b) for a, b in _families(x, y, family)]))


def _settled(steps: Array, agreement: Array, level: float) -> float:
    below = np.flatnonzero(agreement < level)
    after = below[-1] + 1 if len(below) else 0
    return float(steps[after]) if after < len(steps) else np.nan


def _alike(training: Array, within: float) -> tuple[Array, Array]:
    """Return the pairs of runs that are fitted alike, as two arrays of places."""
    i, j = np.triu_indices(len(training), 1)
    near = np.abs(training[i] - training[j]) <= within
    return i[near], j[near]


def _signs(values: Array, pairs: tuple[Array, Array]) -> Array:
    signs: Array = np.sign(values[pairs[0]] - values[pairs[1]])
    return signs


def _in_order(rank: Array, held_out: Array, training: Array, within: float) -> float:
    pairs = _alike(training, within)
    return float(np.mean((1 + _signs(rank, pairs) * _signs(held_out, pairs)) / 2))


# --- mistakes, and what to say of them ---------------------------------------------------------------------


def _of_means(x: Array, y: Array, family: Array) -> float:
    means = [(a.mean(), b.mean()) for a, b in _families(x, y, family)]
    return _rank_correlation(*np.array(means).T)


def _by_size(x: Array, y: Array, family: Array) -> float:
    parts = _families(x, y, family)
    return float(np.average([_rank_correlation(a, b) for a, b in parts], weights=[len(a) for a, _ in parts]))


def _centred(x: Array, y: Array, family: Array) -> float:
    middle = [np.array([values[family == name].mean() for name in family]) for values in (x, y)]
    return _rank_correlation(x - middle[0], y - middle[1])


_WITHIN_MISTAKES: Mistakes = {
    "this takes all families as one, and so finds how families differ.": lambda x, y, family: _rank_correlation(x, y),
    "these are the means of families; asked is what happens within each.": _of_means,
    "this counts a family as often as it has runs; count each once.": _by_size,
    "this takes the means away and then correlates all families together; correlate each by itself.": _centred,
    "this is the correlation of the values; asked is that of their ranks.": lambda x, y, family: np.mean(
        [np.corrcoef(a, b)[0, 1] for a, b in _families(x, y, family)]
    ),
    "these are the families one by one; average them.": lambda x, y, family: [
        _rank_correlation(a, b) for a, b in _families(x, y, family)
    ],
}

_SETTLED_MISTAKES: Mistakes = {
    "this is the first time that it is there. It may fall back, and then it has not settled.": (
        lambda steps, a, level: float(steps[np.argmax(a >= level)])
    ),
    "this is the last step at which it is below; it is settled from the next one on.": lambda steps, a, level: (
        float(steps[np.flatnonzero(a < level)[-1]]) if (a < level).any() else float(steps[0])
    ),
    "a curve that is below at the end has not settled: return np.nan.": lambda steps, a, level: float(
        steps[min(np.flatnonzero(a < level).max(initial=-1) + 1, len(steps) - 1)]
    ),
    "a curve that is never below is settled from the first step on.": lambda steps, a, level: (
        _settled(steps, a, level) if (a < level).any() else np.nan
    ),
    "this is a place in the array; asked is the step there.": lambda steps, a, level: _settled(
        np.arange(len(steps)), a, level
    ),
}

_IN_ORDER_MISTAKES: Mistakes = {
    "this takes all pairs, however differently they are fitted.": lambda rank, held_out, training, within: _in_order(
        rank, held_out, training, np.inf
    ),
    "this is the share in which the lower rank errs more.": lambda *case: 1 - _in_order(*case),
    "this counts a tie as out of order; it is neither, so count half of it.": lambda rank, held_out, training, within: (
        np.mean(_signs(rank, _alike(training, within)) * _signs(held_out, _alike(training, within)) > 0)
    ),
    "this leaves ties out; count half of each.": lambda rank, held_out, training, within: np.mean(
        [
            sign > 0
            for sign in _signs(rank, _alike(training, within)) * _signs(held_out, _alike(training, within))
            if sign
        ]
    ),
    "a tie in both is no order either; count half of it.": lambda rank, held_out, training, within: np.mean(
        _signs(rank, _alike(training, within)) == _signs(held_out, _alike(training, within))
    ),
    "this pairs runs whose held-out errors are close; asked are those whose training errors are.": (
        lambda rank, held_out, training, within: _in_order(rank, training, held_out, within)
    ),
}
