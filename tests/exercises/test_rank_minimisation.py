"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.exercises import Verdict
from specdyn.exercises.rank_minimisation import (
    check_bottom_half,
    check_distances,
    check_explained,
    check_head_start,
    check_share_fell,
    made_recordings,
)


# The solutions as the chapter shows them.
def head_start(s: Any) -> Any:
    largest, median = s[:, 0], np.median(s, axis=1)
    return (largest[-1] / largest[0]) / (median[-1] / median[0])


def bottom_half(W: Any) -> Any:
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    k = ceil(len(s) / 2)
    return U[:, k:] @ np.diag(s[k:]) @ Vh[k:]


def distances(rates: Any, end: float) -> Any:
    squares = np.concatenate([[0], np.cumsum(rates**2)])
    return end * np.sqrt(squares / squares[-1])


def explained(values: Any, groups: Any) -> Any:
    means = np.array([values[groups == group].mean() for group in groups])
    return means.var() / values.var()


def share_fell(trained: Any, walk: Any) -> float:
    large = [name for name, shape in trained.shapes.items() if min(shape) >= 16]
    return float(np.mean([trained.effective_rank(name)[-1] < walk.effective_rank(name)[-1] for name in large]))


def linear(*widths: int) -> nn.Sequential:
    model = nn.Sequential(*(nn.Linear(n, m, bias=False) for n, m in itertools.pairwise(widths)))
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    return model


def own(*widths: int, last: float = 1.0) -> sd.Recording:
    """A recording of a network in which all rows but the first of the last layer are multiplied by ``last``."""
    model = linear(*widths)
    recorder = sd.Recorder(model, steps=[0, 5])
    model[-1].weight.data[1:] *= last
    recorder(5)
    return recorder.finish()


def named(verdict: Verdict) -> str:
    assert not verdict.right, verdict
    return verdict.message


@pytest.mark.parametrize(
    ("check", "solution"),
    [
        (check_head_start, head_start),
        (check_bottom_half, bottom_half),
        (check_distances, distances),
        (check_explained, explained),
    ],
)
def test_the_solution_is_right(check: Callable[..., Any], solution: Callable[..., Any]) -> None:
    verdict = check(solution)
    assert verdict.right, verdict


def test_the_last_solution_is_right_and_hears_of_its_own_network() -> None:
    verdict = check_share_fell(share_fell, own(20, 18, 17, last=0.0), own(20, 18, 17))
    assert verdict.right, verdict
    assert "further than in the walk in 50% of 2 matrices, most in 1.weight" in verdict.message


def test_the_made_recordings_hold_the_ranks_they_are_made_for() -> None:
    trained, walk = made_recordings()
    assert np.allclose(trained.effective_rank("late.weight"), np.array([16, 16, 4]) / 16)
    assert np.allclose(walk.effective_rank("small.weight"), 1.0)
    assert share_fell(trained, walk) == pytest.approx(2 / 7)


def walk_of(squares: Any, end: float) -> Any:
    """A walk whose squared distances grow so."""
    return end * np.sqrt(squares / squares[-1])


