"""A sweep: many runs side by side, one process each, gathered in a table that can be selected from."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from specdyn.tasks import Task
from specdyn.training.checkpoint import Checkpoint
from specdyn.training.files import runs_folder
from specdyn.training.loop import Constraint, DivergedError, Probe, Run, train
from specdyn.training.recording import Array, Recording
from specdyn.training.side_by_side import side_by_side


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
    constraint: Mapping[str, Constraint | Mapping[int, Constraint]] | None = None,
    probe: Probe | None = None,
    keep: Collection[int] = (),
    device: str = "auto",
    workers: int | None = None,
    **axes: Iterable[Any] | Mapping[str, Iterable[Any]],
) -> Runs:
    """Train every task from every start under every constraint at every value of every axis with every seed.

    ``tasks``: one task, or several by name, which is then their label ``task``. ``start``: by name, for each
    seed a checkpoint to branch from. ``constraint``: by name, one for all seeds or one for each. ``probe``:
    what all runs report at their snapshots beside their metrics. ``axes``: fields of the task, such as
    ``weight_decay=[0.0, 1.0]``, or by the name of the task where they differ, ``weight_decay={"a": [0.0, 0.1],
    "b": [1.0]}``. ``keep``: steps whose checkpoints stay, in the runs that are long enough. ``workers``:
    processes at a time, by default one a core, each with one thread. Diverged runs stay in the table. Runs that
    exist are not repeated.

    Raises ``ValueError`` where there are no seeds or an axis is empty or leaves a task out, ``TypeError`` for a
    seed that is no integer or an axis the task does not have, ``KeyError`` for a seed without a checkpoint to
    start from or without its constraint.
    """
    names: list[str | None] = [*tasks] if isinstance(tasks, Mapping) else [None]
    by_task = {axis: _by_task(axis, values, names) for axis, values in axes.items()}
    chosen = {"start": start, "constraint": constraint, "task": tasks if isinstance(tasks, Mapping) else None}
    seeds = _values("seed", seed)
    labels: list[dict[str, Any]] = []
    for label in _product({name: _values(name, values) for name, values in chosen.items() if values is not None}):
        varied = {axis: values[label.get("task")] for axis, values in by_task.items()}
        labels += [label | row for row in _product({**varied, "seed": seeds})]
    jobs = []
    for label in labels:
        named = tasks[label["task"]] if isinstance(tasks, Mapping) else tasks
        task = replace(named, **{axis: label[axis] for axis in axes})
        job = {"task": task, "seed": label["seed"], "keep": [step for step in keep if step <= task.steps]}
        job["start"] = _of_seed("start", start, label)
        job["constraint"] = _of_seed("constraint", constraint, label)
        jobs.append({**job, "probe": probe})
    calls = [(str(runs_folder()), device, job) for job in jobs]
    return Runs(tuple(labels), tuple(side_by_side(_one, calls, device=device, workers=workers, name="runs")))


def _product(varied: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]


def _of_seed(what: str, named: Mapping[str, Any] | None, label: Mapping[str, Any]) -> Any:
    """Return what a run starts from or is held to: by name, and by seed where seeds differ."""
    if named is None:
        return None
    name, seed = label[what], label["seed"]
    if not isinstance(named[name], Mapping):
        return named[name]
    if seed not in named[name]:
        raise KeyError(f"{what} {name!r} has nothing for seed {seed}, only for {list(named[name])}: add it")
    return named[name][seed]


def _by_task(axis: str, values: Any, names: list[str | None]) -> dict[str | None, list[Any]]:
    """Return the values of an axis for each task; values that do not go by task are those of all."""
    if not isinstance(values, Mapping):
        return dict.fromkeys(names, _values(axis, values))
    if names == [None]:
        raise TypeError(f"{axis} goes by task, {list(values)}, and there is one task: give a list, {axis}=[...]")
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{axis} has values for {list(values)}, but the tasks are {names}: add {missing}")
    return {name: _values(axis, values[name]) for name in names}


def _values(axis: str, values: Any) -> list[Any]:
    """Return the values of an axis as a list, each once."""
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise TypeError(f"{axis}={values!r} is one value: give a list, {axis}=[{values!r}]")
    found = list(values)
    if not found or any(value in found[:i] for i, value in enumerate(found)):
        raise ValueError(f"{axis}={found} is empty or has doubles: give each value once, such as seed=[10, 11, 12]")
    return found


def _one(folder: str, device: str, job: Mapping[str, Any]) -> Run:
    """Train in a worker; a diverged run is a result, not a failure of the sweep."""
    os.environ["SPECDYN_RUNS"] = folder  # a worker keeps the environment it was started with
    try:
        return train(**job, device=device, progress=False)
    except DivergedError as error:
        return error.run
