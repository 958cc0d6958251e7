"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.exercises.weight_decay import (
    check_channel_rank,
    check_free,
    check_share_left,
    check_shrink,
    check_twin_rates,
    made_network,
)


# The solutions as the chapter shows them.
def share_left(rates: Any, decay: Any) -> Any:
    return np.prod(1 - rates * decay)


def shrink(s: Any, penalty: Any, amount: Any) -> Any:
    return np.maximum(s - amount, 0) if penalty == "nuclear" else (1 - amount) * s


def channel_rank(weight: Any) -> Any:
    W = weight.reshape(len(weight), -1)
    length = np.linalg.norm(W, axis=1, keepdims=True)
    return sd.effective_rank(np.linalg.svd(W / np.where(length > 0, length, 1), compute_uv=False))


def twin_rates(rates: Any, left: Any) -> Any:
    return rates / (left[:-1] * left[1:])


def free(model: nn.Module, inputs: torch.Tensor) -> set[str]:
    found = set()
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:
            before, after = (copy.deepcopy(model).train() for _ in range(2))
            after.get_parameter(name).data *= 2
            with torch.no_grad():
                was, now = before(inputs), after(inputs)
            if (now - was).norm() < 0.01 * was.norm():
                found.add(name)
    return found


@pytest.mark.parametrize(
    ("check", "solution"),
    [
        (check_share_left, share_left),
        (check_shrink, shrink),
        (check_channel_rank, channel_rank),
        (check_twin_rates, twin_rates),
    ],
)
def test_the_solution_is_right(check: Callable[..., Any], solution: Callable[..., Any]) -> None:
    verdict = check(solution)
    assert verdict.right, verdict


def flat(weight: Any) -> Any:
    return weight.reshape(len(weight), -1)


SHARE_LEFT = {
    "exponential of a sum": lambda r, d: np.exp(-(r * d).sum()),
    "its share of the first value": lambda r, d: 1 - (r * d).sum(),
    "the learning rate is missing": lambda r, d: (1 - d) ** len(r),
    "the first learning rate": lambda r, d: (1 - r[0] * d) ** len(r),
    "what is gone": lambda r, d: 1 - np.prod(1 - r * d),
    "after every step": lambda r, d: np.cumprod(1 - r * d),
    "returns nothing": lambda r, d: None,
}
SHRINK = {
    "cannot be negative": lambda s, p, c: s - c if p == "nuclear" else s * (1 - c),
    "the same share of each for both": lambda s, p, c: s * (1 - c),
    "the same amount of each for both": lambda s, p, c: np.maximum(s - c, 0),
    "the wrong way round": lambda s, p, c: np.maximum(s - c, 0) if p == "Frobenius" else s * (1 - c),
    "drops what lies below": lambda s, p, c: np.where(s > c, s, 0) if p == "nuclear" else s * (1 - c),
    "asked is what is left": lambda s, p, c: np.minimum(s, c) if p == "nuclear" else s * c,
    "raises NameError": lambda s, p, c: frobenius,  # type: ignore[name-defined]  # noqa: F821
}
CHANNEL_RANK = {
    "lengths of the channels are still in it": lambda w: sd.effective_rank(
        np.linalg.svd(flat(w) / np.linalg.norm(w), compute_uv=False)
    ),
    "a channel that is zero has no direction": lambda w: sd.effective_rank(
        np.linalg.svd(flat(w) / np.linalg.norm(flat(w), axis=1, keepdims=True), compute_uv=False)
    ),
    "scales the columns": lambda w: sd.effective_rank(
        np.linalg.svd(flat(w) / np.linalg.norm(flat(w), axis=0), compute_uv=False)
    ),
    "should be a single number": lambda w: np.linalg.svd(flat(w), compute_uv=False),
}
TWIN_RATES = {
    "of the network with decay": lambda r, left: r.copy(),
    "a second is for its gradient": lambda r, left: r / left[1:],
    "at the end of the step": lambda r, left: r / left[:-1],
    "not twice the later one": lambda r, left: r / left[1:] ** 2,
    "makes the rates smaller": lambda r, left: r * left[1:] * left[:-1],
    "should be shape": lambda r, left: left,
}


