"""Side by side: the same function for many jobs, one process each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed
from typing import Any

from loky import get_reusable_executor

from specdyn.training.loop import cpu_threads, progress_bar, resolve_device

RUNS_PER_GPU = 4
"""Small networks leave a GPU idle between kernels; a few processes fill it."""


def side_by_side(
    call: Callable[..., Any],
    jobs: Iterable[tuple[Any, ...]],
    *,
    device: str = "auto",
    workers: int | None = None,
    name: str = "jobs",
) -> list[Any]:
    """Return what a function makes of each job, its arguments, in their order.

    ``workers``: processes at a time, by default one a core, or four where the ``device`` is a GPU; each has one thread.
    Function, arguments and results are sent between processes, so they are better small. Where one job fails the others
    are stopped, and its error is raised. ``name`` is what the progress bar counts.

    >>> side_by_side(divmod, [(7, 2), (9, 4)], workers=1)
    [(3, 1), (2, 1)]
    """
    jobs = list(jobs)
    limit = RUNS_PER_GPU if resolve_device(device).type == "cuda" else os.cpu_count() or 1
    executor = get_reusable_executor(max_workers=max(1, min(workers or limit, len(jobs))), timeout=60)
    futures = [executor.submit(_with_one_thread, call, *job) for job in jobs]
    try:
        with progress_bar(name, len(jobs)) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update()
    except BaseException:
        executor.shutdown(kill_workers=True)
        raise
    return [future.result() for future in futures]


def _with_one_thread(call: Callable[..., Any], *job: Any) -> Any:
    with cpu_threads(1):
        return call(*job)
