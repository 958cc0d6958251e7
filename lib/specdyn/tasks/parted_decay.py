"""Image classification with weight decay on some parts of the network, or with growing steps in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from specdyn.tasks.image_classification import ImageClassification

PARTS = ("convolutions", "rest")


@dataclass(frozen=True)
class PartedDecay(ImageClassification):
    """The image task with coupled weight decay on the parts named in ``on``.

    ``"convolutions"`` are the weights that a normalisation stands behind; ``"rest"`` are the scales and shifts of
    that normalisation, all biases, and the last layer.

    ``growing``: where convolutions have no decay, give them the steps of a network that has. Let P_t be what the
    optimizer leaves of a weight without gradient after t steps. As the function does not depend on the scale of
    a convolution, W_t / P_t follows the same optimizer without decay at learning rates eta_t / (P_t P_(t+1)): the
    same directions at every step, with a norm that grows (Li and Arora 2020, theorem 2.4).

    Raises ``ValueError`` for an unknown part, decay that is decoupled, growing steps beside decay, or a decay
    so strong that momentum carries a weight without gradient beyond zero.
    """

    on: tuple[str, ...] = PARTS
    growing: bool = False

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        super().__post_init__()
        if unknown := set(self.on) - set(PARTS):
            raise ValueError(f"on={self.on} has {min(unknown)!r}: choose among {', '.join(PARTS)}")
        if self.decoupled:
            raise ValueError("decay on parts is coupled to the gradient: set decoupled=False")
        if self.growing and "convolutions" in self.on:
            raise ValueError("growing steps stand in the place of decay: take 'convolutions' out of on")

    def optimizer(self, model: nn.Module) -> Optimizer:
        """SGD with the two parts as its groups."""
        convolutions = [weight for weight in model.parameters() if weight.ndim == 4]
        rest = [weight for weight in model.parameters() if weight.ndim != 4]
        groups = [
            {"params": weights, "weight_decay": self.weight_decay if part in self.on else 0.0}
            for part, weights in zip(PARTS, (convolutions, rest), strict=True)
        ]
        return SGD(groups, self.learning_rate, momentum=0.9, fused=True)

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """A tenth after each milestone; for growing convolutions divided by what decay would have left."""
        rates, left = self.paced()
        paces = [rates / (left[:-1] * left[1:]) if self.growing else rates, rates]
        shares = [np.append(pace / self.learning_rate, 0.0).tolist() for pace in paces]  # no step is left at the end
        return LambdaLR(optimizer, list(map(_at_step, shares)))

    def paced(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the learning rate of every update, and what decay leaves, before the first and after each of them.

        >>> from specdyn.tasks import image_classification
        >>> rates, left = parted_decay(image_classification("smoke", weight_decay=0.01)).paced()
        >>> len(rates), len(left), round(float(left[1]), 4)  # the first step takes 0.1 x 0.01
        (24, 25, 0.999)
        """
        lone = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(lone.weight)
        lone.weight.grad = torch.zeros_like(lone.weight)
        optimizer = super().optimizer(lone)
        schedule, rates, left = super().schedule(optimizer), [], [1.0]
        for _ in range(self.steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            schedule.step()
            left.append(lone.weight.item())
        if self.growing and min(left) <= 0:
            raise ValueError(
                f"weight_decay={self.weight_decay} at learning rate {self.learning_rate} and momentum 0.9 carries "
                f"weights beyond zero at step {int(np.argmax(np.array(left) <= 0))}: growing steps need a weaker decay"
            )
        return np.array(rates), np.array(left)


def _at_step(shares: list[float]) -> Callable[[int], float]:
    return lambda step: shares[step]


def parted_decay(task: ImageClassification, **changes: Any) -> PartedDecay:
    """Return an image task with its decay on some parts, ``on``, or with ``growing`` steps; other fields stay.

    >>> from specdyn.tasks import image_classification
    >>> task = parted_decay(image_classification("laptop"), on=("rest",), growing=True)
    >>> task.weight_decay == image_classification("laptop").weight_decay
    True
    """
    return PartedDecay(**{field.name: getattr(task, field.name) for field in fields(ImageClassification)}, **changes)
