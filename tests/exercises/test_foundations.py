"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.exercises import Verdict
from specdyn.exercises import foundations as check
from specdyn.exercises.foundations import random_rank


# The solutions as the chapter shows them.
def effective_rank(W: Any) -> float:
    s = np.linalg.svd(W, compute_uv=False)
    p = s / s.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()) / min(W.shape))


def components(W: Any, share: float) -> int:
    energy = np.linalg.svd(W, compute_uv=False) ** 2
    reached = energy.cumsum() / energy.sum() >= share
    return int(np.argmax(reached)) + 1


def alignment(first: Any, second: Any) -> Any:
    U, _, _ = np.linalg.svd(first, full_matrices=False)
    _, _, Vh = np.linalg.svd(second, full_matrices=False)
    k = min(U.shape[1], Vh.shape[0])
    return np.abs(np.sum(U[:, :k] * Vh[:k].T, axis=0))


def half_time(s: float, a0: float) -> float:
    return float(np.log(s / a0 - 1) / (2 * s))


def most_ordered(model: nn.Module) -> str:
    snapshot = sd.measure(model)
    ratio = {name: matrix.effective_rank / random_rank(matrix.shape) for name, matrix in snapshot.items()}
    return min(ratio, key=lambda name: ratio[name])


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=draw)
        model[2].weight[1:] = model[2].weight[:1]
    return model


def s_of(W: Any) -> Any:
    return np.linalg.svd(W, compute_uv=False)


def p_of(W: Any) -> Any:
    return s_of(W) / s_of(W).sum()


def H(p: Any, log: Any = np.log) -> float:
    p = p[p > 0]
    return float(-(p * log(p)).sum())


def wrong_sides(first: Any, second: Any) -> Any:
    V = np.linalg.svd(first, full_matrices=False)[2].T
    U = np.linalg.svd(second, full_matrices=False)[0]
    k = min(V.shape[1], U.shape[1])
    return np.abs((V[:, :k] * U[:, :k]).sum(axis=0))


def columns_of_Vh(first: Any, second: Any) -> Any:
    U, Vh = np.linalg.svd(first, full_matrices=False)[0], np.linalg.svd(second, full_matrices=False)[2]
    return np.abs([U[:, j] @ Vh[:, j] for j in range(min(U.shape[1], Vh.shape[1]))])


def full_table(first: Any, second: Any) -> Any:
    U, Vh = np.linalg.svd(first, full_matrices=False)[0], np.linalg.svd(second, full_matrices=False)[2]
    return np.abs(Vh @ U).T


def signed(first: Any, second: Any) -> Any:
    U, Vh = np.linalg.svd(first, full_matrices=False)[0], np.linalg.svd(second, full_matrices=False)[2]
    return np.array([U[:, j] @ Vh[j] for j in range(min(U.shape[1], len(Vh)))])


def spoiling(W: Any) -> float:
    W /= np.linalg.norm(W)
    return effective_rank(W)


def test_solutions_are_right() -> None:
    assert check.check_effective_rank(effective_rank).right
    assert check.check_components(components).right
    assert check.check_alignment(alignment).right
    assert check.check_half_time(half_time).right
    verdict = check.check_most_ordered(most_ordered, network())
    assert verdict.right
    assert "this is 2.weight, with effective rank 0.100; a random matrix has 0.9" in verdict.message


