"""A checkpoint: the full state of a run at a step, from which it is branched, rewound or resumed."""

from __future__ import annotations

import copy
import hashlib
import pickle
import zipfile
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
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

    @property
    def digest(self) -> str:
        """A hash of the whole state, by which a branch names where it began."""
        found = hashlib.sha256(f"{self.seed} {self.step} {self.schedule}".encode())
        for tensor in [*self.model.values(), *_tensors(self.optimizer["state"])]:
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()[:12]

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
        return cls.of_state(state)

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Checkpoint:
        """Return the checkpoint in what ``load_state`` read."""
        return cls(**{name: state[name] for name in cls.__dataclass_fields__})


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read the file of a checkpoint, and what was saved beside it, as a dictionary of plain things.

    PyTorch does not look at the checksums in its files, so they are looked at here: a flipped bit would
    otherwise be a wrong weight. Raises ``ValueError`` naming a file that is damaged or no checkpoint.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            file.seek(0)
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
            missing = sorted(Checkpoint.__dataclass_fields__.keys() - state.keys())
        except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete its folder and run again") from error
    if damaged or missing:
        why = f"checksum of {damaged}" if damaged else f"it has no {', '.join(missing)}"
        raise ValueError(f"{path} is damaged ({why}): delete its folder and run again")
    return state


def _tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in nested dictionaries, in their order."""
    if isinstance(tree, dict):
        return [tensor for value in tree.values() for tensor in _tensors(value)]
    return [tree] if isinstance(tree, Tensor) else []
