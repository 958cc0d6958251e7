"""How a run is made: trained once, watched, kept under the name of its content, resumed when killed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import platform
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from tqdm.auto import tqdm

from specdyn.spectra import PairLike, Snapshot, feeds
from specdyn.tasks import Task, build
from specdyn.training.checkpoint import Checkpoint, load_state
from specdyn.training.files import replacing, runs_folder, writable
from specdyn.training.recorder import Recorder
from specdyn.training.recording import Recording

UNSEEN = 100
"""Losses that are looked at together, for every look waits until the device has computed them."""


class Constraint(Protocol):
    """A frozen dataclass that acts on the weights after every update, say by holding their norm."""

    def bind(self, model: nn.Module) -> Callable[[int, float], None]:
        """Look at the network as the run starts and return what is called with each update's number and learning rate.

        The learning rate is that of the optimizer's first group of parameters, the only one in most tasks.
        What it does depends on these and the weights alone, so that a run can be resumed.
        """


class Probe(Protocol):
    """A frozen dataclass that tries something on the network at every snapshot and reports numbers on it."""

    def __call__(self, task: Task, model: nn.Module, data: Any, snapshot: Snapshot) -> Mapping[str, float]:
        """Return what is recorded beside the task's metrics; the network is left as it is."""


class DivergedError(RuntimeError):
    """The loss left the finite numbers; the recording up to the last good snapshot is kept in ``run``."""

    def __init__(self, run: Run) -> None:
        super().__init__(
            f"{run.folder.name}: the loss is not finite at step {run.diverged_at}; the recording up to "
            f"step {run.recording.steps[-1]} is kept in {run.folder}: try a smaller learning rate"
        )
        self.run = run


@dataclass(frozen=True)
class Run:
    """One training with one seed, as it lies in its folder."""

    folder: Path
    task: Task
    seed: int

    @property
    def finished(self) -> bool:
        """Whether the run is complete; the marker is the last file to be written."""
        return (self.folder / "finished").exists()

    @property
    def recording(self) -> Recording:
        """Spectra and metrics over time."""
        return Recording.load(self.folder / "recording.npz")

    @property
    def diverged_at(self) -> int | None:
        """The step at which the loss was no longer finite, or None."""
        marker = self.folder / "finished"
        try:
            step = json.loads(marker.read_text())["diverged_at"]
        except (ValueError, KeyError) as error:
            raise ValueError(f"{marker} is damaged ({error}): delete its folder and run again") from error
        return None if step is None else int(step)

    @property
    def kept(self) -> list[int]:
        """Steps whose checkpoints were kept; the last step always is, unless the run diverged."""
        return sorted(int(path.stem.rpartition("-")[2]) for path in self.folder.glob("checkpoint-*.pt"))

    def checkpoint(self, step: int) -> Checkpoint:
        """Return the checkpoint of a step; raise ``ValueError`` where it was not kept."""
        if step not in self.kept:
            diverged_at = self.diverged_at if self.finished else None
            cure = (
                f"train again with keep=[..., {step}]" if diverged_at is None else f"it diverged at step {diverged_at}"
            )
            raise ValueError(f"{self.folder.name} kept no checkpoint of step {step}, only of {self.kept}: {cure}")
        return Checkpoint.load(self.folder / f"checkpoint-{step}.pt")

    def model(self, step: int | None = None) -> nn.Module:
        """Return the network at a kept step, by default the last, on the CPU."""
        model = build(self.task, self.seed)
        model.load_state_dict(self.checkpoint(self.task.steps if step is None else step).model)
        return model.eval()


