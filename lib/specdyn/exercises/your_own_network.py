"""Self-checks of the chapter on a network of one's own. Each takes the reader's function and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specdyn.exercises.recorded import recorded
from specdyn.exercises.verdict import Mistakes, Verdict, judge
from specdyn.spectra import alignment_chance, effective_rank
from specdyn.training import Recording

Array = NDArray[Any]


def check_kernel_rank(answer: Callable[[Array], Any]) -> Verdict:
    """Check a function of a convolution's weight (outputs, inputs, height, width): the effective rank of its matrix.

    >>> check_kernel_rank(lambda weight: _rank(weight.reshape(len(weight), -1)))
    Right: a row for each output channel, a column for everything that it reads.
    """
    cases = {
        "8 outputs, 3 inputs, a 3 x 3 kernel": [_array(8, 3, 3, 3)],
        "4 outputs, 6 inputs, a 5 x 1 kernel": [_array(4, 6, 5, 1)],
    }
    praise = "a row for each output channel, a column for everything that it reads."
    return judge(answer, lambda weight: _rank(_kernel_matrix(weight)), cases, _KERNEL_MISTAKES, praise)


def check_stands_out(answer: Callable[[Mapping[str, float], Mapping[str, int]], Any]) -> Verdict:
    """Check a function of scores and shared dimensions by pair: the pair furthest above chance, as a ratio.

    >>> check_stands_out(lambda scores, d: max(scores, key=lambda pair: scores[pair] / alignment_chance(d[pair])))
    Right: every score beside its own chance level.
    """
    cases: dict[str, list[Any]] = {
        "a head and two layers": [
            {"query ~ key": 0.45, "a -> b": 0.15, "b -> c": 0.09},
            {"query ~ key": 8, "a -> b": 128, "b -> c": 48},
        ],
        "three layers": [{"a -> b": 0.03, "b -> c": 0.41, "c -> d": 0.3}, {"a -> b": 512, "b -> c": 4, "c -> d": 16}],
    }
    return judge(answer, _stands_out, cases, _STANDS_OUT_MISTAKES, "every score beside its own chance level.")


def check_settles(answer: Callable[[Array, Array, float], Any]) -> Verdict:
    """Check a function of steps, an agreement over them and a level: the step from which on it stays there.

    >>> check_settles(_settles)
    Right: not where it first came by, but where it stayed.
    """
    steps = np.array([0, 1, 3, 10, 30, 100, 300])
    cases = {
        "an agreement that comes and goes": [steps, np.array([0.1, 0.6, 0.2, 0.4, 0.7, 0.8, 1.0]), 0.5],
        "one that was there from the start": [steps, np.array([0.6, 0.5, 0.7, 0.8, 0.7, 0.9, 1.0]), 0.5],
    }
    praise = "not where it first came by, but where it stayed."
    return judge(answer, _settles, cases, _SETTLES_MISTAKES, praise)


def check_furthest(answer: Callable[[Recording, Recording], Any], trained: Recording, walk: Recording) -> Verdict:
    """Check a function of two recordings: the matrix whose final effective rank is furthest from the walk's.

    Furthest is meant as a ratio, up or down. It is tried on two recordings made for the purpose, then on
    the reader's own, whose numbers are in the verdict.

    >>> check_furthest(_furthest, *made_recordings()).right
    True
    """
    cases = {"the recordings made for this check": list(made_recordings())}
    verdict = judge(answer, _furthest, cases, _FURTHEST_MISTAKES, "")
    return _on_own_recordings(answer, trained, walk) if verdict.right else verdict


def made_recordings() -> tuple[Recording, Recording]:
    """Return a recording and its random walk in which each wrong question has another answer than the right one.

    >>> [recording.matrices[0] for recording in made_recordings()]
    ['rose.weight', 'rose.weight']
    """
    # How many of twelve singular values are equal, the others zero: at the start, half-way and at the end.
    trained = {"rose": (4, 4, 5), "fell": (12, 9, 6), "as far": (12, 3, 3), "low": (1, 1, 1), "early": (12, 2, 10)}
    walk = {"rose": (4, 4, 2), "fell": (12, 12, 12), "as far": (12, 3, 3), "low": (1, 1, 1), "early": (12, 12, 12)}
    return _of_twelve({**trained, "wide": (12, 12, 12)}), _of_twelve({**walk, "wide": (12, 12, 5)})


def _of_twelve(counts: Mapping[str, tuple[int, int, int]]) -> Recording:
    return recorded({name: (12, used) for name, used in counts.items()})


# --- right answers -----------------------------------------------------------------------------------------


def _array(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _rank(W: Array) -> float:
    return float(np.mean(effective_rank(np.linalg.svd(W, compute_uv=False))))


def _kernel_matrix(weight: Array) -> Array:
    return weight.reshape(len(weight), -1)


def _stands_out(scores: Mapping[str, float], d: Mapping[str, int]) -> str:
    return max(scores, key=lambda pair: scores[pair] / alignment_chance(d[pair]))


def _settles(steps: Array, agreement: Array, level: float) -> float:
    below = np.flatnonzero(agreement < level)
    return float(steps[below[-1] + 1] if len(below) else steps[0])


def _ends(recording: Recording) -> dict[str, float]:
    return {name: float(recording.effective_rank(name)[-1]) for name in recording.matrices}


def _distance(trained: Recording, walk: Recording) -> dict[str, float]:
    ends, by_chance = _ends(trained), _ends(walk)
    return {name: _apart(ends[name], by_chance[name]) for name in ends}


def _apart(a: float, b: float) -> float:
    """How far two effective ranks are apart as a ratio, up or down; a collapsed matrix has none of its own."""
    if a == b:
        return 0.0
    return abs(log(a / b)) if a and b else inf


def _furthest(trained: Recording, walk: Recording) -> str:
    distance = _distance(trained, walk)
    return max(distance, key=distance.__getitem__)


# --- mistakes, and what to say of them ---------------------------------------------------------------------

_KERNEL_MISTAKES: Mistakes = {
    "this has a row for every pair of an output and an input. What an output channel computes is one row: keep the "
    "first axis and flatten the other three.": lambda w: _rank(w.reshape(w.shape[0] * w.shape[1], -1)),
    "this has a row for every input channel, as a transposed convolution is read. The outputs of a convolution are the "
    "first axis of its weight.": lambda w: _rank(w.swapaxes(0, 1).reshape(w.shape[1], -1)),
    "this is the mean over the small kernels. NumPy decomposes the last two axes, height and width; flatten first.": (
        lambda w: _rank(w)
    ),
    "this is the mean over the positions of the kernel. All of them together are one matrix.": lambda w: _rank(
        w.transpose(2, 3, 0, 1)
    ),
    "this is the centre of the kernel only. Singular values are taken of the whole; the centre is for alignment.": (
        lambda w: _rank(w[:, :, w.shape[2] // 2, w.shape[3] // 2])
    ),
    "this is a number of directions. Divide it by how many there are.": lambda w: (
        _rank(_kernel_matrix(w)) * min(_kernel_matrix(w).shape)
    ),
}

_STANDS_OUT_MISTAKES: Mistakes = {
    "this is the highest score. Few dimensions give high scores for nothing: divide each by its chance level.": (
        lambda scores, d: max(scores, key=lambda pair: scores[pair])
    ),
    "this subtracts the chance level. 0.1 above a chance of 0.3 is less than 0.1 above one of 0.03: divide.": (
        lambda scores, d: max(scores, key=lambda pair: scores[pair] - alignment_chance(d[pair]))
    ),
    "this is the pair closest to chance; asked is the one furthest above it.": lambda scores, d: min(
        scores, key=lambda pair: scores[pair] / alignment_chance(d[pair])
    ),
    "this is the pair with the most dimensions. It takes the score as well.": lambda scores, d: max(
        d, key=lambda pair: d[pair]
    ),
    "return the name of the pair, not how far it is above chance.": lambda scores, d: max(
        scores[pair] / alignment_chance(d[pair]) for pair in scores
    ),
}

_SETTLES_MISTAKES: Mistakes = {
    "this is the first time that the level is reached. A direction that turns away again has not settled.": (
        lambda steps, a, level: steps[a >= level][0]
    ),
    "this is a place in the array; return the step that stands there.": lambda steps, a, level: int(
        np.flatnonzero(steps == _settles(steps, a, level))[0]
    ),
    "this is the last step below the level. It has settled at the one after it.": lambda steps, a, level: (
        steps[a < level][-1] if (a < level).any() else steps[0]
    ),
    "a direction that was there from the start has settled at the first step. What does your function find when it "
    "is never below the level?": lambda steps, a, level: steps[np.flatnonzero(a < level)[-1] + 1],
    "this counts the steps above the level. Asked is from which one on.": lambda steps, a, level: (a >= level).sum(),
}

_FURTHEST_MISTAKES: Mistakes = {
    "you compare the end of training with its start. The control is the random walk, at its end.": lambda t, w: max(
        t.matrices, key=lambda name: _apart(t.effective_rank(name)[-1], t.effective_rank(name)[0])
    ),
    "you look for the lowest rank. A matrix can be low from the start; compare it with the random walk.": (
        lambda t, w: min(t.matrices, key=lambda name: t.effective_rank(name)[-1])
    ),
    "you look only for ranks that fell. Further from the walk can also be above it: compare ratios up and down.": (
        lambda t, w: min(t.matrices, key=lambda name: t.effective_rank(name)[-1] / w.effective_rank(name)[-1])
    ),
    "you compare differences. Asked is the ratio: 0.1 less of 0.2 is more than 0.1 less of 0.9.": lambda t, w: max(
        t.matrices, key=lambda name: abs(t.effective_rank(name)[-1] - w.effective_rank(name)[-1])
    ),
    "you average over training. Asked is the last snapshot.": lambda t, w: max(
        t.matrices, key=lambda name: _apart(t.effective_rank(name).mean(), w.effective_rank(name).mean())
    ),
}


# --- the reader's own recordings ---------------------------------------------------------------------------


def _on_own_recordings(answer: Callable[[Recording, Recording], Any], trained: Recording, walk: Recording) -> Verdict:
    if trained.matrices != walk.matrices:
        return Verdict(False, "your two recordings are of different networks: let the walk start from the same model.")
    if len(trained.steps) != len(walk.steps):
        return Verdict(False, f"your walk has {len(walk.steps)} snapshots and the training {len(trained.steps)}.")
    try:
        name, distance = answer(trained, walk), _distance(trained, walk)
    except Exception as error:  # the recordings are the reader's, and so is the function
        return Verdict(False, f"on your own recordings: {type(error).__name__}: {error}")
    if not (isinstance(name, str) and name in distance):
        return Verdict(False, f"your network has no matrix {name!r}; it has {', '.join(distance)}.")
    if distance[name] < max(distance.values()):
        return Verdict(False, f"on your own recordings another matrix is further from its walk than {name}.")
    ends, by_chance = _ends(trained)[name], _ends(walk)[name]
    return Verdict(
        True, f"in your network this is {name}, with effective rank {ends:.3f}; the walk ends at {by_chance:.3f}."
    )
