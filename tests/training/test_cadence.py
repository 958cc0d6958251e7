"""When snapshots are due: spaced as asked, and refused with the cure where the steps make no sense."""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import specdyn as sd
from specdyn.training.cadence import cadence, evenly_spaced, next_due


@pytest.mark.parametrize("spaced", [sd.log_spaced, evenly_spaced])
@pytest.mark.parametrize(("last", "count"), [(1, 2), (10, 100), (10_000, 100), (7, 3), (10**9, 1000)])
def test_spaced_steps_have_both_ends_and_no_doubles(spaced: object, last: int, count: int) -> None:
    steps = spaced(last, count)
    assert steps[0] == 0
    assert steps[-1] == last
    assert steps == sorted(set(steps))
    assert len(steps) <= count
    assert cadence(steps) == tuple(steps)


def test_evenly_spaced_steps_differ_by_one_at_most() -> None:
    gaps = np.diff(evenly_spaced(1000, 13))
    assert gaps.max() - gaps.min() <= 1
    assert len(gaps) == 12


def test_log_spaced_steps_grow_by_one_factor() -> None:
    steps = np.array(sd.log_spaced(10**9, 10)[1:])
    np.testing.assert_allclose(steps[1:] / steps[:-1], 10 ** (9 / 8), rtol=0.05)


@pytest.mark.parametrize("spaced", [sd.log_spaced, evenly_spaced])
@pytest.mark.parametrize(("last", "count"), [(0, 5), (10, 1)])
def test_there_must_be_something_to_space(spaced: object, last: int, count: int) -> None:
    with pytest.raises(ValueError, match=rf"spaced\({last}, {count}\): need last >= 1 and count >= 2"):
        spaced(last, count)


@given(st.lists(st.integers(0, 200), unique=True), st.integers(-1, 250))
def test_the_next_step_due_is_the_first_one_after(steps: list[int], step: int) -> None:
    expected = min((s for s in steps if s > step), default=math.inf)
    assert next_due(cadence(sorted(steps)), step) == expected


@given(st.integers(1, 50), st.integers(-1, 250))
def test_every_so_many_steps_has_no_end(distance: int, step: int) -> None:
    assert next_due(cadence(distance), step) == next(s for s in itertools.count(0, distance) if s > step)


@pytest.mark.parametrize(
    "steps",
    [range(0, 30, 10), np.arange(0, 30, 10), torch.arange(0, 30, 10), iter([0, 10, 20]), {0: "", 10: "", 20: ""}],
    ids=["range", "array", "tensor", "iterator", "keys"],
)
def test_steps_may_be_anything_that_gives_integers(steps: Iterable[int]) -> None:
    assert cadence(steps) == (0, 10, 20)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([0, 10, 5], r"vectors must increase, but 5 comes after 10: give sorted\(set\(vectors\)\)"),
        ([0, 5, 5], r"vectors must increase, but 5 comes after 5: give sorted\(set\(vectors\)\)"),
        ([-1, 0], r"vectors has -1: give sorted\(step for step in vectors if step >= 0\)"),
        ([0, 2.5], r"vectors has 2\.5, which is no integer: give sorted\(\{int\(step\) for step in vectors\}\)"),
        (np.geomspace(1, 100, 5), r"vectors has .*1\.0.*, which is no integer: give sorted"),
        ([False, True], r"vectors has False, which is no integer"),
        ("10", r"vectors has '1', which is no integer"),
        (0, r"vectors=0: one integer is a distance between snapshots, at least 1"),
        (-5, r"vectors=-5: one integer is a distance"),
        (100.0, r"vectors has 100\.0, which is no integer"),
        (True, r"vectors has True, which is no integer"),
        (itertools.count(0, 10), r"vectors has more than 1,000,000 entries: .* give one integer"),
    ],
)
def test_steps_that_make_no_sense_are_refused_with_the_cure(steps: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cadence(steps, "vectors")


@given(st.lists(st.integers(0, 100), min_size=2))
def test_the_cure_that_is_named_works(steps: list[int]) -> None:
    assert cadence(sorted(set(steps))) == tuple(sorted(set(steps)))
    assert cadence(sorted({int(step) for step in np.array(steps, dtype=float)})) == tuple(sorted(set(steps)))