def train(
    task: Task,
    seed: int,
    *,
    keep: Iterable[int] = (),
    start: Checkpoint | None = None,
    constraint: Constraint | None = None,
    probe: Probe | None = None,
    device: str = "auto",
    threads: int = 1,
    save_seconds: float = 10.0,
    progress: bool = True,
) -> Run:
    """Train a task with a seed, or return the run if it has been made before.

    ``keep``: steps whose checkpoints stay. ``start``: a checkpoint to branch from; the branch keeps its
    initialisation and data split and takes the order of the data from ``seed``. ``constraint`` acts on the
    weights after every update, ``probe`` reports on the network at every snapshot; both are part of the run's
    name. So is ``threads``, because it changes the last bits of every result. A killed run goes on where it was last
    saved, at most ``save_seconds`` of work earlier, and ends with the same bits as one never killed.

    Raises `DivergedError` where the loss is not finite, ``ValueError`` for an unknown or absent
    device, a step to keep that does not exist, a branch that begins after its end, or a damaged file.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed {seed!r} is no integer: give one such as 10")
    if threads < 1:
        raise ValueError(f"threads={threads}: a run needs at least one")
    where, keep = resolve_device(device), sorted(set(keep))
    first = start.step if start else 0
    if start and first > task.steps:
        raise ValueError(f"a branch from step {first} of {start.run} begins after its end {task.steps}: split earlier")
    if beyond := [step for step in keep if not first <= step <= task.steps]:
        raise ValueError(f"cannot keep steps {beyond}: the run goes from {first} to {task.steps}")
    description = _description(task, int(seed), keep, start, constraint, probe, where, threads)
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:12]
    run = Run(runs_folder() / f"{task.name}-{seed}-{digest}", task, int(seed))
    if not run.finished:
        with FileLock(writable(run.folder) / "lock"):
            if not run.finished:  # another process may just have made it
                with cpu_threads(threads):
                    _Session(run, description, start, constraint, probe, where).complete(
                        set(keep) | {task.steps}, save_seconds, progress
                    )
    if run.diverged_at is not None:
        raise DivergedError(run)
    return run


class _Session:
    """A run while it is being made."""

    def __init__(
        self,
        run: Run,
        description: dict[str, Any],
        start: Checkpoint | None,
        constraint: Constraint | None,
        probe: Probe | None,
        device: torch.device,
    ) -> None:
        self.probe = probe
        self.run, self.task, self.description, self.device = run, run.task, description, device
        self.origin = start.seed if start else run.seed
        self.model = build(self.task, self.origin).to(device)
        self.data = self.task.data(self.origin, device)
        self.optimizer = self.task.optimizer(self.model)
        self.schedule = self.task.schedule(self.optimizer)
        self.step = self.first = start.step if start else 0
        self.seconds = 0.0
        self.losses: list[Tensor] = []
        if start:
            start.restore(self.model, self.optimizer, self.schedule)
        self.constrain = constraint.bind(self.model) if constraint else lambda step, learning_rate: None
        self.recorder = self._resume()

    def complete(self, keep: set[int], save_seconds: float, progress: bool) -> None:
        """Make the rest of the run and mark it finished."""
        resumed_at = saved = time.perf_counter()
        before, diverged_at = self.seconds, None
        with progress_bar(self.task.name, self.task.steps, self.step, shown=progress) as bar:
            self._observe(keep)
            while self.step < self.task.steps:
                self._update()
                now = time.perf_counter()
                watched, due = self._watched(keep), now - saved >= save_seconds
                if watched or due or len(self.losses) == UNSEEN:
                    diverged_at = self._diverged_at(watched)
                    if diverged_at is not None:
                        break
                self._observe(keep)
                bar.update()
                self.seconds = before + time.perf_counter() - resumed_at
                if due:
                    self._save()
                    saved = now
        self._finish(diverged_at)

    def _update(self) -> None:
        loss = self.task.loss(self.model, self.task.batch(self.data, self.step, self.run.seed))
        self.losses.append(loss.detach())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        self.constrain(self.step, self.optimizer.param_groups[0]["lr"])
        self.schedule.step()

    def _diverged_at(self, watched: bool) -> int | None:
        """Return the step of the first loss not looked at yet that is not finite.

        Or this step, if it is to be kept and a weight is not finite: a gradient can be infinite while the loss is not.
        """
        first = self.step - len(self.losses)
        finite = torch.stack(self.losses).isfinite().tolist()
        self.losses.clear()
        if not all(finite):
            return first + int(finite.index(False))
        if watched and not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            return self.step
        return None

    def _watched(self, keep: set[int]) -> bool:
        return self.step in keep or self.recorder.due(self.step)

    def _observe(self, keep: set[int]) -> None:
        self.recorder(self.step)
        if self.recorder.snapshot:
            self.recorder(self.step, **self._measured(self.recorder.snapshot))
        if self.step in keep:
            self._checkpoint().save(self.run.folder / f"checkpoint-{self.step}.pt")

    @torch.no_grad()
    def _measured(self, snapshot: Snapshot) -> dict[str, float]:
        self.model.eval()
        metrics = dict(self.task.metrics(self.model, self.data))
        if self.probe:
            metrics |= self.probe(self.task, self.model, self.data, snapshot)
        self.model.train()
        return metrics

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint.of(self.run.folder.name, self.origin, self.step, self.model, self.optimizer, self.schedule)

    def _save(self) -> None:
        """Save state and recording in one file, so that they always belong to the same step."""
        recorded = {name: _plain(array) for name, array in self.recorder.state().items()}
        self._checkpoint().save(self._resume_file, recorded=recorded, seconds=self.seconds)

    def _resume(self) -> Recorder:
        """Return a recorder at the start of the run, or at the point at which it was last saved."""
        pairs = _pairs(self.task, self.model)
        if not self._resume_file.exists():
            return Recorder(self.model, self.task.snapshots, pairs, first=self.first)
        state = load_state(self._resume_file)
        checkpoint = Checkpoint.of_state(state)
        checkpoint.restore(self.model, self.optimizer, self.schedule)
        self.step, self.seconds = checkpoint.step, state["seconds"]
        recorded = {name: np.asarray(value) for name, value in state["recorded"].items()}
        return Recorder(self.model, self.task.snapshots, pairs, first=self.first, resumed=recorded)

    def _finish(self, diverged_at: int | None) -> None:
        provenance = {**self.description, **environment(self.device), "seconds": round(self.seconds, 1)}
        self.recorder.finish(provenance).save(self.run.folder / "recording.npz")
        with replacing(self.run.folder / "finished") as temporary:
            temporary.write_text(json.dumps({"diverged_at": diverged_at, "seconds": self.seconds}))
        for left_over in [self._resume_file, *self.run.folder.glob(".*")]:  # a kill leaves a half-written file
            left_over.unlink(missing_ok=True)

    @property
    def _resume_file(self) -> Path:
        return self.run.folder / "resume.pt"


def resolve_device(device: str) -> torch.device:
    """Return the device meant: ``"auto"`` is CUDA where there is one, else the CPU.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: choose auto, cpu or cuda") from error
    absent = chosen.type == "cuda" and not torch.cuda.is_available()
    if absent or (chosen.type == "mps" and not torch.backends.mps.is_available()):
        name = chosen.type.upper()
        raise ValueError(f"device {device!r} was asked for, but torch sees no {name} here: choose cpu or auto")
    return chosen


