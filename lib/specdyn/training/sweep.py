"""A sweep: many runs side by side, one process each, gathered in a table that can be selected from."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from loky import get_reusable_executor

from specdyn.tasks import Task
from specdyn.training.checkpoint import Checkpoint
from specdyn.training.files import runs_folder
from specdyn.training.loop import Constraint, DivergedError, Run, progress_bar, resolve_device, train
from specdyn.training.recording import Array, Recording

RUNS_PER_GPU = 4
"""Small networks leave a GPU idle between kernels; a few processes fill it."""


@dataclass(frozen=True)
class Runs(Sequence[Run]):
    """Runs with the labels by which they are told apart."""

    labels: tuple[Mapping[str, Any], ...]
    runs: tuple[Run, ...]

    def sel(self, **wanted: Any) -> Runs:
        """Return the runs with these labels; raise ``KeyError`` where there are none."""
        chosen = [i for i, row in enumerate(self.labels) if wanted.items() <= row.items()]
        if not chosen:
            raise KeyError(f"no run has {wanted}: the labels are {[dict(row) for row in self.labels]}")
        return Runs(tuple(self.labels[i] for i in chosen), tuple(self.runs[i] for i in chosen))

    def stack(self, quantity: str | Callable[[Recording], Array]) -> Array:
        """Stack a metric, or any function of a recording, over the runs: (runs, ...), in their order.

        Raises ``ValueError`` naming the runs that diverged: leave them out with `sel`.
        """
        diverged = [
            dict(label) for label, run in zip(self.labels, self.runs, strict=True) if run.diverged_at is not None
        ]
        if diverged:
            raise ValueError(f"runs that diverged cannot be stacked, leave them out with sel: {diverged}")
        recordings = [run.recording for run in self.runs]
        if isinstance(quantity, str):
            return np.stack([recording.metrics[quantity] for recording in recordings])
        return np.stack([quantity(recording) for recording in recordings])

    @property
    def table(self) -> pd.DataFrame:
        """A row a run: its labels, where it diverged if it did, and its last metrics."""
        rows = [
            {**row, "diverged_at": run.diverged_at}
            | {name: values[-1] for name, values in run.recording.metrics.items()}
            for row, run in zip(self.labels, self.runs, strict=True)
        ]
        return pd.DataFrame(rows)

    def __getitem__(self, index: Any) -> Any:
        return self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)


def sweep(
    tasks: Task | Mapping[str, Task],
    *,
    seed: Iterable[int],
    start: Mapping[str, Mapping[int, Checkpoint]] | None = None,
    constraint: Mapping[str, Constraint] | None = None,
    keep: Collection[int] = (),
    device: str = "auto",
    workers: int | None = None,
    **axes: Iterable[Any],
) -> Runs:
    """Train every task from every start under every constraint at every value of every axis with every seed.

    ``tasks``: one task, or several by name, which is then their label ``task``. ``start``: by name, for each
    seed a checkpoint to branch from. ``constraint``: constraints by name. ``axes``: fields of the task, such
    as ``weight_decay=[0.0, 1.0]``. ``keep``: steps whose checkpoints stay, in the runs that are long enough.
    ``workers``: processes at a time, by default one a core, each with one thread. Diverged runs stay in the
    table. Runs that exist are not repeated.

    Raises ``ValueError`` where there are no seeds or an axis is empty, ``TypeError`` for a seed that is no
    integer or an axis the task does not have, ``KeyError`` for a seed without a checkpoint to start from.
    """
    chosen: dict[str, Any] = {} if start is None else {"start": start}
    chosen |= {} if constraint is None else {"constraint": constraint}
    chosen |= {"task": tasks} if isinstance(tasks, Mapping) else {}
    varied = {name: _values(name, values) for name, values in {**chosen, **axes, "seed": seed}.items()}
    labels = [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]
    jobs = []
    for label in labels:
        named = tasks[label["task"]] if isinstance(tasks, Mapping) else tasks
        task = replace(named, **{axis: label[axis] for axis in axes})
        job = {"task": task, "seed": label["seed"], "keep": [step for step in keep if step <= task.steps]}
        job["start"] = start[label["start"]][label["seed"]] if start else None
        job["constraint"] = constraint[label["constraint"]] if constraint else None
        jobs.append(job)
    where = resolve_device(device)
    limit = RUNS_PER_GPU if where.type == "cuda" else os.cpu_count() or 1
    return Runs(tuple(labels), tuple(_all(jobs, str(where), workers or limit)))


def _values(axis: str, values: Any) -> list[Any]:
    """Return the values of an axis as a list, each once."""
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise TypeError(f"{axis}={values!r} is one value: give a list, {axis}=[{values!r}]")
    found = list(values)
    if not found or any(value in found[:i] for i, value in enumerate(found)):
        raise ValueError(f"{axis}={found} is empty or has doubles: give each value once, such as seed=[10, 11, 12]")
    return found


def _all(jobs: list[dict[str, Any]], device: str, workers: int) -> list[Run]:
    executor = get_reusable_executor(max_workers=min(workers, len(jobs)), timeout=60)
    folder = str(runs_folder())  # a worker keeps the environment it was started with
    futures = [executor.submit(_one, folder, device=device, **job) for job in jobs]
    try:
        with progress_bar("runs", len(jobs)) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update()
    except BaseException:
        executor.shutdown(kill_workers=True)
        raise
    return [future.result() for future in futures]


def _one(folder: str, **job: Any) -> Run:
    """Train in a worker; a diverged run is a result, not a failure of the sweep."""
    os.environ["SPECDYN_RUNS"] = folder
    try:
        return train(**job, progress=False)
    except DivergedError as error:
        return error.run
