"""What a task is: a frozen configuration that can make its model, data, batches and optimizer."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

TIERS = ("smoke", "laptop", "gpu", "paper")
"""From a test of seconds on any CPU to the paper's own protocol. A tier changes numbers, never the code path."""

T = TypeVar("T")


class Task(Protocol):
    """A frozen dataclass whose fields name everything a run depends on, save the seed.

    ``data`` and ``batch`` draw at random only from `generator`, keyed by seed and step, so that the
    place in the data is a function of (seed, step) and a resumed run repeats the uninterrupted one exactly.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """The task's name in the names of its runs."""

    @property
    def steps(self) -> int:
        """Number of updates of a whole run."""

    @property
    def snapshots(self) -> Iterable[int]:
        """Steps at which spectra and metrics are taken."""

    @property
    def pairs(self) -> Iterable[tuple[str, str]] | Literal["direct", "all"]:
        """Names of matrices of which the first feeds the second, whose alignment is recorded.

        Or those that the data flow shows: ``"direct"`` ones, or ``"all"``, with those across skip connections.
        """

    def model(self) -> nn.Module:
        """A fresh network; `build` makes it with a seed."""

    def data(self, seed: int, device: torch.device) -> Any:
        """Everything a run reads, on its device."""

    def batch(self, data: Any, step: int, seed: int) -> Any:
        """The examples of one update."""

    def inputs(self, data: Any) -> Iterable[Any]:
        """Batches of training inputs, from which statistics such as BatchNorm's are estimated again."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar that is minimised."""

    def optimizer(self, model: nn.Module) -> Optimizer:
        """The optimizer over the model's parameters."""

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """The learning-rate schedule, stepped after every update."""

    def metrics(self, model: nn.Module, data: Any) -> Mapping[str, float]:
        """What is reported at a snapshot, on training and held-out data."""


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator that depends on the whole key, and on nothing else.

    >>> bool(torch.rand(1, generator=generator(3, "split")) == torch.rand(1, generator=generator(3, "split")))
    True
    """
    return torch.Generator().manual_seed(_mixed(*key))


def build(task: Task, seed: int) -> nn.Module:
    """Return the task's network at initialisation; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_mixed(seed, "initialisation"))  # of the CPU; CUDA's stays as it is
        return task.model()


def learning_rates(task: Task) -> NDArray[np.float64]:
    """Return the learning rate of every update of a run (steps,), as optimizer and schedule of a task have it.

    >>> from specdyn.tasks import image_classification
    >>> learning_rates(image_classification("smoke"))[[0, 17, 18, 23]].round(3).tolist()
    [0.1, 0.1, 0.01, 0.01]
    """
    optimizer = task.optimizer(nn.Linear(1, 1))
    schedule, rates = task.schedule(optimizer), []
    for _ in range(task.steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return np.array(rates)


def minibatch(count: int, size: int, step: int, seed: int, device: torch.device) -> Tensor:
    """Return the indices of the examples of a step, on the device; every epoch shows each of them once.

    The order of an epoch follows from (seed, epoch) alone; the last batch of an epoch may be short.
    Raises ``ValueError`` for a batch without examples.

    >>> cpu = torch.device("cpu")
    >>> sorted(torch.cat([minibatch(5, 2, step, seed=0, device=cpu) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4]
    """
    if size < 1 or count < 1:
        raise ValueError(f"a batch of {size} from {count} examples: both have to be at least 1")
    epoch, place = divmod(step, -(-count // size))
    return _order(count, epoch, seed, device)[place * size : (place + 1) * size]


@lru_cache(maxsize=2)  # the epoch that is running; moved to the device once, so that no batch waits for the CPU
def _order(count: int, epoch: int, seed: int, device: torch.device) -> Tensor:
    return torch.randperm(count, generator=generator(seed, "order", epoch)).to(device)


def doubling(every: int, steps: int) -> tuple[int, ...]:
    """Return steps 0, 1, 2, 4, 8 and so on up to the distance ``every``, which is kept from there to the end.

    >>> doubling(20, 70)
    (0, 1, 2, 4, 8, 16, 20, 40, 60, 70)
    """
    return _snapshots([2**k for k in range((every - 1).bit_length())], every, steps)


def in_fifths(every: int, steps: int) -> tuple[int, ...]:
    """Return the paper's steps: the beginning, four within the first ``every`` updates, and then one every so many.

    Where ``every`` is an epoch that is the checkpoints of the official code, which rounds the fifths down.

    >>> in_fifths(422, 1000)
    (0, 84, 168, 252, 336, 422, 844, 1000)
    """
    return _snapshots(range(0, every, max(1, every // 5))[:5], every, steps)


def _snapshots(early: Iterable[int], every: int, steps: int) -> tuple[int, ...]:
    return tuple(sorted({step for step in (*early, *range(0, steps, every)) if step < steps} | {steps}))


def at_least_one(task: object, *names: str) -> None:
    """Raise ``ValueError``, naming the field and its value, where a field of the task is below 1."""
    for name in names:
        if not getattr(task, name) >= 1:
            raise ValueError(f"{name}={getattr(task, name)}: it has to be at least 1")


def one_of(task: object, **choices: Collection[str]) -> None:
    """Raise ``ValueError``, naming the choices, where a field of the task is none of those that are given for it."""
    for name, known in choices.items():
        if getattr(task, name) not in known:
            raise ValueError(f"unknown {name} {getattr(task, name)!r}: choose one of {', '.join(known)}")


def at_tier(settings: Mapping[str, T], tier: str) -> T:
    """Return the settings of a tier.

    >>> at_tier({"smoke": 1, "laptop": 2}, "gpuu")
    Traceback (most recent call last):
    ValueError: unknown tier 'gpuu': choose one of smoke, laptop
    """
    if tier not in settings:
        raise ValueError(f"unknown tier {tier!r}: choose one of {', '.join(settings)}")
    return settings[tier]


def _mixed(*key: int | str) -> int:
    """Hash a key to 32 bits, the same in every process (Python's own hash of a string is not)."""
    return zlib.crc32("/".join(map(str, key)).encode())