def _pairs(task: Task, model: nn.Module) -> Iterable[PairLike]:
    """Return the pairs that a task names, or those that the data flow of its network shows."""
    if not isinstance(task.pairs, str):
        return task.pairs
    if task.pairs not in ("direct", "all"):
        raise ValueError(f'pairs={task.pairs!r} of {task.name}: give pairs of names, "direct" or "all"')
    return [pair for pair in feeds(model) if task.pairs == "all" or pair.arrow != "+>"]


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a result depends on beside its settings: machine and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": f"{device.type} ({name})", "torch": torch.__version__, "python": platform.python_version()}


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use this many threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def progress_bar(name: str, total: int, initial: int = 0, *, shown: bool = True) -> Iterator[Any]:
    """Yield a progress bar on standard error, or in the file named by ``$SPECDYN_PROGRESS``."""
    with (
        _progress_stream(shown) as stream,
        tqdm(total=total, initial=initial, desc=name, file=stream, disable=not shown, leave=False) as bar,
    ):
        yield bar


@contextmanager
def _progress_stream(shown: bool) -> Iterator[IO[str]]:
    path = os.environ.get("SPECDYN_PROGRESS")
    if shown and path:
        with Path(path).open("w") as file:
            yield file
    else:
        yield sys.stderr


def _description(
    task: Task,
    seed: int,
    keep: list[int],
    start: Checkpoint | None,
    constraint: Constraint | None,
    probe: Probe | None,
    device: torch.device,
    threads: int,
) -> dict[str, Any]:
    """Everything that decides a run's result, from which its name is made."""
    return {
        "task": asdict(task),
        "code": [_code_of(type(part)) for part in (task, constraint, probe)],
        "seed": seed,
        "keep": keep,
        "start": [start.run, start.step, start.digest] if start else None,
        "constraint": repr(constraint) if constraint else None,
        "probe": repr(probe) if probe else None,
        "device_type": device.type,
        "threads": threads,
        "torch_release": torch.__version__.partition("+")[0],
        "library": science_hash(),
    }


@cache
def science_hash() -> str:
    """Return a hash of the code results depend on: syntax trees without comments and docstrings."""
    rooms = ("spectra", "tasks", "training", "interventions")
    package = Path(__file__).parents[1]
    files = sorted(path for room in rooms for path in (package / room).rglob("*.py"))
    trees = "\n".join(ast.dump(_without_docstrings(ast.parse(path.read_text("utf-8")))) for path in files)
    return hashlib.sha256(trees.encode()).hexdigest()[:12]


def _code_of(kind: type) -> str:
    """Return a class's name, and a hash of its code where it is not the library's own.

    Raises ``ValueError`` for a class whose code cannot be read: its runs could not be told from older ones.
    """
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.partition(".")[0] in ("specdyn", "builtins"):
        return name
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError) as error:
        raise ValueError(f"cannot read the code of {name}: define it in a file or a notebook cell") from error
    above = [_code_of(base) for base in kind.__bases__]
    return " ".join([name, hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()[:12], *above])


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return tree


def _plain(array: Any) -> Any:
    """Return what ``torch.load(weights_only=True)`` accepts: a tensor, or a string."""
    return str(array) if array.dtype.kind == "U" else torch.from_numpy(np.asarray(array))
