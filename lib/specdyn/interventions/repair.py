"""Repair: features of a network between others brought back to the mean and spread they have in these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from specdyn.interventions.activations import activations
from specdyn.interventions.combination import alike
from specdyn.interventions.copies import copied
from specdyn.interventions.spare import unspared
from specdyn.tasks import Task


def repaired(
    task: Task,
    model: nn.Module,
    ends: Sequence[nn.Module],
    shares: Sequence[float],
    data: Any,
    *,
    spare: Iterable[str] | None = None,
    batches: int = 8,
) -> nn.Module:
    """Return a copy whose features have the means and standard deviations of the ends', each times its share.

    Where weights are averaged, features that do not agree shrink. Layer by layer, in the order of the parameters, rows
    and bias of each matrix are rescaled and shifted until what it gives has the right mean and spread over that many
    batches of the task's own with seed 0 (Jordan, Sedghi, Saukh, Entezari and Neyshabur 2023, section 4). It is for
    networks without BatchNorm, for which `reestimate` does as much. ``spare`` names matrices left as they are, by
    default the last one. A feature that never changes is shifted alone.

    Raises ``ValueError`` for networks of different architecture, and for a matrix whose layer has no bias, or is not
    seen as a module, naming it: spare it. And unless each end has a share, for less than 1 batch.

    >>> from specdyn.interventions import combined
    >>> from specdyn.tasks import build, noisy_labels
    >>> task = noisy_labels("smoke")
    >>> ends, data = [build(task, seed) for seed in (0, 1)], task.data(0, torch.device("cpu"))
    >>> middle = combined(ends, [0.5, 0.5])
    >>> def spread(model):
    ...     return activations(task, model, task.batch(data, 0, 0), {"layers.2": 32})["layers.2"].std(0).mean().item()
    >>> spread(middle) < 0.7 * spread(ends[0]), spread(repaired(task, middle, ends, [0.5, 0.5], data)) > spread(middle)
    (True, True)
    """
    alike(model, *ends)
    if not ends or len(ends) != len(shares) or batches < 1:
        raise ValueError(f"{len(ends)} ends, {len(shares)} shares, {batches} batches: at least 1, and each end a share")
    examples = [task.batch(data, step, 0) for step in range(batches)]
    changed = copied(model)
    for name, matrix in unspared(changed, spare).items():
        path, _, own = name.rpartition(".")
        bias = getattr(changed.get_submodule(path), own.replace("weight", "bias"), None)
        if bias is None:
            raise ValueError(f"cannot repair {name}: its layer has no bias to shift; name it in spare")
        size = matrix.shape[0]
        goals = [_moments(task, end, examples, path, size) for end in ends]
        mean, spread = (
            torch.stack([share * goal[k] for share, goal in zip(shares, goals, strict=True)]).sum(0) for k in (0, 1)
        )
        now, wide = _moments(task, changed, examples, path, size)
        factor = torch.where(wide > 0, spread / wide, 1.0)
        matrix.write(matrix.view * factor.unsqueeze(1))
        with torch.no_grad():
            bias.copy_((bias - now) * factor + mean)
    return changed


def _moments(task: Task, model: nn.Module, examples: Sequence[Any], path: str, size: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the features of a module over batches, each (size,)."""
    seen = [activations(task, model, batch, {path: size}) for batch in examples]
    if path not in seen[0]:
        raise ValueError(f"cannot repair {path}: what it gives was not seen; name its matrix in spare")
    together = torch.cat([found[path].double() for found in seen])
    return together.mean(0), together.std(0)
