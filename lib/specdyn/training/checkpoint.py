"""A checkpoint: the full state of a run at a step, from which it is branched, rewound or resumed."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from specdyn.training.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """State after ``step`` updates. Random draws are functions of (seed, step), so no generator is kept."""

    run: str
    """Name of the run it was taken from."""
    seed: int
    """Seed of the initialisation and of the data split, kept by every branch."""
    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]

    @classmethod
    def of(
        cls, run: str, seed: int, step: int, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler
    ) -> Checkpoint:
        """Copy the state of a run."""
        states = (model.state_dict(), optimizer.state_dict(), schedule.state_dict())
        return cls(run, seed, step, *copy.deepcopy(states))

    def restore(self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> None:
        """Put copies of the state back; learning rate and schedule go on where they were.

        Other hyperparameters (weight decay, betas) stay those of the optimizer that is given, so that a
        branch may change them. The copies matter: ``load_state_dict`` keeps references to the momentum
        buffers of the state it is given, and a second branch would start with the first one's momentum.
        """
        model.load_state_dict(self.model)
        state = copy.deepcopy(self.optimizer)
        kept = {"lr", "initial_lr", "params"}
        for theirs, ours in zip(state["param_groups"], optimizer.param_groups, strict=True):
            theirs.update({name: value for name, value in ours.items() if name not in kept})
        optimizer.load_state_dict(state)
        schedule.load_state_dict(copy.deepcopy(self.schedule))

    def save(self, path: Path, **beside: Any) -> None:
        """Write the checkpoint, and what belongs to the same moment beside it, whole or not at all."""
        with replacing(path) as temporary:
            torch.save({**vars(self), **beside}, temporary)

    @classmethod
    def load(cls, path: str | PathLike[str], device: torch.device | str = "cpu") -> Checkpoint:
        """Read a checkpoint without unpickling objects; raise ``ValueError`` naming a damaged file."""
        state = load_state(Path(path), device)
        return cls(**{name: state[name] for name in cls.__dataclass_fields__})


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read the file of a checkpoint as a dictionary of tensors, numbers and strings."""
    with path.open("rb") as file:
        try:
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete its folder and run again") from error
    return state
