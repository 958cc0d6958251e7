"""A probe of what a network does on test data while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from specdyn.spectra import Snapshot


@dataclass(frozen=True)
class OnTestData:
    """A probe that reports the task's ``quality`` at every snapshot: how good a rule to stop by would have been.

    It is for judging such rules, not for making them: whoever chooses by these numbers has no test data left.
    Raises ``TypeError`` for a task that has no test data.

    >>> import torch
    >>> from specdyn.spectra import measure
    >>> from specdyn.tasks import build, noisy_labels
    >>> task = noisy_labels("smoke")
    >>> model = build(task, 0)
    >>> list(OnTestData()(task, model.eval(), task.data(0, torch.device("cpu")), measure(model)))
    ['test_loss', 'test_error']
    """

    def __call__(self, task: Any, model: nn.Module, data: Any, snapshot: Snapshot) -> Mapping[str, float]:
        """Return what the task says of the network on its test data."""
        if not hasattr(task, "quality"):
            raise TypeError(f"{task.name} has no test data: give it quality(model, data), or leave this probe out")
        found: Mapping[str, float] = task.quality(model, data)
        return found
