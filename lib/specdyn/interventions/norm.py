"""Norm taken apart from everything else: held while a network learns, or set afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from specdyn.interventions.copies import copied
from specdyn.spectra import find, matrices


@dataclass(frozen=True)
class HoldNorm:
    """After every update, rescale each matrix to the Frobenius norm it started with, times ``scale``.

    Decoupled weight decay multiplies a matrix by one number, and the rescaling undoes just that: under
    this constraint AdamW runs with and without decay differ only in the size of their steps.

    >>> layer = nn.Linear(3, 2)
    >>> hold = HoldNorm().bind(layer)
    >>> before = layer.weight.norm().item()
    >>> with torch.no_grad(): _ = layer.weight.mul_(7.0)
    >>> hold(1, 0.1)
    >>> round(layer.weight.norm().item() / before, 5)
    1.0
    """

    scale: float = 1.0

    def bind(self, model: nn.Module) -> Callable[[int, float], None]:
        """Remember the norms and return the rescaling.

        Raises ``ValueError`` for a weight that its layer computes: there is nothing to rescale.
        """
        found = matrices(model)
        if computed := [matrix.name for matrix in found if matrix.stored is None]:
            raise ValueError(f"cannot hold the norm of {', '.join(computed)}: computed by the layer, not stored")
        stored = [matrix.stored for matrix in found if matrix.stored is not None]
        targets = [self.scale * float(tensor.norm()) for tensor in stored]

        def rescale(step: int, learning_rate: float) -> None:
            with torch.no_grad():
                for tensor, target in zip(stored, targets, strict=True):
                    tensor.mul_(_factor(tensor, target))

        return rescale


def rescaled(model: nn.Module, norms: Mapping[str, float]) -> nn.Module:
    """Return a copy whose named matrices are multiplied by a number that gives them these Frobenius norms.

    What a network does at another network's norms, or at its own initial ones, is what its directions and the
    proportions of its singular values do. A zero matrix stays zero. Before BatchNorm the scale of a layer changes
    nothing once its statistics are estimated again: see `reestimate`. Raises ``ValueError`` for a name the model does
    not have, a norm that is negative or not finite, or a weight that its layer computes.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> even = rescaled(model, {"0.weight": 5.0})
    >>> round(even[0].weight.norm().item(), 4), torch.equal(even[1].weight, model[1].weight)
    (5.0, True)
    """
    if bad := {name: norm for name, norm in norms.items() if not 0 <= norm < float("inf")}:
        raise ValueError(f"a Frobenius norm is a number from 0 on, but norms has {bad}")
    changed = copied(model)
    for name, matrix in find(changed, norms).items():
        matrix.write(matrix.view * _factor(matrix.view, norms[name]))
    return changed


def _factor(tensor: Tensor, norm: float) -> Tensor:
    """Return what a tensor is to be multiplied by, on its device, so that nothing waits for the number."""
    factor: Tensor = norm / tensor.norm().clamp_min(torch.finfo(tensor.dtype).tiny)
    return factor
