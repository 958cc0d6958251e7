"""Hold the norm of every matrix while everything else goes on: norm and rank taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from specdyn.spectra import matrices


@dataclass(frozen=True)
class HoldNorm:
    """After every update, rescale each matrix to the Frobenius norm it started with, times ``scale``.

    Decoupled weight decay multiplies a matrix by one number, and the rescaling undoes just that: under
    this constraint AdamW runs with and without decay differ only in the size of their steps.

    >>> layer = nn.Linear(3, 2)
    >>> hold = HoldNorm().bind(layer)
    >>> before = layer.weight.norm().item()
    >>> with torch.no_grad(): _ = layer.weight.mul_(7.0)
    >>> hold()
    >>> round(layer.weight.norm().item() / before, 5)
    1.0
    """

    scale: float = 1.0

    def bind(self, model: nn.Module) -> Callable[[], None]:
        """Remember the norms and return the rescaling.

        Raises ``ValueError`` for a weight that its layer computes: there is nothing to rescale.
        """
        found = matrices(model)
        if computed := [matrix.name for matrix in found if matrix.stored is None]:
            raise ValueError(f"cannot hold the norm of {', '.join(computed)}: computed by the layer, not stored")
        stored = [matrix.stored for matrix in found if matrix.stored is not None]
        targets = [self.scale * float(tensor.norm()) for tensor in stored]

        def rescale() -> None:
            with torch.no_grad():
                for tensor, target in zip(stored, targets, strict=True):
                    tensor.mul_(target / tensor.norm().clamp_min(torch.finfo(tensor.dtype).tiny))

        return rescale
