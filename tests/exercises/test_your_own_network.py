"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.exercises import Verdict
from specdyn.exercises.your_own_network import (
    check_furthest,
    check_kernel_rank,
    check_settles,
    check_stands_out,
    made_recordings,
)


# The solutions as the chapter shows them.
def kernel_rank(weight: Any) -> float:
    s = np.linalg.svd(weight.reshape(len(weight), -1), compute_uv=False)
    return float(sd.effective_rank(s))


def stands_out(scores: Any, d: Any) -> str:
    return max(scores, key=lambda pair: scores[pair] / sd.alignment_chance(d[pair]))


def settles(steps: Any, agreement: Any, level: float) -> Any:
    stays = np.logical_and.accumulate((agreement >= level)[::-1])[::-1]
    return steps[stays][0]


def furthest(trained: Any, walk: Any) -> str:
    ratio = {name: trained.effective_rank(name)[-1] / walk.effective_rank(name)[-1] for name in trained.matrices}
    return max(ratio, key=lambda name: abs(np.log(ratio[name])))


def linear(*widths: int) -> nn.Sequential:
    model = nn.Sequential(*(nn.Linear(n, m, bias=False) for n, m in itertools.pairwise(widths)))
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    return model


def own(*widths: int, last: float = 1.0, steps: Any = (0, 5)) -> sd.Recording:
    """A recording of a network in which all rows but the first of the last layer are multiplied by ``last``."""
    model = linear(*widths)
    recorder = sd.Recorder(model, steps=steps)
    model[-1].weight.data[1:] *= last
    for step in steps:
        recorder(step)
    return recorder.finish()


def named(verdict: Verdict) -> str:
    assert not verdict.right, verdict
    return verdict.message


@pytest.mark.parametrize(
    ("check", "solution"),
    [(check_kernel_rank, kernel_rank), (check_stands_out, stands_out), (check_settles, settles)],
)
def test_the_solution_is_right(check: Callable[..., Any], solution: Callable[..., Any]) -> None:
    verdict = check(solution)
    assert verdict.right, verdict


def test_the_last_solution_is_right_and_hears_of_its_own_network() -> None:
    verdict = check_furthest(furthest, own(6, 8, 9, last=0.0), own(6, 8, 9))
    assert verdict.right, verdict
    assert verdict.message.startswith("in your network this is 1.weight, with effective rank 0.125")


def test_the_made_recordings_hold_the_ranks_they_are_made_for() -> None:
    trained, walk = made_recordings()
    assert np.allclose(trained.effective_rank("early.weight"), np.array([12, 2, 10]) / 12)
    assert np.allclose(walk.effective_rank("wide.weight"), np.array([12, 12, 5]) / 12)


def rank_of(s: Any) -> float:
    return float(np.mean(sd.effective_rank(s)))


def svals(W: Any) -> Any:
    return np.linalg.svd(W, compute_uv=False)


