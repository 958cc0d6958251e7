"""The parts of a run are told apart, and add up to the whole."""

import time

import pytest

from benchmarks import tasks as benchmark


class Work:
    """Spends processor time under several names."""

    def spend(self, seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    def inner(self) -> None:
        self.spend(0.02)

    def outer(self) -> None:
        self.spend(0.03)
        self.inner()


def test_a_part_within_a_part_belongs_to_the_outer_one() -> None:
    watch, work, plain = benchmark.Stopwatch(), Work(), Work.inner
    with watch.watching([("in", Work, "inner"), ("out", Work, "outer")]):
        work.outer()
        work.inner()
    assert watch.seconds["out"] == pytest.approx(0.05, abs=0.01)
    assert watch.seconds["in"] == pytest.approx(0.02, abs=0.01)
    assert Work.inner is plain


def test_the_parts_of_a_run_add_up_and_make_a_row() -> None:
    seconds, peak = benchmark.run_alone("generation", "smoke")
    parts = ["training", "recorder", "metrics", "probe", "data"]
    assert all(seconds[part] > 0 for part in parts)
    assert sum(seconds[part] for part in parts) == pytest.approx(seconds["whole"])
    assert 100 < peak < 2000
    line = benchmark.row(
        "generation", {"training": 10, "recorder": 0.5, "metrics": 1, "probe": 2, "data": 1.5, "whole": 15}, 512
    )
    assert line.split() == ["generation", "15.0", "4.0", "1.5", "5.0%", "10.0%", "20.0%", "512"]
