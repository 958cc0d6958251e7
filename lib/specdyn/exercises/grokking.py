"""Self-checks of the chapter on grokking. Each takes the reader's function and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specdyn.exercises.verdict import Verdict, judge
from specdyn.training import half_fall

Array = NDArray[Any]


def check_strict(answer: Callable[[Array, Array], Any]) -> Verdict:
    """Check a function of training and validation pairs that says which validation pairs are strict.

    >>> check_strict(lambda train, validation: [tuple(v[::-1]) not in {tuple(t) for t in train} for v in validation])
    Right: no strict pair was seen as its mirror image.
    """

    def missing(train: Array, pairs: Array) -> Array:
        seen = {tuple(pair) for pair in train.tolist()}
        return np.array([tuple(pair) not in seen for pair in pairs.tolist()])

    cases = {
        "a few pairs": [np.array([[0, 1], [2, 2], [3, 1]]), np.array([[1, 0], [1, 3], [2, 0], [1, 1], [0, 3]])],
        "no mirror images": [np.array([[0, 1]]), np.array([[2, 3], [0, 0]])],
    }
    mistakes: dict[str, Callable[[Array, Array], Array]] = {
        "this calls every pair strict. Perhaps it looks for (a, b) itself, which is never among the training pairs: "
        "look for (b, a).": lambda t, v: np.ones(len(v), bool),
        "this is the other way round: it marks the pairs whose mirror image was seen.": lambda t, v: (
            ~missing(t, v[:, ::-1])
        ),
        "a pair (a, a) is its own mirror image, and it was not trained on: it is strict.": lambda t, v: (
            missing(t, v[:, ::-1]) & (v[:, 0] != v[:, 1])
        ),
        "this returns the pairs themselves; return one boolean a validation pair.": lambda t, v: v[
            missing(t, v[:, ::-1])
        ],
    }
    return judge(
        answer, lambda t, v: missing(t, v[:, ::-1]), cases, mistakes, "no strict pair was seen as its mirror image."
    )


def check_half_fall(answer: Callable[[Array, Array, float], Any]) -> Verdict:
    """Check a function of steps, values and the opening of the window that dates the middle of a fall.

    >>> check_half_fall(half_fall)
    Right: half of what is lost in the window, counted in steps.
    """

    def first(steps: Array, values: Array, level: float) -> Any:
        return steps[values <= level][0]

    def after(steps: Array, values: Array, opens: float) -> tuple[Array, Array]:
        return steps[steps >= opens], values[steps >= opens]

    steps = np.arange(0, 90, 10)
    cases = {
        "a curve that falls twice": [steps, np.array([1.0, 0.6, 0.6, 0.58, 0.41, 0.35, 0.3, 0.2, 0.25]), 20],
        "a window that is the whole run": [steps, np.array([0.9, 0.9, 0.9, 0.8, 0.6, 0.5, 0.3, 0.31, 0.32]), 0],
    }
    mistakes: dict[str, Callable[[Array, Array, float], Any]] = {
        "this looks at the whole run; only steps from `opens` on count.": lambda s, v, o: first(
            s, v, (v[0] + v.min()) / 2
        ),
        "this waits until half of the first value of the run is left. Wanted is half of what is lost, in the window.": (
            lambda s, v, o: first(s, v, v[0] / 2)
        ),
        "this waits until half of the value at the opening is left. Wanted is half of what is lost: the level lies "
        "between that value and the lowest one.": lambda s, v, o: first(*after(s, v, o), after(s, v, o)[1][0] / 2),
        "this measures the loss down to the last value; it goes down to the lowest.": lambda s, v, o: first(
            *after(s, v, o), (after(s, v, o)[1][0] + v[-1]) / 2
        ),
        "this is a place in the array; return the step that stands there.": lambda s, v, o: int(
            np.flatnonzero(s == half_fall(s, v, o))[0]
        ),
        "this counts from the opening of the window; return the step itself.": lambda s, v, o: half_fall(s, v, o) - o,
    }
    return judge(answer, half_fall, cases, mistakes, "half of what is lost in the window, counted in steps.")


def check_factor(answer: Callable[[str], Any]) -> Verdict:
    """Check a function that says by what factor a quantity changes when every weight is halved.

    >>> check_factor(lambda quantity: 1 if "rank" in quantity else 0.5)
    Right: ranks compare singular values with each other, so a common factor cancels.
    """
    cases = {name: [name] for name in ("effective rank", "stable rank", "Frobenius norm", "largest singular value")}
    mistakes: dict[str, Callable[[str], float]] = {
        "not everything is halved: write down the effective rank of W and of W/2. What happens to p?": lambda q: 0.5,
        "something must change: the singular values themselves are halved.": lambda q: 1.0,
        "the stable rank is a quotient of two squares, and both get the same factor.": lambda q: {
            "effective rank": 1.0, "stable rank": 0.25
        }.get(q, 0.5),
        "the Frobenius norm is the square root of a sum of squares: it is halved, not quartered.": lambda q: {
            "Frobenius norm": 0.25, "largest singular value": 0.5
        }.get(q, 1.0),
    }  # fmt: skip
    return judge(
        answer,
        lambda quantity: 1.0 if "rank" in quantity else 0.5,
        cases,
        mistakes,
        "ranks compare singular values with each other, so a common factor cancels.",
    )
