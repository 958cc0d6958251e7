"""Recordings made by hand, on which an answer about recordings is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from specdyn.training import Recorder, Recording


def recorded(counts: Mapping[str, tuple[int, Sequence[int]]]) -> Recording:
    """Return a recording of square matrices of this size, with this many equal singular values at three steps.

    >>> recorded({"a": (4, (4, 2, 1))}).singular_values["a.weight"][1].tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    layers = {name: nn.Linear(size, size, bias=False) for name, (size, _) in counts.items()}

    def move_to(moment: int) -> None:
        for name, (size, used) in counts.items():
            layers[name].weight.data = torch.diag((torch.arange(size) < used[moment]).float())

    move_to(0)
    recorder = Recorder(nn.ModuleDict(layers), steps=[0, 1, 2])
    for step in (1, 2):
        move_to(step)
        recorder(step)
    return recorder.finish()
