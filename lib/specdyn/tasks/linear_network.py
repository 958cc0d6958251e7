"""A two-layer linear network learns a family tree, whose learning curve is known exactly (Saxe et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from specdyn.tasks.task import at_tier


class TwoLayers(nn.Module):
    """Two linear layers without biases: as a function just their product, as a learner more than that."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden, bias=False)
        self.second = nn.Linear(hidden, outputs, bias=False)

    @property
    def product(self) -> Tensor:
        """The matrix (outputs, inputs) the network computes with."""
        return self.second.weight @ self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return the product applied to inputs (N, inputs)."""
        y: Tensor = self.second(self.first(x))
        return y


def family_tree(depth: int) -> Tensor:
    """Return the properties (2^(depth+1) - 1, 2^depth) of the leaves of a binary tree, 0 or 1.

    Row by row from the root: a leaf has a property if it lies under that node. Two leaves share as many
    properties as they have common ancestors, so the singular values follow by hand: their squares are
    2^(j+1) - 1 for j = depth, once, and for j = depth - 1, ..., 0, in turn 1, 2, 4, ... times.

    >>> family_tree(1).tolist()
    [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    >>> [round(x, 3) for x in torch.linalg.svdvals(family_tree(2)).square().tolist()]
    [7.0, 3.0, 1.0, 1.0]
    """
    leaves = 2**depth
    levels = [torch.eye(2**level).repeat_interleave(leaves // 2**level, dim=1) for level in range(depth + 1)]
    return torch.cat(levels)


@dataclass(frozen=True)
class LinearNetwork:
    """Gradient descent on half the squared distance of ``second @ first`` to a family tree.

    This is the squared error on one-hot inputs, every leaf shown once a step; learning rate times step is
    the time of the closed form. ``reverse`` turns the strengths of the branches round: the finest
    distinctions get the largest singular values, the directions stay. ``initial`` chooses the first
    weights. ``"decoupled"``: each mode of the tree begins with strength ``strength`` and in its own hidden
    direction, drawn at random. ``"random"``: Gaussian weights whose product has entries of that size.
    ``imbalance`` multiplies the second layer and divides the first, so that the function stays the same.
    """

    depth: int
    hidden: int
    reverse: bool
    initial: Literal["decoupled", "random"]
    strength: float
    imbalance: float
    learning_rate: float
    steps: int
    every: int
    name: str = "linear-network"

    @property
    def snapshots(self) -> range:
        """Every so many steps, from initialisation to the last."""
        return range(0, self.steps + 1, self.every)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The first layer feeds the second."""
        return (("first.weight", "second.weight"),)

    @property
    def target(self) -> Tensor:
        """The matrix the network learns: the tree, or its singular values turned round."""
        tree = family_tree(self.depth)
        if not self.reverse:
            return tree
        U, S, Vh = torch.linalg.svd(tree.double(), full_matrices=False)
        turned: Tensor = U * (S[0] * S[-1] / S) @ Vh
        return turned.float()

    @property
    def modes(self) -> tuple[Tensor, Tensor, Tensor]:
        """U (outputs, r), S (r,) and V (inputs, r) of the target, the strongest distinction first."""
        U, S, Vh = torch.linalg.svd(self.target.double(), full_matrices=False)
        return U.float(), S.float(), Vh.mT.float()

    def model(self) -> TwoLayers:
        """The network at its start."""
        outputs, inputs = self.target.shape
        network = TwoLayers(inputs, self.hidden, outputs)
        starts = {"decoupled": self._decoupled, "random": self._random}
        if self.initial not in starts:
            raise ValueError(f"unknown start {self.initial!r}: choose one of {', '.join(starts)}")
        first, second = starts[self.initial](inputs, outputs)
        with torch.no_grad():
            network.first.weight.copy_(first / self.imbalance)
            network.second.weight.copy_(second * self.imbalance)
        return network

    def _decoupled(self, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        U, S, V = self.modes
        if self.hidden < len(S):
            raise ValueError(f"hidden={self.hidden} is too narrow to give {len(S)} modes a direction each")
        directions = torch.linalg.qr(torch.randn(self.hidden, len(S))).Q
        return self.strength**0.5 * directions @ V.mT, self.strength**0.5 * U @ directions.mT

    def _random(self, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        # An entry of the product sums `hidden` products of two weights, so its size is hidden^(1/2) scale^2.
        scale = self.strength**0.5 / self.hidden**0.25
        return scale * torch.randn(self.hidden, inputs), scale * torch.randn(outputs, self.hidden)

    def data(self, seed: int, device: torch.device) -> Tensor:
        """The tree; the seed changes the initial weights alone."""
        return self.target.to(device)

    def batch(self, data: Tensor, step: int, seed: int) -> Tensor:
        """All leaves, every step."""
        return data

    def inputs(self, data: Tensor) -> list[Tensor]:
        """Every leaf, one-hot."""
        return [torch.eye(data.shape[1], device=data.device)]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Half the squared Frobenius distance: the outputs at all one-hot inputs against the tree."""
        leaves = torch.eye(batch.shape[1], device=batch.device)
        missing: Tensor = model(leaves).mT - batch
        return 0.5 * missing.square().sum()

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Plain gradient descent."""
        return SGD(model.parameters(), lr=self.learning_rate)

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """Constant."""
        return LambdaLR(optimizer, lambda step: 1.0)

    def metrics(self, model: nn.Module, data: Tensor) -> dict[str, float]:
        """The loss and its share left, each mode's strength u' W2 W1 v, and the product's singular values."""
        U, _, V = (part.to(data) for part in self.modes)
        product = model(torch.eye(data.shape[1], device=data.device)).mT
        strengths = (U * (product @ V)).sum(0).tolist()
        spectrum = torch.linalg.svdvals(product.double()).tolist()
        loss = float(self.loss(model, data))
        return {
            "loss": loss,
            "share_left": loss / (0.5 * float(data.square().sum())),
            **{f"mode_{k}": value for k, value in enumerate(strengths, 1)},
            **{f"product_{k}": value for k, value in enumerate(spectrum, 1)},
        }


_LAPTOP = LinearNetwork(
    depth=3, hidden=16, reverse=False, initial="decoupled", strength=1e-3, imbalance=1.0, learning_rate=4e-3,
    steps=1_500, every=15,
)  # fmt: skip
_TIERS = {
    "smoke": replace(_LAPTOP, learning_rate=1e-2, steps=600, every=8),
    "laptop": _LAPTOP,
    "gpu": replace(_LAPTOP, depth=5, hidden=64, learning_rate=1.5e-3, steps=4_000, every=40),
    "paper": replace(_LAPTOP, depth=7, hidden=256, learning_rate=7.5e-4, steps=8_000, every=80),
}


def linear_network(tier: str = "laptop", **changes: Any) -> LinearNetwork:
    """Return the two-layer linear network of a tier, with any field changed by name.

    >>> linear_network("laptop", initial="random").target.shape
    torch.Size([15, 8])
    """
    return replace(at_tier(_TIERS, tier), **changes)
