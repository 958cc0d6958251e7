"""Self-checks of the chapter on memorization. Each takes the reader's function and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specdyn.exercises.verdict import Mistakes, Verdict, judge
from specdyn.spectra import effective_rank, spectral_entropy

Array = NDArray[Any]


def check_increment_rank(answer: Callable[[Array, Array], Any]) -> Verdict:
    """Check a function of a weight and of its start: the effective rank of what training added.

    >>> check_increment_rank(lambda W, W0: effective_rank(np.linalg.svd(W - W0, compute_uv=False)))
    Right: the rank of the difference, which is not the difference of the ranks.
    """
    start = _array(12, 8)
    cases = {
        "two directions added": [start + 9 * _array(12, 2) @ _array(2, 8), start],
        "a diagonal added": [_array(5, 7) + np.eye(5, 7) * [3, 2, 0, 0, 0, 0, 0], _array(5, 7)],
    }
    praise = "the rank of the difference, which is not the difference of the ranks."
    return judge(answer, _increment_rank, cases, _INCREMENT_RANK_MISTAKES, praise)


def check_contrast(answer: Callable[[Array, int], Any]) -> Verdict:
    """Check a function of singular values (..., R) and a number of classes: how far the first C - 1 stand out.

    >>> check_contrast(lambda s, c: s[..., : c - 1].mean(-1) / s[..., c - 1 : 2 * c - 2].mean(-1))
    Right: as many beside as there are directions that tell the classes apart, at every step.
    """
    s = np.array([9.0, 8.0, 7.5, 2.0, 1.5, 1.0, 0.5, 0.2, 0.1])
    over_time = np.sort(np.random.default_rng(1).gamma(2.0, size=(9, 11)))[:, ::-1]
    cases = {"one spectrum": [s, 4], "spectra of nine steps": [over_time, 5]}
    praise = "as many beside as there are directions that tell the classes apart, at every step."
    return judge(answer, _contrast, cases, _CONTRAST_MISTAKES, praise)


def check_equal_damage(answer: Callable[[Array, Array, float], Any]) -> Verdict:
    """Check a function of right and wrong labels lost and a level: the wrong ones lost where so many right ones are.

    >>> check_equal_damage(lambda right, wrong, level: np.interp(level, right[::-1], wrong[::-1]))
    Right: two kinds of damage are compared where they cost the same.
    """
    cases = {
        "a cut": [np.array([0.9, 0.6, 0.3, 0.06, 0.02, 0.0]), np.array([0.95, 0.9, 0.7, 0.5, 0.1, 0.0]), 0.1],
        "another cut": [np.array([0.8, 0.5, 0.4, 0.1, 0.0]), np.array([0.9, 0.6, 0.5, 0.2, 0.1]), 0.3],
    }
    praise = "two kinds of damage are compared where they cost the same."
    return judge(answer, _equal_damage, cases, _EQUAL_DAMAGE_MISTAKES, praise)


def check_expected_error(answer: Callable[[float, float, Array, Array], Any]) -> Verdict:
    """Check a function of an error, a permuted share and how often labels are given and said: the error to expect.

    >>> check_expected_error(lambda e, c, given, said: (1 - c) * e + c * (1 - (given * said).sum()))
    Right: of labels that have nothing to do with the picture, some come out right by chance.
    """
    cases = {
        "classes that come equally often": [0.1, 0.4, np.full(4, 0.25), np.array([0.4, 0.3, 0.2, 0.1])],
        "classes that do not": [0.3, 0.5, np.array([0.7, 0.2, 0.1]), np.array([0.9, 0.05, 0.05])],
        "nothing permuted": [0.2, 0.0, np.array([0.5, 0.5]), np.array([0.6, 0.4])],
    }
    praise = "of labels that have nothing to do with the picture, some come out right by chance."
    return judge(answer, _expected_error, cases, _EXPECTED_ERROR_MISTAKES, praise)


def check_suspects(
    answer: Callable[[Array, Array, int], Any], logits: ArrayLike, labels: ArrayLike, count: int
) -> Verdict:
    """Check a function of logits (N, C), labels (N,) and a number: the examples whose labels look most wrong.

    It is tried on logits made for the purpose, then on those of the reader's own network and data.

    >>> check_suspects(_suspects, [[2.0, 0.0], [0.0, 3.0]], [0, 0], 1)
    Right: in your data the first to look at is example 1: its label 0 has a probability of 0.047.
    """
    made = 3 * np.random.default_rng(2).normal(size=(9, 4)) + 5 * np.arange(9)[:, None]
    cases = {
        "nine made examples": [made, np.array([0, 1, 2, 3, 0, 1, 2, 3, 0]), 3],
        "two classes": [np.array([[4.0, 1.0], [0.0, 2.0], [1.0, 0.9], [7.0, 9.0]]), np.array([1, 1, 0, 0]), 2],
    }
    verdict = judge(answer, _suspects, cases, _SUSPECTS_MISTAKES, "")
    own = np.asarray(logits, dtype=float), np.asarray(labels)
    return _on_own_data(answer, *own, count) if verdict.right else verdict


# --- right answers -----------------------------------------------------------------------------------------


def _array(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _values(W: Array) -> Array:
    return np.linalg.svd(W, compute_uv=False)


def _increment_rank(W: Array, W0: Array) -> float:
    return float(effective_rank(_values(W - W0)))


def _contrast(s: Array, classes: int) -> Array:
    return _quotient(s, classes - 1, 2 * (classes - 1))


def _quotient(s: Array, first: int, last: int | None) -> Array:
    return np.asarray(s[..., :first].mean(-1) / s[..., first:last].mean(-1))


def _equal_damage(right: Array, wrong: Array, level: float) -> float:
    order = np.argsort(right)
    return float(np.interp(level, right[order], wrong[order]))


def _expected_error(error: float, share: float, given: Array, said: Array) -> float:
    return float((1 - share) * error + share * (1 - (given * said).sum()))


def _probabilities(logits: Array) -> Array:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _of_label(values: Array, labels: Array) -> Array:
    return values[np.arange(len(labels)), labels]


def _suspects(logits: Array, labels: Array, count: int) -> Array:
    return np.argsort(_of_label(_probabilities(logits), labels), kind="stable")[:count]


# --- mistakes, and what to say of them ---------------------------------------------------------------------


def _with_squares(W: Array, W0: Array) -> float:
    return float(effective_rank(_values(W - W0) ** 2))


_INCREMENT_RANK_MISTAKES: Mistakes = {
    "this is the rank of the weight as it is. Subtract the start first.": lambda W, W0: effective_rank(_values(W)),
    "this subtracts the ranks. Subtract the matrices, and take the rank of what is left.": lambda W, W0: (
        effective_rank(_values(W)) - effective_rank(_values(W0))
    ),
    "this subtracts the singular values of the two, whose directions differ. Subtract the matrices.": lambda W, W0: (
        effective_rank(np.abs(_values(W) - _values(W0)))
    ),
    "this takes shares of the squared singular values; the effective rank takes them of the values.": _with_squares,
    "this is the entropy itself. Take its exponential, and divide by the number of singular values.": lambda W, W0: (
        spectral_entropy(_values(W - W0))
    ),
    "this is a number of directions; divide by how many singular values there are.": lambda W, W0: (
        effective_rank(_values(W - W0)) * min(W.shape)
    ),
    "this gives NaN where a singular value is zero: 0 log 0 is 0, so leave these shares out.": lambda W, W0: _plain(
        _values(W - W0)
    ),
}


def _plain(s: Array) -> float:
    p = s / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()) / len(s))


_CONTRAST_MISTAKES: Mistakes = {
    "this takes C values. One direction raises all logits alike and tells no classes apart: take C - 1.": (
        lambda s, classes: _quotient(s, classes, 2 * classes)
    ),
    "this divides by the mean of all that are left. Take as many as above, the next C - 1.": lambda s, classes: (
        _quotient(s, classes - 1, None)
    ),
    "this divides the last of the first by the first of the next, which hangs on two values. Take means.": (
        lambda s, classes: s[..., classes - 2] / s[..., classes - 1]
    ),
    "this is the wrong way round: the first over the next.": lambda s, classes: 1 / _contrast(s, classes),
    "this adds up the squares; take the singular values as they are.": lambda s, classes: _contrast(s**2, classes),
    "this takes the first steps instead of the first singular values: these run along the last axis.": (
        lambda s, classes: s[: classes - 1].mean() / s[classes - 1 : 2 * (classes - 1)].mean()
    ),
    "the singular values come largest first; this takes them from the other end.": lambda s, classes: _contrast(
        s[..., ::-1], classes
    ),
}

_EQUAL_DAMAGE_MISTAKES: Mistakes = {
    "np.interp wants its points from left to right, with growing x. These come from the hardest cut on: sort them.": (
        lambda right, wrong, level: np.interp(level, right, wrong)
    ),
    "this takes the measured point that is nearest. Draw a straight line between two.": lambda right, wrong, level: (
        wrong[np.argmin(np.abs(right - level))]
    ),
    "this asks how many right labels are lost where so many wrong ones are: the other way round.": (
        lambda right, wrong, level: _equal_damage(wrong, right, level)
    ),
    "this subtracts what is lost of the right ones; asked is what is lost of the wrong ones.": (
        lambda right, wrong, level: _equal_damage(right, wrong, level) - level
    ),
    "this is the first point at which no more than so many right labels are lost, which may be far fewer.": (
        lambda right, wrong, level: wrong[right <= level][0]
    ),
}

_EXPECTED_ERROR_MISTAKES: Mistakes = {
    "this counts every permuted label as an error. Some agree with the network by chance.": lambda e, c, given, said: (
        (1 - c) * e + c
    ),
    "this puts the errors on permuted labels on top of the others. Only 1 - c of the labels are still true.": (
        lambda e, c, given, said: e + c * (1 - (given * said).sum())
    ),
    "1/C is right where all classes come equally often. Sum over the classes what is given times what is said.": (
        lambda e, c, given, said: (1 - c) * e + c * (1 - 1 / len(given))
    ),
    "this takes the labels that are given twice. Multiply how often each is given by how often the network says it.": (
        lambda e, c, given, said: (1 - c) * e + c * (1 - (given * given).sum())
    ),
    "this takes what the network says twice. Multiply how often each label is given by how often it is said.": (
        lambda e, c, given, said: (1 - c) * e + c * (1 - (said * said).sum())
    ),
    "the shares are the wrong way round: c are permuted, 1 - c are true.": lambda e, c, given, said: _expected_error(
        e, 1 - c, given, said
    ),
    "this is the share that is right; asked is the error.": lambda e, c, given, said: (
        1 - _expected_error(e, c, given, said)
    ),
}

_SUSPECTS_MISTAKES: Mistakes = {
    "these are the labels that the network believes most. Sort the other way.": lambda logits, labels, count: (
        np.argsort(-_of_label(_probabilities(logits), labels), kind="stable")[:count]
    ),
    "logits of different examples do not compare: make them probabilities first (softmax).": (
        lambda logits, labels, count: np.argsort(_of_label(logits, labels), kind="stable")[:count]
    ),
    "this goes by how sure the network is of anything, not by what it thinks of the label that was given.": (
        lambda logits, labels, count: np.argsort(_probabilities(logits).max(axis=1), kind="stable")[:count]
    ),
    "these are the first examples on which the network disagrees, not those on which it disagrees most.": (
        lambda logits, labels, count: np.flatnonzero(logits.argmax(axis=1) != labels)[:count]
    ),
    "these are probabilities; asked are the numbers of the examples, as np.argsort gives them.": (
        lambda logits, labels, count: np.sort(_of_label(_probabilities(logits), labels))[:count]
    ),
    "these are all examples in order; asked are the first `count`.": lambda logits, labels, count: _suspects(
        logits, labels, len(labels)
    ),
}


# --- the reader's own data ---------------------------------------------------------------------------------


def _on_own_data(answer: Callable[[Array, Array, int], Any], logits: Array, labels: Array, count: int) -> Verdict:
    try:
        given, wanted = np.asarray(answer(logits.copy(), labels.copy(), count)), _suspects(logits, labels, count)
    except Exception as error:  # the data are the reader's, and so is the function
        return Verdict(False, f"on your own data: {type(error).__name__}: {error}")
    believed = _of_label(_probabilities(logits), labels)
    if given.shape != wanted.shape or not np.allclose(believed[given], believed[wanted]):
        return Verdict(False, f"on your own data the {count} labels with the lowest probabilities are others.")
    first = int(given[0])
    words = f"its label {labels[first]} has a probability of {believed[first]:.3f}."
    return Verdict(True, f"in your data the first to look at is example {first}: {words}")
