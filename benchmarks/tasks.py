"""What a run of each of the four tasks costs, and how much of it goes into watching. Everything measured in one go.

    python benchmarks/tasks.py            # the laptop tier; or: python benchmarks/tasks.py smoke

1. Each task in a process of its own, in one thread: its CPU seconds, runs a minute, peak memory, and shares. The
   recorder (spectra, vectors, alignment, agreement), the metrics and the probe that cuts the network in two are shares
   of training, which is what is left without them and the making of the data.
2. All four, twice each, in one sweep of as many processes as there are cores: runs a minute.
"""

import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any
from unittest import mock

import specdyn as sd
from specdyn.interventions import Truncation

SEEDS = (0, 1)


class Stopwatch:
    """CPU seconds by part; what a part calls is its own, whatever part it is otherwise."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running = False

    @contextmanager
    def watching(self, methods: list[tuple[str, type, str]]) -> Iterator[None]:
        """Count what methods of classes take, (part, class, method), each to its part."""
        with ExitStack() as stack:
            for part, kind, name in methods:
                stack.enter_context(mock.patch.object(kind, name, self._timed(part, getattr(kind, name))))
            yield

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._running:
                return function(*arguments, **named)
            self._running, began = True, time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[part] += time.process_time() - began
                self._running = False

        return timed


def run_alone(name: str, tier: str) -> tuple[dict[str, float], float]:
    """Train a task once in this process; return the CPU seconds of its parts, and the peak memory in MB."""
    task, watch = sd.tasks.four_tasks(tier)[name], Stopwatch()
    parts = [("recorder", sd.Recorder, method) for method in ("__init__", "__call__", "finish")]
    parts += [("data", type(task), "data"), ("metrics", type(task), "metrics"), ("probe", Truncation, "__call__")]
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, SPECDYN_RUNS=folder):
        began = time.process_time()
        with watch.watching(parts):
            sd.train(task, SEEDS[0], probe=Truncation(), device="cpu", progress=False)
        whole = time.process_time() - began
    seconds = dict(watch.seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    return seconds | {"training": whole - sum(seconds.values()), "whole": whole}, peak


def sweep(tier: str) -> tuple[int, float]:
    """Train all four tasks with two seeds in one sweep; return the number of runs and the seconds."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, SPECDYN_RUNS=folder):
        began = time.perf_counter()
        runs = sd.sweep(sd.tasks.four_tasks(tier), seed=SEEDS, probe=Truncation(), device="cpu")
        return len(runs), time.perf_counter() - began


def row(name: str, seconds: dict[str, float], peak: float) -> str:
    """Return what there is to say of a task in one line."""
    share = {part: seconds[part] / seconds["training"] for part in ("recorder", "probe", "metrics")}
    return (
        f"{name:<11}{seconds['whole']:>7.1f}{60 / seconds['whole']:>10.1f}{seconds['data']:>8.1f}"
        f"{share['recorder']:>10.1%}{share['metrics']:>9.1%}{share['probe']:>8.1%}{peak:>9.0f}"
    )


def main(tier: str) -> None:
    """Print the table and the sweep."""
    print(f"{tier} tier, {os.cpu_count()} cores, one thread a run")
    print("task         CPU s  runs/min  data s  recorder  metrics   probe  peak MB")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        for name in sd.tasks.four_tasks(tier):
            print(row(name, *fresh.submit(run_alone, name, tier).result()), flush=True)
    count, seconds = sweep(tier)
    print(
        f"sweep of {count} runs, starting the processes included: {seconds:.1f} s, {60 * count / seconds:.1f} a minute"
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "laptop")