@pytest.mark.parametrize(
    ("check", "words", "wrong"),
    [
        pytest.param(check, words, wrong, id=words)
        for check, answers in (
            (check_share_left, SHARE_LEFT),
            (check_shrink, SHRINK),
            (check_channel_rank, CHANNEL_RANK),
            (check_twin_rates, TWIN_RATES),
        )
        for words, wrong in answers.items()
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], words: str, wrong: Callable[..., Any]) -> None:
    verdict = check(wrong)
    assert not verdict.right
    assert words in verdict.message


def test_rates_of_the_twin_give_the_same_directions() -> None:
    """Gradient descent with decay on a function of the direction alone, beside its twin without decay."""
    torch.manual_seed(0)
    goal, start = torch.randn(2, 12, dtype=torch.float64)
    rates, decay = np.full(40, 0.5), 0.1
    left = np.concatenate([[1.0], np.cumprod(1 - rates * decay)])
    decayed, twin = start.clone().requires_grad_(), start.clone().requires_grad_()
    for rate, grown in zip(rates, twin_rates(rates, left), strict=True):
        for weight, lr, shrunk in ((decayed, rate, decay), (twin, grown, 0.0)):
            (gradient,) = torch.autograd.grad(-(goal @ weight) / weight.norm(), weight)
            weight.data = weight.data * (1 - lr * shrunk) - lr * gradient
    torch.testing.assert_close(left[-1] * twin, decayed)
    assert twin.norm() > 7 * decayed.norm()


def test_a_network_of_ones_own_is_checked_after_the_one_made_for_it() -> None:
    torch.manual_seed(0)
    own = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
    inputs = torch.randn(16, 5)
    verdict = check_free(free, own, inputs)
    assert verdict.right
    assert "1 of 2 matrices: 0.weight" in verdict.message

    forgot = check_free(lambda model, x: {"0.weight"} if model is own else free(model, x), own, inputs)
    assert forgot.right
    missing = check_free(lambda model, x: set() if model is own else free(model, x), own, inputs)
    assert not missing.right
    assert "0.weight is missing" in missing.message
    unknown = check_free(lambda model, x: {"7.weight"} if model is own else free(model, x), own, inputs)
    assert "no matrix '7.weight'" in unknown.message
    assert "on your own network: RuntimeError" in check_free(free, own, torch.randn(16, 4)).message


def test_a_network_without_normalisation_has_none() -> None:
    own = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    assert "0 of 2 matrices: none" in check_free(free, own, torch.randn(4, 5)).message


FREE = {
    "evaluation mode": lambda model, x: {"6.weight"},
    "all the matrices": lambda model, x: {f"{k}.weight" for k in (0, 3, 6, 8, 10)},
    "the others": lambda model, x: {f"{k}.weight" for k in (3, 8, 10)},
    "you find none": lambda model, x: set(),
    "one kind of normalisation only": lambda model, x: {"0.weight"},
    "these are the normalisation layers": lambda model, x: {"1", "7"},
    "raises TypeError": lambda model, x: free(model),  # type: ignore[call-arg]
    "returns nothing": lambda model, x: None,
}


@pytest.mark.parametrize(("words", "wrong"), FREE.items(), ids=list(FREE))
def test_a_typical_mistake_with_networks_is_named(words: str, wrong: Callable[..., Any]) -> None:
    verdict = check_free(wrong, *made_network())
    assert not verdict.right
    assert words in verdict.message


def test_a_function_that_changes_the_network_is_told_so() -> None:
    def careless(model: nn.Module, inputs: torch.Tensor) -> set[str]:
        found = free(model, inputs)
        model.get_parameter("0.weight").data *= 2
        return found

    assert "changes the weights" in check_free(careless, *made_network()).message
