"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

from collections.abc import Callable
from math import comb, log, log2
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from specdyn.exercises.lottery_tickets import (
    check_bits,
    check_largest,
    check_signs,
    check_starved,
    made_network,
)
from specdyn.interventions import magnitude_mask


# The solutions as the chapter shows them.
def largest(W: Any, kept: Any) -> Any:
    order = np.argsort(-np.abs(W), axis=None, kind="stable")
    mask = np.zeros(W.size, dtype=bool)
    mask[order[: round(kept * W.size)]] = True
    return mask.reshape(W.shape)


def bits(total: Any, count: Any) -> Any:
    return 32 * count + log2(comb(total, count))


def signs(W: Any, mask: Any) -> Any:
    return np.sign(W) * mask * np.abs(W[mask]).mean()


def starved(model: nn.Module, kept: float) -> set[str]:
    mask = magnitude_mask(model, kept, allow_empty=True)
    return {name for name, share in mask.kept.items() if share < 0.1 * kept}


@pytest.mark.parametrize(
    ("check", "solution"),
    [(check_largest, largest), (check_bits, bits), (check_signs, signs)],
    ids=lambda f: f.__name__,
)
def test_the_solution_is_right(check: Callable[..., Any], solution: Callable[..., Any]) -> None:
    verdict = check(solution)
    assert verdict.right, verdict


def test_bits_are_those_of_counting_every_mask() -> None:
    """Of 6 places 2 can be chosen in 15 ways; a number of 4 bits is enough to tell them apart, and 3 bits are not."""
    assert check_bits(lambda total, count: 32 * count + np.log2(float(comb(total, count)))).right
    assert 3 < log2(comb(6, 2)) < 4


LARGEST = {
    "larger in size than one of 2": lambda W, kept: largest(np.where(W > 0, W, 1e-9 * W), kept),
    "these are the smallest": lambda W, kept: largest(1 / W, kept),
    "the other way round": lambda W, kept: ~largest(W, kept),
    "one weight is missing": lambda W, kept: largest(W, int(kept * W.size) / W.size),
    "the same number in every row": lambda W, kept: np.stack([largest(row, kept) for row in W]),
    "asked is which, as booleans": lambda W, kept: W * largest(W, kept),
    "the places in a row": lambda W, kept: np.argsort(-np.abs(W).ravel())[: round(kept * W.size)],
    "above a fraction of the largest": lambda W, kept: np.abs(W) / np.abs(W).max() > kept,
    "returns nothing": lambda W, kept: None,
}
BITS = {
    "these are the weights alone": lambda N, k: 32 * k,
    "not in the shortest way": lambda N, k: N + 32 * k,
    "as if their order mattered": lambda N, k: k * (32 + log2(N)),
    "logarithms to base 2": lambda N, k: 32 * k + log(comb(N, k)),
    "the places alone": lambda N, k: log2(comb(N, k)),
    "in bytes": lambda N, k: 4 * k + log2(comb(N, k)) / 8,
    "those that are 0 need none": lambda N, k: 32 * N + log2(comb(N, k)),
    "raises NameError": lambda N, k: binomial(N, k),  # type: ignore[name-defined]  # noqa: F821
}
SIGNS = {
    "take the kept ones alone": lambda W, mask: np.sign(W) * np.abs(W).mean() * mask,
    "average their sizes": lambda W, mask: np.sign(W) * W[mask].mean() * mask,
    "where the mask keeps nothing there is still something": lambda W, mask: np.sign(W) * np.abs(W[mask]).mean(),
    "signs of size 1": lambda W, mask: np.sign(W) * mask,
    "the signs are gone": lambda W, mask: np.abs(W[mask]).mean() * mask,
    "the sizes are still there": lambda W, mask: W * mask,
    "divides by all places": lambda W, mask: np.sign(W) * mask * np.abs(W)[mask].sum() / W.size,
    "should be shape": lambda W, mask: signs(W, mask)[mask],
}


@pytest.mark.parametrize(
    ("check", "words", "wrong"),
    [
        pytest.param(check, words, wrong, id=words)
        for check, answers in ((check_largest, LARGEST), (check_bits, BITS), (check_signs, SIGNS))
        for words, wrong in answers.items()
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], words: str, wrong: Callable[..., Any]) -> None:
    verdict = check(wrong)
    assert not verdict.right
    assert words in verdict.message


def test_a_network_of_ones_own_is_checked_after_the_one_made_for_it() -> None:
    own = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        own.get_parameter("0.weight").copy_(torch.arange(1, 41).view(8, 5))
        own.get_parameter("2.weight").fill_(0.01)
    right = check_starved(starved, own, 0.2)
    assert right.right, right
    assert "at 20 % kept, next to nothing is left of 1 of 2 matrices: 2.weight" in right.message

    missing = check_starved(lambda m, kept: set() if m is own else starved(m, kept), own, 0.2)
    assert "2.weight is missing: it keeps 0 %" in missing.message
    foreign = check_starved(lambda m, kept: {"4.weight"} if m is own else starved(m, kept), own, 0.2)
    assert "no matrix '4.weight' to mask; it has 0.weight, 2.weight" in foreign.message
    single = check_starved(starved, nn.Linear(3, 2), 0.2)
    assert not single.right
    assert "on your own network: " in single.message


STARVED = {
    "the last matrix stays whole": lambda model, kept: {
        name
        for name, share in magnitude_mask(model, kept, spare=(), allow_empty=True).kept.items()
        if share < 0.1 * kept
    },
    "less than the fraction; asked": lambda model, kept: {
        name for name, share in magnitude_mask(model, kept, allow_empty=True).kept.items() if share < kept
    },
    "nothing at all stays": lambda model, kept: magnitude_mask(model, kept, allow_empty=True).empty,
    "a tenth of the fraction is less": lambda model, kept: {
        name for name, share in magnitude_mask(model, kept, allow_empty=True).kept.items() if share < 0.1
    },
    "the matrices that keep more": lambda model, kept: {
        name for name, share in magnitude_mask(model, kept, allow_empty=True).kept.items() if share >= 0.1 * kept
    },
    "with a threshold for every layer": lambda model, kept: {
        name
        for name, share in magnitude_mask(model, kept, scope="layer", allow_empty=True).kept.items()
        if share < 0.1 * kept
    },
    "raises TypeError": lambda model, kept: starved(model),  # type: ignore[call-arg]
    "returns nothing": lambda model, kept: None,
}


@pytest.mark.parametrize(("words", "wrong"), STARVED.items(), ids=list(STARVED))
def test_a_typical_mistake_with_networks_is_named(words: str, wrong: Callable[..., Any]) -> None:
    verdict = check_starved(wrong, made_network(), 0.1)
    assert not verdict.right
    assert words in verdict.message


def test_a_function_that_changes_the_network_is_told_so() -> None:
    def careless(model: nn.Module, kept: float) -> set[str]:
        found = starved(model, kept)
        model.get_parameter("0.weight").data *= 2
        return found

    assert "changes the weights" in check_starved(careless, made_network(), 0.1).message