def test_the_library_is_right_too() -> None:
    def library(first: Any, second: Any) -> Any:
        return sd.alignment(*(sd.decompose(torch.from_numpy(W)) for W in (first, second)))

    assert check.check_alignment(library).right
    assert check.check_effective_rank(lambda W: sd.effective_rank(s_of(W))).right


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda W: H(p_of(W)), "this is the entropy H"),
        (lambda W: np.exp(H(p_of(W))), "this is exp(H), a number of directions"),
        (lambda W: H(p_of(W)) / min(W.shape), "the paper's Equation 1"),
        (lambda W: H(p_of(W)) / np.log(min(W.shape)), "H / log R"),
        (lambda W: np.exp(H(s_of(W) ** 2 / (s_of(W) ** 2).sum())) / min(W.shape), "are squared"),
        (lambda W: np.exp(H(p_of(W))) / len(W), "number of rows m"),
        (lambda W: np.exp(H(p_of(W))) / W.shape[1], "number of columns n"),
        (lambda W: np.exp(H(p_of(W), np.log2)) / min(W.shape), "base 2"),
        (lambda W: np.exp(H(p_of(W), np.log10)) / min(W.shape), "base 10"),
        (lambda W: np.exp(H(s_of(W))) / min(W.shape), "not normalised"),
        (lambda W: np.exp(-(p_of(W) * np.log(p_of(W))).sum()) / min(W.shape), "exactly zero gives NaN"),
        (spoiling, "changes its input (a random 6 x 4 matrix)"),
        (s_of, "shape (4,); it should be a single number"),
        (lambda W: None, "returns nothing"),
        (lambda W: ..., "returns nothing"),
        (lambda W: "low", "returns str, not numbers"),
        (lambda W: 0.01, "less than it should be"),
        (lambda W: W.undefined, "raises AttributeError"),
        (lambda: 1, "raises TypeError"),
    ],
)
def test_effective_rank_mistakes_are_named(wrong: Callable[..., Any], says: str) -> None:
    assert says in named(check.check_effective_rank(wrong))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda W, share: int((p_of(W).cumsum() < share).sum()) + 1, "sum of their squares"),
        (lambda W, share: components(W, share) - 1, "one too few"),
        (lambda W, share: components(W, share) + 1, "one too many"),
        (lambda W, share: components(W, share) / min(W.shape), "share of the components"),
        (
            lambda W, share: int(((s_of(W)[::-1] ** 2).cumsum() < share * (s_of(W) ** 2).sum()).sum()) + 1,
            "from the smallest",
        ),
        (lambda W, share: 3, "than it should be"),
    ],
)
def test_component_mistakes_are_named(wrong: Callable[..., Any], says: str) -> None:
    assert says in named(check.check_components(wrong))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (signed, "signs are still there"),
        (full_table, "diagonal of that table"),
        (wrong_sides, "They meet at the other ends"),
        (columns_of_Vh, "row j of Vh, not column j"),
        (lambda a, b: alignment(a, b.T), "output vectors of both layers"),
        (lambda a, b: alignment(a, b) ** 2, "square of the cosine"),
        (lambda a, b: alignment(a, b).mean(), "Return one number for each"),
        (lambda a, b: alignment(a, b)[:3], "shape (3,); it should be shape (5,)"),
    ],
)
def test_alignment_mistakes_are_named(wrong: Callable[..., Any], says: str) -> None:
    assert says in named(check.check_alignment(wrong))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda s, a0: np.log(s / a0 - 1) / s, "factor 2 is missing"),
        (lambda s, a0: np.log(s / a0) / (2 * s), "close for a small start"),
        (lambda s, a0: np.log10(s / a0 - 1) / 2 / s, "base 10"),
        (lambda s, a0: -np.log(s / a0 - 1) / (2 * s), "minus the time"),
        (lambda s, a0: 0.5 * np.log(s / a0 - 1), "divide by 2 s"),
    ],
)
def test_half_time_mistakes_are_named(wrong: Callable[..., Any], says: str) -> None:
    assert says in named(check.check_half_time(wrong))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda model: min(sd.measure(model).values(), key=lambda m: m.effective_rank).name, "its own shape"),
        (
            lambda model: max(sd.measure(model).values(), key=lambda m: m.effective_rank / random_rank(m.shape)).name,
            "asks for the fewest",
        ),
        (lambda model: "1.bias", "'1.bias', which is not it"),
        (lambda model: None, "returns nothing"),
        (lambda model: model[99], "raises IndexError"),
        (lambda model: "1.weight", "your model has no matrix '1.weight'; it has 0.weight, 2.weight"),
    ],
)
def test_own_model_mistakes_are_named(wrong: Callable[..., Any], says: str) -> None:
    verdict = check.check_most_ordered(wrong, network())
    assert says in verdict.message
    assert not verdict.right


def test_an_answer_that_only_fails_on_the_readers_model_is_named() -> None:
    def one_size(model: nn.Module) -> str:
        return "1.weight" if isinstance(model[1], nn.Linear) else "0.weight"

    assert "further below chance than 0.weight" in named(check.check_most_ordered(one_size, network()))
    with torch.no_grad():
        (broken := network())[0].weight[0, 0] = float("nan")
    assert "0.weight: 1 of 600 entries" in named(check.check_most_ordered(most_ordered, broken))


def named(verdict: Verdict) -> str:
    assert not verdict.right
    assert str(verdict) == f"Not yet: {verdict.message}"
    return verdict.message


def test_verdicts_show_themselves_escaped() -> None:
    verdict = Verdict(False, "1 < 2")
    assert verdict._repr_html_() == '<p class="verdict not-yet" role="status">Not yet: 1 &lt; 2</p>'
    assert repr(Verdict(True, "so.")) == "Right: so."
