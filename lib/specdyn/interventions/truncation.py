"""Truncation: a network whose matrices keep only their top or bottom singular components."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Literal

from torch import nn
from torch.optim.swa_utils import update_bn

from specdyn.interventions.copies import copied
from specdyn.interventions.spare import unspared
from specdyn.spectra import SVD, Snapshot, decompose, matrices, truncate
from specdyn.tasks import Task

Keep = Literal["top", "bottom"]


def truncations(
    model: nn.Module, fractions: Iterable[float], *, keep: Keep = "top", spare: Iterable[str] | None = None
) -> Iterator[nn.Module]:
    """Yield a copy of the model for each kept fraction f: every matrix keeps ceil(f R) components.

    Each matrix is decomposed once for all fractions. ``spare`` names matrices left whole, by default the
    last one, as in the paper (section 4.2). The model that is given stays as it is. Raises ``ValueError``
    for a fraction outside [0, 1], a name the model does not have, or a weight that its layer computes.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    >>> cut, = truncations(model, [0.5])
    >>> torch.linalg.matrix_rank(cut[0].weight).item(), torch.equal(cut[1].weight, model[1].weight)
    (2, True)
    """
    svds = {name: decompose(matrix.view, name=name) for name, matrix in unspared(model, spare).items()}
    for fraction in fractions:
        _check(fraction)
        yield _cut(model, svds, partial(_share, fraction), keep)


@dataclass(frozen=True)
class Truncation:
    """A probe of the network cut in two: how well do the top components do alone, and how well the rest?

    ``top_...`` are the task's metrics where every matrix keeps the ceil(f R) largest of its R components,
    ``bottom_...`` where it keeps the others; f is ``fraction``. The last matrix is left whole, as in the paper
    (section 4.2). Where there is an embedding, ``top_but_embedding_...`` and ``bottom_but_embedding_...`` leave it
    whole too: half of a small embedding merges words. The decompositions are those of the snapshot.

    BatchNorm's statistics are estimated again on the task's ``inputs``. Where there are any, ``whole_...`` are the
    metrics of the network with all its components and its own statistics estimated in the same way, which is what the
    parts are to be compared with: the running averages of training lag behind weights that shrink fast.

    Raises ``ValueError`` for a fraction outside [0, 1].

    >>> from specdyn.spectra import measure
    >>> from specdyn.tasks import build, modular_addition
    >>> import torch
    >>> task = modular_addition("smoke")
    >>> model, data = build(task, 0), task.data(0, torch.device("cpu"))
    >>> metrics = Truncation()(task, model, data, measure(model))
    >>> [name for name in metrics if name.endswith("train_loss")][:2]
    ['top_train_loss', 'bottom_train_loss']
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a fraction that is none."""
        _check(self.fraction)

    def __call__(self, task: Task, model: nn.Module, data: Any, snapshot: Snapshot) -> dict[str, float]:
        """Return the metrics of both parts."""
        found: dict[str, float] = {}
        for label, part in self._parts(model, snapshot):
            update_bn(task.inputs(data), part)
            found |= {f"{label}_{name}": value for name, value in task.metrics(part, data).items()}
        return found

    def _parts(self, model: nn.Module, snapshot: Snapshot) -> Iterator[tuple[str, nn.Module]]:
        svds = {name: snapshot[name].svd for name in list(snapshot)[:-1]}
        but_embedding = {name: svd for name, svd in svds.items() if snapshot[name].kind != "Embedding"}
        kinds = {"": svds} | ({"_but_embedding": but_embedding} if len(but_embedding) < len(svds) else {})
        for kind, cut in kinds.items():
            yield f"top{kind}", _cut(model, cut, partial(_share, self.fraction), "top")
            yield f"bottom{kind}", _cut(model, cut, self._rest, "bottom")
        if any(name.endswith("running_mean") for name, _ in model.named_buffers()):
            yield "whole", copied(model)

    def _rest(self, rank: int) -> int:
        return rank - _share(self.fraction, rank)


def reestimate(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Return a copy whose BatchNorm statistics are those of these inputs, averaged over the batches.

    Who changes weights by hand needs it: the running averages belong to the weights as they were. Layers that
    keep no statistics, such as GroupNorm, have nothing to estimate.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    >>> fresh = reestimate(model, [torch.ones(4, 3)])
    >>> torch.allclose(fresh[1].running_mean, model[0](torch.ones(3))), model[1].running_mean.tolist()
    (True, [0.0, 0.0])
    """
    fresh = copied(model)
    update_bn(batches, fresh)
    return fresh


def _cut(model: nn.Module, svds: Mapping[str, SVD], kept: Callable[[int], int], keep: Keep) -> nn.Module:
    """Return a copy in which each matrix that has a decomposition keeps ``kept(R)`` of its R components."""
    cut = copied(model)
    for matrix in matrices(cut):
        if matrix.name in svds:
            svd = svds[matrix.name]
            matrix.write(truncate(svd, kept(svd.S.shape[-1]), keep))
    return cut


def _share(fraction: float, rank: int) -> int:
    return ceil(fraction * rank)


def _check(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"kept fraction {fraction} is outside [0, 1]")
