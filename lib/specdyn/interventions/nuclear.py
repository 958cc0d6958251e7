"""Decay of singular values by the same amount each: the nuclear norm in the place of the Frobenius norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from specdyn.spectra import decompose, matrices


@dataclass(frozen=True)
class ShrinkNuclear:
    """Subtract learning rate times ``rate`` from every singular value per update, down to zero.

    This is the proximal step of ``rate`` times the nuclear norm, the sum of the singular values (Cai, Candes and
    Shen 2010, theorem 2.1). Decoupled weight decay is that of half the squared Frobenius norm: it takes the same
    *share* of every singular value, this takes the same *amount*. It is done once in ``every`` updates, for all of
    them together, since it takes a decomposition of every matrix.

    >>> import torch
    >>> layer = nn.Linear(2, 2)
    >>> with torch.no_grad(): _ = layer.weight.copy_(torch.diag(torch.tensor([3.0, 0.5])))
    >>> shrink = ShrinkNuclear(rate=2.0, every=5).bind(layer)
    >>> for step in range(1, 11):
    ...     shrink(step, 0.05)
    >>> [round(value, 4) for value in layer.weight.diagonal().tolist()]
    [2.0, 0.0]
    """

    rate: float
    every: int = 10

    def __post_init__(self) -> None:
        """Refuse what shrinks nothing."""
        if self.rate < 0 or self.every < 1:
            raise ValueError(f"{self}: give a rate from 0 on, and every how many updates, at least 1")

    def bind(self, model: nn.Module) -> Callable[[int, float], None]:
        """Return the shrinking. A weight that its layer computes raises ``ValueError`` when it is shrunk."""

        def shrink(step: int, learning_rate: float) -> None:
            for matrix in matrices(model) if step % self.every == 0 else ():
                if not matrix.view.isfinite().all():
                    return  # the run has diverged, which is not for a constraint to say
                U, S, Vh = decompose(matrix.view, name=matrix.name)
                matrix.write((U * (S - learning_rate * self.rate * self.every).clamp_min(0)) @ Vh)

        return shrink
