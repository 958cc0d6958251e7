"""Branches: where a second training sets out from a moment of the first."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn

from specdyn.training import Checkpoint


def with_weights(checkpoint: Checkpoint, model: nn.Module) -> Checkpoint:
    """Return the checkpoint with the weights and buffers of this network, and everything else as it was.

    Optimizer, schedule, step and seed are those of the trunk, so that a branch differs by what was done to the
    network alone: a mask with BatchNorm's statistics estimated again, signs without sizes, noise.

    Raises ``ValueError`` naming what the network has and the checkpoint has not, or what differs in shape.

    >>> from specdyn.tasks import build, modular_addition
    >>> task = modular_addition("smoke")
    >>> one, two = build(task, 0), build(task, 1)
    >>> optimizer = task.optimizer(one)
    >>> trunk = Checkpoint.of("trunk", 0, 0, one, optimizer, task.schedule(optimizer))
    >>> branch = with_weights(trunk, two)
    >>> branch.step == trunk.step, branch.digest == trunk.digest
    (True, False)
    """
    theirs = {name: tuple(tensor.shape) for name, tensor in checkpoint.model.items()}
    state = copy.deepcopy(model.state_dict())
    ours = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if different := sorted({name for name, _ in theirs.items() ^ ours.items()}):
        name = different[0]
        raise ValueError(
            f"the network does not fit the checkpoint of {checkpoint.run} at step {checkpoint.step}: of "
            f"{len(different)} that differ {name} is {ours.get(name, 'absent')} in the network and "
            f"{theirs.get(name, 'absent')} in the checkpoint: give a network of the same task"
        )
    return replace(checkpoint, model=state)
