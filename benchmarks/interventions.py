"""What it costs to hold a network to a mask, or to a low rank, while it is trained. Everything measured in one go.

    python benchmarks/interventions.py            # the laptop tier; or: python benchmarks/interventions.py paper

Of each network the CPU milliseconds of an update in one thread, and what is added to it. Batches are noise: the making
of them, which every training needs as well, is left out, and so the shares are a little higher than in a run.
"""

import sys
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import specdyn as sd
from specdyn.interventions import LowRank, Masked, magnitude_mask, rank_within
from specdyn.tasks.image_data import SOURCES
from specdyn.training import Constraint

KEPT = 0.05
UPDATES = {"smoke": 30, "laptop": 300, "gpu": 20, "paper": 20}
EVERY = 10
"""Updates after which a network is projected to its rank."""


def holds(model: nn.Module) -> dict[str, Constraint]:
    """Return what can hold the network, by name: a mask, and matrices of as many numbers, or of one component."""
    mask = magnitude_mask(model, KEPT, scope="layer")
    shapes = {name: tuple(keep.shape) for name, keep in mask.keep.items()}
    ranks = {name: max(1, rank_within(shape, int(KEPT * shape[0] * shape[1]))) for name, shape in shapes.items()}
    return {"mask": Masked(mask), f"rank, every {EVERY}": LowRank(ranks, EVERY)}


def measured(task: Any, name: str, updates: int) -> tuple[float, float]:
    """Return the CPU milliseconds of an update, and those that the named hold adds, on average over updates."""
    torch.set_num_threads(1)
    model = sd.tasks.build(task, 0)
    optimizer, hold = task.optimizer(model), holds(model)[name].bind(model)
    source = SOURCES[task.dataset]
    images = torch.randn(task.batch_size, len(source.mean), source.side, source.side)
    labels = torch.arange(task.batch_size) % source.classes
    updating = holding = 0.0
    for step in range(1 - EVERY, updates + 1):  # the first ones make buffers
        began = time.process_time()
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        updated = time.process_time()
        hold(step, task.learning_rate)
        if step > 0:
            updating, holding = updating + updated - began, holding + time.process_time() - updated
    return 1e3 * updating / updates, 1e3 * holding / updates


def row(task: str, name: str, update: float, hold: float) -> str:
    """Return what there is to say of a hold in one line."""
    return f"{task:<22}{name:<16}{update:>10.2f}{hold:>9.3f}{hold / update:>8.1%}"


def main(tier: str) -> None:
    """Print the table."""
    print(f"{tier} tier, one thread, {KEPT:.0%} of the weights")
    print("task                  hold            update ms  hold ms   share")
    for task in (sd.tasks.noisy_labels(tier), sd.tasks.image_classification(tier)):
        for name in holds(sd.tasks.build(task, 0)):
            print(row(task.name, name, *measured(task, name, UPDATES[tier])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "laptop")