HEAD_START = {
    "was above it at the start as well": lambda s: s[-1, 0] / np.median(s[-1]),
    "difference of two factors": lambda s: s[-1, 0] / s[0, 0] - np.median(s[-1]) / np.median(s[0]),
    "upside down": lambda s: 1 / head_start(s),
    "growth of the largest alone": lambda s: s[-1, 0] / s[0, 0],
    "with the smallest": lambda s: s[-1, 0] / s[0, 0] / (s[-1, -1] / s[0, -1]),
    "median of all growths": lambda s: s[-1, 0] / s[0, 0] / np.median(s[-1] / s[0]),
    "mean instead of the median": lambda s: s[-1, 0] / s[0, 0] / (s[-1].mean() / s[0].mean()),
    "wrong axis": lambda s: head_start(s.T),
    "should be a single number": lambda s: s[-1] / s[0],
    "returns nothing": lambda s: None,
    "changes its input": lambda s: s.sort(axis=0),
}
BOTTOM_HALF = {
    "this is the top half": lambda W: W - bottom_half(W),
    "the top half has one more": lambda W: W - top(W, len(np.linalg.svd(W)[1]) // 2),
    "counts rows": lambda W: W - top(W, ceil(len(W) / 2)),
    "are missing between U and Vh": lambda W: unscaled(W),
    "the list of singular values": lambda W: np.linalg.svd(W, compute_uv=False)[ceil(min(W.shape) / 2) :],
    "half of the sum": lambda W: W - top(W, 1 + sum(np.cumsum(svals(W)) < svals(W).sum() / 2)),
    "your result has shape": lambda W: W[0],
    "changes its input": lambda W: W.fill(0),
    "raises LinAlgError": lambda W: np.linalg.inv(W[0]),
}
DISTANCES = {
    "adds up lengths": lambda r, end: end * np.append(0, np.cumsum(r)) / np.sum(r),
    "take the root": lambda r, end: end * np.append(0, np.cumsum(r**2)) / np.sum(r**2),
    "steps of equal length": lambda r, end: walk_of(np.arange(len(r) + 1), end),
    "the square of the rate": lambda r, end: walk_of(np.append(0, np.cumsum(r)), end),
    "the start is missing": lambda r, end: distances(r, end)[1:],
    "at the distance that is given": lambda r, end: np.sqrt(np.append(0, np.cumsum(r**2))),
    "should be": lambda r, end: end,
    "returns nothing": lambda r, end: None,
}
EXPLAINED = {
    "share within groups": lambda v, g: 1 - explained(v, g),
    "do not count alike": lambda v, g: np.var([v[g == k].mean() for k in set(g.tolist())]) / v.var(),
    "compares between with within": lambda v, g: explained(v, g) / (1 - explained(v, g)),
    "standard deviations": lambda v, g: explained(v, g) ** 0.5,
    "this is a variance": lambda v, g: explained(v, g) * v.var(),
    "should be a single number": lambda v, g: v,
    "raises IndexError": lambda v, g: v[99],
}
SHARE_FELL = {
    "counts every fall": lambda t, w: np.mean(
        [t.effective_rank(m)[-1] < t.effective_rank(m)[0] for m in t.matrices if min(t.shapes[m]) >= 16]
    ),
    "counts small matrices": lambda t, w: np.mean(
        [t.effective_rank(m)[-1] < w.effective_rank(m)[-1] for m in t.matrices]
    ),
    "a number of matrices": lambda t, w: share_fell(t, w) * sum(min(shape) >= 16 for shape in t.shapes.values()),
    "the wrong way round": lambda t, w: 1 - share_fell(t, w),
    "the lowest rank on the way": lambda t, w: over_time(t, w, np.min),
    "average over training": lambda t, w: over_time(t, w, np.mean),
    "returns nothing": lambda t, w: None,
    "raises AttributeError": lambda t, w: t.oops,
}


def svals(W: Any) -> Any:
    return np.linalg.svd(W, compute_uv=False)


def top(W: Any, k: int) -> Any:
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    return U[:, :k] @ np.diag(s[:k]) @ Vh[:k]


def unscaled(W: Any) -> Any:
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    k = ceil(len(s) / 2)
    return U[:, k:] @ Vh[k:]


def over_time(t: Any, w: Any, summary: Callable[..., Any]) -> Any:
    large = [m for m, shape in t.shapes.items() if min(shape) >= 16]
    return np.mean([summary(t.effective_rank(m)) < summary(w.effective_rank(m)) for m in large])


def check_own(answer: Callable[..., Any]) -> Verdict:
    return check_share_fell(answer, own(20, 18, 17, last=0.0), own(20, 18, 17))


@pytest.mark.parametrize(
    ("check", "words", "wrong"),
    [
        pytest.param(check, words, wrong, id=f"{check.__name__}: {words}")
        for check, answers in (
            (check_head_start, HEAD_START),
            (check_bottom_half, BOTTOM_HALF),
            (check_distances, DISTANCES),
            (check_explained, EXPLAINED),
            (check_own, SHARE_FELL),
        )
        for words, wrong in answers.items()
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], words: str, wrong: Callable[..., Any]) -> None:
    assert words in named(check(wrong))


@pytest.mark.parametrize(
    ("trained", "walk", "answer", "says"),
    [
        (own(20, 18), own(20, 18, 17), share_fell, "different networks"),
        (own(6, 8, 9), own(6, 8, 9), share_fell, "no matrix with 16 singular values"),
        (
            own(20, 18),
            own(20, 18),
            lambda t, w: share_fell(t, w) if "late.weight" in t.matrices else 1.0,
            "another share",
        ),
        (own(20, 18), own(20, 18), lambda t, w: share_fell(t, w) if "late.weight" in t.matrices else None, "TypeError"),
    ],
)
def test_what_only_goes_wrong_on_the_readers_network_is_named(
    trained: sd.Recording, walk: sd.Recording, answer: Callable[..., Any], says: str
) -> None:
    assert says in named(check_share_fell(answer, trained, walk))


def starter_head_start(s: Any) -> Any:
    return s[-1, 0] / np.median(s[-1])


def starter_bottom_half(W: Any) -> Any:
    U, s, Vh = np.linalg.svd(W, full_matrices=False)
    k = ceil(len(s) / 2)
    return U[:, :k] @ np.diag(s[:k]) @ Vh[:k]


def starter_distances(rates: Any, end: float) -> Any:
    travelled = np.concatenate([[0], np.cumsum(rates)])
    return end * travelled / travelled[-1]


def starter_between(values: Any, groups: Any) -> Any:
    return np.var([values[groups == group].mean() for group in np.unique(groups)]) / np.var(values)


def starter_share_fell(trained: Any, walk: Any) -> float:
    wide = [name for name, shape in trained.shapes.items() if min(shape) >= 16]
    return float(np.mean([trained.effective_rank(name)[-1] < trained.effective_rank(name)[0] for name in wide]))


@pytest.mark.parametrize(
    ("verdict", "named"),
    [
        (check_head_start(starter_head_start), "how far the largest is above the median at the end"),
        (check_bottom_half(starter_bottom_half), "this is the top half"),
        (check_distances(starter_distances), "this adds up lengths"),
        (check_explained(starter_between), "groups of different sizes do not count alike"),
        (check_share_fell(starter_share_fell, *made_recordings()), "this counts every fall"),
    ],
)
def test_what_the_page_begins_with_has_one_mistake_and_it_is_named(verdict: Verdict, named: str) -> None:
    assert not verdict.right
    assert named in verdict.message
