"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from specdyn.exercises.grokking import check_factor, check_half_fall, check_strict


# The solutions as the chapter shows them.
def strict(train: Any, validation: Any) -> Any:
    seen = {tuple(pair) for pair in train.tolist()}
    return np.array([(b, a) not in seen for a, b in validation.tolist()])


def half_fall(steps: Any, values: Any, opens: Any) -> Any:
    inside = steps >= opens
    steps, values = steps[inside], values[inside]
    level = (values[0] + values.min()) / 2
    return steps[values <= level][0]


def factor(quantity: str) -> Any:
    return {"effective rank": 1, "stable rank": 1, "Frobenius norm": 1 / 2, "largest singular value": 1 / 2}[quantity]


@pytest.mark.parametrize(
    ("check", "solution"), [(check_strict, strict), (check_half_fall, half_fall), (check_factor, factor)]
)
def test_the_solution_is_right(check: Callable[..., Any], solution: Callable[..., Any]) -> None:
    verdict = check(solution)
    assert verdict.right, verdict


def without_diagonal(train: Any, validation: Any) -> Any:
    return strict(train, validation) & (validation[:, 0] != validation[:, 1])


STRICT = {
    "calls every pair strict": lambda t, v: [True] * len(v),
    "the other way round": lambda t, v: ~strict(t, v),
    "looks for (a, b) itself, which is never": lambda t, v: strict(t, v[:, ::-1]),
    "its own mirror image": without_diagonal,
    "returns the pairs themselves": lambda t, v: v[strict(t, v)],
    "returns nothing": lambda t, v: None,
    "raises KeyError": lambda t, v: {}["oops"],
}
HALF_FALL = {
    "looks at the whole run": lambda s, v, o: half_fall(s, v, s[0]),
    "half of the first value": lambda s, v, o: s[v <= v[0] / 2][0],
    "down to the last value": lambda s, v, o: s[s >= o][v[s >= o] <= (v[s >= o][0] + v[-1]) / 2][0],
    "a place in the array": lambda s, v, o: list(s).index(half_fall(s, v, o)),
    "counts from the opening": lambda s, v, o: half_fall(s, v, o) - o,
    "should be a single number": lambda s, v, o: s,
    "raises IndexError": lambda s, v, o: s[1000],
}
FACTOR = {
    "not everything is halved": lambda q: 0.5,
    "something must change": lambda q: 1,
    "quotient of two squares": lambda q: {"effective rank": 1, "stable rank": 0.25}.get(q, 0.5),
    "halved, not quartered": lambda q: {"Frobenius norm": 0.25, "largest singular value": 0.5}.get(q, 1),
}


@pytest.mark.parametrize(
    ("check", "words", "wrong"),
    [
        pytest.param(check, words, wrong, id=words)
        for check, answers in ((check_strict, STRICT), (check_half_fall, HALF_FALL), (check_factor, FACTOR))
        for words, wrong in answers.items()
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], words: str, wrong: Callable[..., Any]) -> None:
    verdict = check(wrong)
    assert not verdict.right
    assert words in verdict.message
