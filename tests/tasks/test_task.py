"""What all tasks share: when they look at their networks, and what they refuse."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from specdyn.tasks import image_generation, language_modeling, speech_recognition
from specdyn.tasks.task import at_least_one, doubling, in_fifths, one_of


@dataclass(frozen=True)
class Settings:
    sound: str = "tone"
    size: Any = 4
    count: int = 1


def test_steps_double_up_to_the_distance_that_is_then_kept() -> None:
    assert doubling(8, 20) == (0, 1, 2, 4, 8, 16, 20)
    assert doubling(9, 20) == (0, 1, 2, 4, 8, 9, 18, 20)
    assert doubling(1, 3) == (0, 1, 2, 3)


def test_the_papers_steps_are_fifths_rounded_down_and_then_epochs() -> None:
    assert in_fifths(7, 20) == (0, 1, 2, 3, 4, 7, 14, 20)
    assert in_fifths(1, 3) == (0, 1, 2, 3)
    assert in_fifths(3, 6) == (0, 1, 2, 3, 6)
    for every, epochs, count in ((352, 164, 169), (422, 100, 105), (892, 50, 55), (222, 10, 15)):
        assert len(in_fifths(every, epochs * every)) == count  # of the paper's four tasks


@pytest.mark.parametrize("cadence", [doubling, in_fifths])
def test_nothing_is_due_after_the_end(cadence: Any) -> None:
    assert cadence(100, 3)[-1] == 3
    assert cadence(100, 0) == (0,)
    assert speech_recognition("smoke", steps=3, every=100).snapshots == (0, 1, 2, 3)
    assert language_modeling("smoke", steps=3, every=100).snapshots == (0, 3)


def test_the_paper_tier_looks_as_often_as_the_paper_where_its_tasks_have_its_steps() -> None:
    assert [len(task("paper").snapshots) for task in (image_generation, language_modeling)] == [105, 15]


@pytest.mark.parametrize("size", [0, -3, 0.5, float("nan")])
def test_a_size_below_one_is_named_with_its_value(size: float) -> None:
    at_least_one(Settings(), "size", "count")
    with pytest.raises(ValueError, match=f"size={size}: it has to be at least 1"):
        at_least_one(Settings(size=size), "count", "size")


def test_an_unknown_choice_is_named_with_those_there_are() -> None:
    one_of(Settings(), sound=("noise", "tone"))
    with pytest.raises(ValueError, match=re.escape("unknown sound 'ton': choose one of noise, tone")):
        one_of(Settings(sound="ton"), sound=("noise", "tone"))
