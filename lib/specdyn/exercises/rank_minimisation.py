"""Self-checks of the chapter on rank minimisation. Each takes the reader's function and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specdyn.exercises.recorded import recorded
from specdyn.exercises.verdict import Mistakes, Verdict, judge
from specdyn.training import Recording

Array = NDArray[Any]

LARGE = 16
"""Matrices with fewer singular values than this are not counted."""


def check_head_start(answer: Callable[[Array], Any]) -> Verdict:
    """Check a function of singular values (steps, R): the growth of the largest over the growth of the median.

    >>> check_head_start(_head_start)
    Right: one factor over another, both from the first step to the last.
    """
    cases = {
        "five singular values": [
            np.array([[2.0, 1.5, 1.0, 0.8, 0.5], [3.0, 1.6, 1.1, 0.7, 0.6], [8.0, 2.0, 1.5, 1, 1]])
        ],
        "four of them": [np.array([[1.0, 0.9, 0.6, 0.5], [0.9, 0.7, 0.2, 0.1]])],
    }
    praise = "one factor over another, both from the first step to the last."
    return judge(answer, _head_start, cases, _HEAD_START_MISTAKES, praise)


def check_bottom_half(answer: Callable[[Array], Any]) -> Verdict:
    """Check a function of a matrix: what is left of it without its larger half of components.

    >>> check_bottom_half(lambda W: _components(W, slice(ceil(min(W.shape) / 2), None)))
    Right: top and bottom half add up to the whole, and where the number is odd the top has one more.
    """
    cases = {
        "a 6 x 4 matrix": [_array(6, 4)],
        "a 5 x 7 matrix": [_array(5, 7)],
        "one with a large first column": [_array(6, 6) * [9, 1, 1, 1, 1, 1]],
    }
    praise = "top and bottom half add up to the whole, and where the number is odd the top has one more."
    return judge(answer, _bottom_half, cases, _BOTTOM_HALF_MISTAKES, praise)


def check_distances(answer: Callable[[Array, float], Any]) -> Verdict:
    """Check a function of the learning rate of each step and a last distance: how far a random walk is after each.

    The walk's steps are as long as the learning rate, times one number that takes it to the last distance.

    >>> check_distances(_distances)
    Right: the squares of the lengths add up, and the walk begins where the network did.
    """
    cases = {
        "a rate that drops": [np.array([0.3, 0.3, 0.3, 0.03, 0.03]), 2.0],
        "a rate that warms up": [np.array([0.1, 0.2, 0.4, 0.4]), 5.0],
    }
    praise = "the squares of the lengths add up, and the walk begins where the network did."
    return judge(answer, _distances, cases, _DISTANCES_MISTAKES, praise)


def check_explained(answer: Callable[[Array, Array], Any]) -> Verdict:
    """Check a function of numbers and the groups they are in: the share of the variance that lies between groups.

    >>> check_explained(_explained)
    Right: 1 where every group is of one value, and next to nothing where the grouping means nothing.
    """
    cases = {
        "groups of different sizes": [
            np.array([0.5, 0.6, 0.7, 0.1, 0.2, 0.4]),
            np.array([0, 0, 0, 0, 1, 1]),
        ],
        "three groups": [np.array([3.0, 1.0, 2.0, 2.5, 0.0]), np.array([7, 4, 4, 7, 5])],
    }
    praise = "1 where every group is of one value, and next to nothing where the grouping means nothing."
    return judge(answer, _explained, cases, _EXPLAINED_MISTAKES, praise)


def check_share_fell(answer: Callable[[Recording, Recording], Any], trained: Recording, walk: Recording) -> Verdict:
    """Check a function of two recordings: in what share of the large matrices rank fell further than in the walk.

    Large ones have at least 16 singular values. It is tried on two recordings made for the purpose, then on
    the reader's own, whose numbers are in the verdict.

    >>> check_share_fell(_share_fell, *made_recordings()).right
    True
    """
    cases = {"the recordings made for this check": list(made_recordings())}
    verdict = judge(answer, _share_fell, cases, _SHARE_FELL_MISTAKES, "")
    return _on_own_recordings(answer, trained, walk) if verdict.right else verdict


def made_recordings() -> tuple[Recording, Recording]:
    """Return a recording and its random walk in which each wrong question has another answer than the right one.

    >>> [len(recording.matrices) for recording in made_recordings()]
    [8, 8]
    """
    # Of how many singular values, and how many of them are equal, the others zero: at the start, half-way, at the end.
    trained = {
        "fell": (20, (20, 15, 5)),
        "late": (16, (16, 16, 4)),
        "fell and came back": (20, (20, 4, 20)),
        "as far": (16, (16, 12, 10)),
        "early": (18, (18, 10, 12)),
        "less": (18, (18, 15, 12)),
        "hardly": (16, (16, 16, 15)),
        "small": (8, (8, 6, 2)),
    }
    walk = {
        "fell": (20, (20, 19, 18)),
        "late": (16, (16, 5, 12)),
        "fell and came back": (20, (20, 18, 16)),
        "as far": (16, (16, 13, 10)),
        "early": (18, (18, 15, 9)),
        "less": (18, (18, 12, 9)),
        "hardly": (16, (16, 15, 14)),
        "small": (8, (8, 8, 8)),
    }
    return recorded(trained), recorded(walk)


# --- right answers -----------------------------------------------------------------------------------------


def _array(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _head_start(s: Array) -> float:
    return float((s[-1, 0] / s[0, 0]) / (np.median(s[-1]) / np.median(s[0])))


def _components(W: Array, which: slice) -> Array:
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    return np.asarray((U[:, which] * s[which]) @ Vh[which])


def _bottom_half(W: Array) -> Array:
    return _components(W, slice(ceil(min(W.shape) / 2), None))


def _distances(rates: Array, end: float) -> Array:
    travelled = np.concatenate([[0.0], np.cumsum(rates**2)])
    return np.asarray(end * np.sqrt(travelled / travelled[-1]))


def _explained(values: Array, groups: Array) -> float:
    fitted = np.array([values[groups == group].mean() for group in groups])
    return float(fitted.var() / values.var())


def _falls(recording: Recording) -> dict[str, float]:
    large = [name for name, shape in recording.shapes.items() if min(shape) >= LARGE]
    ranks = {name: recording.effective_rank(name) for name in large}
    return {name: float(rank[0] - rank[-1]) for name, rank in ranks.items()}


def _share_fell(trained: Recording, walk: Recording) -> float:
    at_random = _falls(walk)
    return float(np.mean([fall > at_random[name] + 1e-9 for name, fall in _falls(trained).items()]))


# --- mistakes, and what to say of them ---------------------------------------------------------------------

_HEAD_START_MISTAKES: Mistakes = {
    "this is how far the largest is above the median at the end. It was above it at the start as well: compare "
    "how much each has grown.": lambda s: s[-1, 0] / np.median(s[-1]),
    "this is the difference of two factors; divide one by the other.": lambda s: (
        s[-1, 0] / s[0, 0] - np.median(s[-1]) / np.median(s[0])
    ),
    "this is upside down: the growth of the largest belongs above the line.": lambda s: 1 / _head_start(s),
    "this is the growth of the largest alone. Everything may have grown: divide by the growth of the median.": (
        lambda s: s[-1, 0] / s[0, 0]
    ),
    "you compare the largest with the smallest. The smallest is often nearly zero; take the median.": lambda s: (
        (s[-1, 0] / s[0, 0]) / (s[-1, -1] / s[0, -1])
    ),
    "this is the median of all growths. Asked is the growth of the median.": lambda s: (
        (s[-1, 0] / s[0, 0]) / np.median(s[-1] / s[0])
    ),
    "you take the mean instead of the median; the largest values pull it up.": lambda s: (
        (s[-1, 0] / s[0, 0]) / (s[-1].mean() / s[0].mean())
    ),
    "this compares along the wrong axis: rows are steps, columns are singular values.": lambda s: _head_start(s.T),
}

_BOTTOM_HALF_MISTAKES: Mistakes = {
    "this is the top half. NumPy gives the largest singular values first.": lambda W: W - _bottom_half(W),
    "where the number of components is odd the top half has one more: it keeps ceil(R / 2).": lambda W: _components(
        W, slice(min(W.shape) // 2, None)
    ),
    "this counts rows. The number of components is that of the singular values, the shorter side.": lambda W: (
        _components(W, slice(ceil(W.shape[0] / 2), None))
    ),
    "the singular values are missing between U and Vh.": lambda W: _unscaled(W),
    "this is the list of singular values; put the matrix together again.": lambda W: np.linalg.svd(W)[1][
        ceil(min(W.shape) / 2) :
    ],
    "this drops components by the half of the sum of singular values; drop half of their number.": lambda W: (
        _components(W, slice(_past_half_of_the_sum(W), None))
    ),
}


def _unscaled(W: Array) -> Array:
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    k = ceil(len(s) / 2)
    return np.asarray(U[:, k:] @ Vh[k:])


def _past_half_of_the_sum(W: Array) -> int:
    s = np.linalg.svd(W, compute_uv=False)
    return int(np.searchsorted(np.cumsum(s), s.sum() / 2)) + 1


_DISTANCES_MISTAKES: Mistakes = {
    "this adds up lengths, as if all steps went the same way. Random steps are nearly at right angles: add squares.": (
        lambda rates, end: end * np.concatenate([[0.0], np.cumsum(rates)]) / rates.sum()
    ),
    "these are squares of distances; take the root.": lambda rates, end: (
        end * np.concatenate([[0.0], np.cumsum(rates**2)]) / (rates**2).sum()
    ),
    "this walk takes steps of equal length. Where the learning rate is small, steps are short.": lambda rates, end: (
        end * np.sqrt(np.arange(len(rates) + 1) / len(rates))
    ),
    "the length of a step is the learning rate, so it is the square of the rate that adds up.": lambda rates, end: (
        end * np.sqrt(np.concatenate([[0.0], np.cumsum(rates)]) / rates.sum())
    ),
    "the start is missing: before the first step the distance is 0.": lambda rates, end: _distances(rates, end)[1:],
    "the walk has to end at the distance that is given.": lambda rates, end: np.sqrt(
        np.concatenate([[0.0], np.cumsum(rates**2)])
    ),
}

_EXPLAINED_MISTAKES: Mistakes = {
    "this is the share within groups; the share between them is what is left.": lambda v, g: 1 - _explained(v, g),
    "groups of different sizes do not count alike: put each value's group mean in its place and take the variance of "
    "that.": lambda v, g: np.var([v[g == group].mean() for group in np.unique(g)]) / v.var(),
    "this compares between with within groups; compare with the whole variance.": lambda v, g: (
        _explained(v, g) / (1 - _explained(v, g))
    ),
    "this is a ratio of standard deviations; of variances is asked.": lambda v, g: np.sqrt(_explained(v, g)),
    "this is a variance; divide it by the variance of all values.": lambda v, g: _explained(v, g) * v.var(),
}

_SHARE_FELL_MISTAKES: Mistakes = {
    "this counts every fall. A random walk makes the rank fall a little too: compare with it.": lambda t, w: np.mean(
        [fall > 0 for fall in _falls(t).values()]
    ),
    "this counts small matrices too. Leave out those with fewer than 16 singular values.": lambda t, w: np.mean(
        [t.effective_rank(m)[-1] < w.effective_rank(m)[-1] for m in t.matrices]
    ),
    "this is a number of matrices; divide it by how many there are.": lambda t, w: _share_fell(t, w) * len(_falls(t)),
    "this is the share that did not; you have it the wrong way round.": lambda t, w: 1 - _share_fell(t, w),
    "you compare the lowest rank on the way. Asked is the last snapshot.": lambda t, w: np.mean(
        [t.effective_rank(m).min() < w.effective_rank(m).min() for m in _falls(t)]
    ),
    "you average over training. Asked is the last snapshot.": lambda t, w: np.mean(
        [t.effective_rank(m).mean() < w.effective_rank(m).mean() for m in _falls(t)]
    ),
}


# --- the reader's own recordings ---------------------------------------------------------------------------


def _on_own_recordings(answer: Callable[[Recording, Recording], Any], trained: Recording, walk: Recording) -> Verdict:
    if trained.matrices != walk.matrices:
        return Verdict(False, "your two recordings are of different networks: let the walk start from the same model.")
    falls = _falls(trained)
    if not falls:
        return Verdict(False, f"your network has no matrix with {LARGE} singular values; take a wider one.")
    try:
        share = float(answer(trained, walk))
    except Exception as error:  # the recordings are the reader's, and so is the function
        return Verdict(False, f"on your own recordings: {type(error).__name__}: {error}")
    wanted = _share_fell(trained, walk)
    if not np.isclose(share, wanted):
        return Verdict(False, f"on your own recordings this gives {share:.3g}, and it is another share.")
    furthest = max(falls, key=falls.__getitem__)
    return Verdict(
        True,
        f"in your network rank fell further than in the walk in {wanted:.0%} of {len(falls)} matrices, most in "
        f"{furthest}, by {falls[furthest]:.3f} (in the walk {_falls(walk)[furthest]:.3f}).",
    )
