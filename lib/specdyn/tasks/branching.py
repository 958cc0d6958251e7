"""Branching: from where, how often and how long networks go separate ways, for what they still share at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specdyn.tasks.four_tasks import four_tasks
from specdyn.tasks.task import Task, at_tier

_EPOCHS = {
    "smoke": {"images": 16},
    "laptop": {"images": 32},
    "gpu": {"images": 352, "generation": 422, "speech": 188, "language": 127},
    "paper": {"images": 352, "generation": 422, "speech": 892, "language": 222},
}
_PARTING = {
    "smoke": (0, 0.5, 1),
    "laptop": (0, 0.5, 2, 5),
    "gpu": (0, 0.2, 1, 3),
    "paper": (0, 0.2, 0.4, 0.6, 0.8, 1, 2, 3, 4, 5),
}
# With the decay of the other pages a laptop's network forgets its beginning within an epoch or two.
_DECAY = {"smoke": 1e-3, "laptop": 1e-3, "gpu": 1e-3, "paper": 1e-4}
_ORDERS = {"smoke": (110, 210), "laptop": (110, 210), "gpu": (110, 210), "paper": (110, 210, 310)}
_PATH = (0.0125, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.625, 0.75, 0.875)


@dataclass(frozen=True)
class Branching:
    """A task of which trunks are trained, and branches part from them (paper section 7.3).

    ``epoch``: updates in one pass through the training data. ``splits``: the steps at which branches part. ``path``:
    those whose checkpoints show the way. ``orders``: the seeds by which branches order their data, the same for
    all trunks.
    """

    task: Task
    epoch: int
    splits: tuple[int, ...]
    path: tuple[int, ...]
    orders: tuple[int, ...]


def branching(tier: str = "laptop") -> dict[str, Branching]:
    """Return by name the tasks of a tier with the plan of their branches: images at the lower tiers, else all four.

    The paper tier has the paper's split points (section 7.3): five in the first epoch, from initialisation on, and the
    ends of the first five.

    >>> branching("laptop")["images"].splits
    (0, 16, 64, 160)
    """
    tasks = four_tasks(tier)
    tasks["images"] = replace(tasks["images"], weight_decay=at_tier(_DECAY, tier))
    return {
        name: Branching(
            task=tasks[name],
            epoch=epoch,
            splits=tuple(round(share * epoch) for share in at_tier(_PARTING, tier)),
            path=tuple(sorted({round(share * tasks[name].steps) for share in _PATH})),
            orders=at_tier(_ORDERS, tier),
        )
        for name, epoch in at_tier(_EPOCHS, tier).items()
    }
