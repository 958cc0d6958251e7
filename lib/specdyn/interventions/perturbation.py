"""Perturbation: noise of a chosen strength in every matrix, at the norm it had."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from specdyn.interventions.copies import copied
from specdyn.interventions.spare import unspared


def perturbed(
    model: nn.Module, strength: float, generator: torch.Generator, *, spare: Iterable[str] | None = None
) -> nn.Module:
    """Return a copy with Gaussian noise in every matrix, as large as ``strength`` times the matrix itself.

    Noise of that Frobenius norm is added, and the sum brought back to the norm the matrix had, as in the official
    code; the paper tells only the first (section 7.3). The cosine between a matrix before and after is so
    1 / sqrt(1 + ``strength``^2), but for the chance overlap of noise and matrix. ``spare`` names matrices left as they
    are, by default the last one, as in the paper. The noise is drawn on the generator's device in float32, matrix by
    matrix, so that it is the same on every device the model may be on. BatchNorm's statistics are still those
    of before: see `reestimate`; `with_weights` makes a branch of the result.

    Raises ``ValueError`` for a strength below 0 or not finite, a name the model does not have, or a weight that its
    layer computes.

    >>> model = nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 2))
    >>> noisy = perturbed(model, 1.0, torch.Generator().manual_seed(0))
    >>> one, two = (net[0].weight.flatten() for net in (model, noisy))
    >>> round(torch.cosine_similarity(one, two, dim=0).item(), 1), torch.equal(model[1].weight, noisy[1].weight)
    (0.7, True)
    """
    if not 0 <= strength < float("inf"):
        raise ValueError(f"strength={strength}: noise takes a number from 0 on")
    changed = copied(model)
    for matrix in unspared(changed, spare).values():
        before = matrix.view.double()
        noise = torch.randn(before.shape, generator=generator, device=generator.device).to(before)
        after = before + strength * before.norm() * noise / noise.norm()
        matrix.write(after * before.norm() / after.norm() if strength and before.any() else before)
    return changed
