"""The same function for many jobs: results in order, one thread each, errors not swallowed."""

import os
import time

import pytest
import torch

from specdyn.training import side_by_side


def test_results_come_in_the_order_of_the_jobs_and_not_in_that_of_their_ends() -> None:
    def slow(seconds: float, answer: str) -> str:
        time.sleep(seconds)
        return answer

    jobs = [(0.5, "first"), (0.0, "second"), (0.0, "third")]
    assert side_by_side(slow, jobs, workers=2) == ["first", "second", "third"]


def test_a_job_has_one_thread_in_another_process() -> None:
    def where(_: int) -> tuple[int, int]:
        return os.getpid(), torch.get_num_threads()

    for process, threads in side_by_side(where, [(0,), (1,)], workers=1):
        assert process != os.getpid()
        assert threads == 1


def test_no_jobs_give_nothing() -> None:
    assert side_by_side(divmod, []) == []


def test_an_error_is_raised_as_it_was_and_the_next_call_works() -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side(divmod, [(1, 1), (1, 0)], workers=1)
    assert side_by_side(divmod, [(5, 3)], workers=1) == [(1, 2)]


def test_a_device_that_is_not_there_is_named_before_anything_is_done() -> None:
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        side_by_side(divmod, [(1, 0)], device="gpu")