KERNEL = {
    "a row for every pair": lambda w: rank_of(svals(w.reshape(-1, w.shape[2] * w.shape[3]))),
    "a row for every input channel": lambda w: rank_of(svals(np.moveaxis(w, 1, 0).reshape(w.shape[1], -1))),
    "mean over the small kernels": lambda w: rank_of(svals(w)),
    "mean over the positions": lambda w: rank_of(svals(np.moveaxis(w, (2, 3), (0, 1)))),
    "centre of the kernel only": lambda w: rank_of(svals(w[..., w.shape[2] // 2, w.shape[3] // 2])),
    "a number of directions": lambda w: rank_of(svals(w.reshape(len(w), -1))) * min(len(w), math.prod(w.shape[1:])),
    "should be a single number": lambda w: sd.effective_rank(svals(w)),
    "changes its input": lambda w: w.sort(axis=0),
    "returns nothing": lambda w: None,
    "raises AxisError": lambda w: w.mean(axis=7),
}
STANDS_OUT = {
    "the highest score": lambda s, d: max(s, key=s.get),
    "subtracts the chance level": lambda s, d: max(s, key=lambda p: s[p] - sd.alignment_chance(d[p])),
    "closest to chance": lambda s, d: min(s, key=lambda p: s[p] / sd.alignment_chance(d[p])),
    "the most dimensions": lambda s, d: max(d, key=d.get),
    "not how far it is above chance": lambda s, d: max(s[p] / sd.alignment_chance(d[p]) for p in s),
    "which is not it": lambda s, d: "c -> a",
    "returns nothing": lambda s, d: None,
    "raises KeyError": lambda s, d: d["c -> a"],
}
SETTLES = {
    "first time that the level is reached": lambda s, a, level: s[a >= level][0],
    "a place in the array": lambda s, a, level: list(s).index(settles(s, a, level)),
    "the last step below": lambda s, a, level: s[a < level][-1] if (a < level).any() else s[0],
    "there from the start": lambda s, a, level: s[np.flatnonzero(a < level)[-1] + 1],
    "counts the steps": lambda s, a, level: int((a >= level).sum()),
    "should be a single number": lambda s, a, level: s[a >= level],
    "returns nothing": lambda s, a, level: None,
}
FURTHEST = {
    "compare the end of training with its start": lambda t, w: max(
        t.matrices, key=lambda n: abs(np.log(t.effective_rank(n)[-1] / t.effective_rank(n)[0]))
    ),
    "look for the lowest rank": lambda t, w: min(t.matrices, key=lambda n: t.effective_rank(n)[-1]),
    "only for ranks that fell": lambda t, w: min(
        t.matrices, key=lambda n: t.effective_rank(n)[-1] / w.effective_rank(n)[-1]
    ),
    "compare differences": lambda t, w: max(
        t.matrices, key=lambda n: abs(t.effective_rank(n)[-1] - w.effective_rank(n)[-1])
    ),
    "average over training": lambda t, w: max(
        t.matrices, key=lambda n: abs(np.log(t.effective_rank(n).mean() / w.effective_rank(n).mean()))
    ),
    "which is not it": lambda t, w: "0.weight",
    "returns nothing": lambda t, w: None,
    "raises AttributeError": lambda t, w: t.oops,
}


def check_own(answer: Callable[..., Any]) -> Verdict:
    return check_furthest(answer, own(6, 8, 9, last=0.0), own(6, 8, 9))


@pytest.mark.parametrize(
    ("check", "words", "wrong"),
    [
        pytest.param(check, words, wrong, id=f"{check.__name__}: {words}")
        for check, answers in (
            (check_kernel_rank, KERNEL),
            (check_stands_out, STANDS_OUT),
            (check_settles, SETTLES),
            (check_own, FURTHEST),
        )
        for words, wrong in answers.items()
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], words: str, wrong: Callable[..., Any]) -> None:
    assert words in named(check(wrong))


def only_on_the_made_ones(otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """An answer that is right on the recordings made for the check and another one on the reader's."""
    return lambda t, w: furthest(t, w) if "rose.weight" in t.matrices else otherwise(t, w)


@pytest.mark.parametrize(
    ("otherwise", "says"),
    [
        (lambda t, w: "7.weight", "your network has no matrix '7.weight'; it has 0.weight, 1.weight."),
        (lambda t, w: "0.weight", "another matrix is further from its walk than 0.weight"),
        (lambda t, w: t.oops, "on your own recordings: AttributeError"),
        (lambda t, w: ["0.weight"], "your network has no matrix"),
    ],
)
def test_an_answer_that_only_fails_on_the_readers_network_is_named(otherwise: Callable[..., Any], says: str) -> None:
    assert says in named(check_own(only_on_the_made_ones(otherwise)))


def test_recordings_that_do_not_belong_together_are_named() -> None:
    assert "different networks" in named(check_furthest(furthest, own(6, 8, 9), own(6, 8)))
    assert "has 2 snapshots and the training 3" in named(
        check_furthest(furthest, own(6, 8, 9, steps=(0, 2, 5)), own(6, 8, 9))
    )


def test_a_matrix_that_collapsed_is_furthest_and_no_error() -> None:
    with np.errstate(divide="ignore"):
        verdict = check_furthest(furthest, own(6, 8, 1, last=1.0), collapsed(6, 8, 1))
    assert verdict.right, verdict
    assert "this is 0.weight" in verdict.message


def collapsed(*widths: int) -> sd.Recording:
    model = linear(*widths)
    recorder = sd.Recorder(model, steps=[0, 5])
    model[0].weight.data.zero_()
    recorder(5)
    return recorder.finish()
