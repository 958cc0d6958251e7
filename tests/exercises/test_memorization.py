"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

import specdyn as sd
from specdyn.exercises.memorization import (
    check_contrast,
    check_equal_damage,
    check_expected_error,
    check_increment_rank,
    check_suspects,
)


def singular_values(W: Any) -> Any:
    return np.linalg.svd(W, compute_uv=False)


# The solutions as the chapter shows them.
def rank_of_increment(W: Any, W0: Any) -> Any:
    return sd.effective_rank(np.linalg.svd(W - W0, compute_uv=False))


def contrast(s: Any, classes: Any) -> Any:
    k = classes - 1
    return s[..., :k].mean(-1) / s[..., k : 2 * k].mean(-1)


def wrong_lost(right: Any, wrong: Any, level: Any) -> Any:
    order = np.argsort(right)
    return np.interp(level, right[order], wrong[order])


def error_to_expect(error: Any, share: Any, given: Any, said: Any) -> Any:
    return (1 - share) * error + share * (1 - (given * said).sum())


def suspects(logits: Any, labels: Any, count: Any) -> Any:
    believed = softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return np.argsort(believed)[:count]


OWN = np.random.default_rng(5).normal(size=(30, 3)), np.random.default_rng(6).integers(3, size=30)


def check_own_suspects(answer: Callable[..., Any]) -> Any:
    return check_suspects(answer, *OWN, 4)


@pytest.mark.parametrize(
    ("check", "solution"),
    [
        (check_increment_rank, rank_of_increment),
        (check_contrast, contrast),
        (check_equal_damage, wrong_lost),
        (check_expected_error, error_to_expect),
        (check_own_suspects, suspects),
    ],
)
def test_the_solution_is_right(check: Callable[..., Any], solution: Callable[..., Any]) -> None:
    verdict = check(solution)
    assert verdict.right, verdict


def entropy_of(s: Any) -> Any:
    p = s[s > 0] / s.sum()
    return -(p * np.log(p)).sum()


INCREMENT = {
    "the rank of the weight as it is": lambda W, W0: sd.effective_rank(singular_values(W)),
    "Subtract the matrices, and take the rank": lambda W, W0: (
        sd.effective_rank(singular_values(W)) - sd.effective_rank(singular_values(W0))
    ),
    "whose directions differ": lambda W, W0: sd.effective_rank(abs(singular_values(W) - singular_values(W0))),
    "squared singular values": lambda W, W0: sd.effective_rank(singular_values(W - W0) ** 2),
    "the entropy itself": lambda W, W0: entropy_of(singular_values(W - W0)),
    "a number of directions": lambda W, W0: np.exp(entropy_of(singular_values(W - W0))),
    "returns nothing": lambda W, W0: None,
    "raises KeyError": lambda W, W0: {}["oops"],
}
CONTRAST = {
    "this takes C values": lambda s, c: contrast(s, c + 1),
    "all that are left": lambda s, c: s[..., : c - 1].mean(-1) / s[..., c - 1 :].mean(-1),
    "hangs on two values": lambda s, c: s[..., c - 2] / s[..., c - 1],
    "the wrong way round": lambda s, c: 1 / contrast(s, c),
    "adds up the squares": lambda s, c: contrast(np.square(s), c),
    "first steps": lambda s, c: s[: c - 1].mean() / s[c - 1 : 2 * c - 2].mean(),
    "from the other end": lambda s, c: contrast(s[..., ::-1], c),
}
DAMAGE = {
    "sort them": lambda right, wrong, level: np.interp(level, right, wrong),
    "measured point that is nearest": lambda right, wrong, level: wrong[abs(right - level).argmin()],
    "the other way round": lambda right, wrong, level: wrong_lost(wrong, right, level),
    "subtracts what is lost of the right ones": lambda right, wrong, level: wrong_lost(right, wrong, level) - level,
    "which may be far fewer": lambda right, wrong, level: wrong[right <= level][0],
}
EXPECTED = {
    "counts every permuted label": lambda e, c, given, said: (1 - c) * e + c,
    "on top of the others": lambda e, c, given, said: e + c * (1 - given @ said),
    "where all classes come equally often": lambda e, c, given, said: (1 - c) * e + c * (1 - 1 / len(said)),
    "the labels that are given twice": lambda e, c, given, said: error_to_expect(e, c, given, given),
    "what the network says twice": lambda e, c, given, said: error_to_expect(e, c, said, said),
    "the shares are the wrong way round": lambda e, c, given, said: error_to_expect(e, 1 - c, given, said),
    "asked is the error": lambda e, c, given, said: 1 - error_to_expect(e, c, given, said),
}
SUSPECTS = {
    "believes most": lambda logits, labels, count: suspects(logits, labels, len(labels))[::-1][:count],
    "make them probabilities": lambda logits, labels, count: logits[range(len(labels)), labels].argsort()[:count],
    "how sure the network is of anything": lambda logits, labels, count: (
        softmax(logits, axis=1).max(axis=1).argsort()[:count]
    ),
    "the first examples on which": lambda logits, labels, count: np.flatnonzero(logits.argmax(1) != labels)[:count],
    "as np.argsort gives them": lambda logits, labels, count: np.sort(
        softmax(logits, axis=1)[range(len(labels)), labels]
    )[:count],
    "the first `count`": lambda logits, labels, count: suspects(logits, labels, len(labels)),
}


@pytest.mark.parametrize(
    ("check", "words", "wrong"),
    [
        pytest.param(check, words, wrong, id=words)
        for check, answers in (
            (check_increment_rank, INCREMENT),
            (check_contrast, CONTRAST),
            (check_equal_damage, DAMAGE),
            (check_expected_error, EXPECTED),
            (check_own_suspects, SUSPECTS),
        )
        for words, wrong in answers.items()
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], words: str, wrong: Callable[..., Any]) -> None:
    verdict = check(wrong)
    assert not verdict.right
    assert words in verdict.message


def test_zero_singular_values_are_no_reason_for_nan() -> None:
    def careless(W: Any, W0: Any) -> Any:
        s = singular_values(W - W0)
        p = s / s.sum()
        return np.exp(-(p * np.log(p)).sum()) / len(s)

    assert "0 log 0 is 0" in check_increment_rank(careless).message


def test_own_data_are_named_and_answers_for_them_checked() -> None:
    logits, labels = OWN
    believed = softmax(logits, axis=1)[np.arange(len(labels)), labels]
    verdict = check_own_suspects(suspects)
    assert f"example {believed.argmin()}" in verdict.message

    def right_on_small_data(logits: Any, labels: Any, count: Any) -> Any:
        return suspects(logits, labels, count) if len(labels) < 20 else np.arange(count)

    assert "are others" in check_own_suspects(right_on_small_data).message

    def fails_on_large_data(logits: Any, labels: Any, count: Any) -> Any:
        return suspects(logits, labels, count) if len(labels) < 20 else {}["oops"]

    assert "on your own data: KeyError" in check_own_suspects(fails_on_large_data).message
