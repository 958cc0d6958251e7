"""Truncation: a network whose matrices keep only their top or bottom singular components."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from math import ceil
from typing import Literal

from torch import nn

from specdyn.spectra import decompose, matrices, truncate


def truncations(
    model: nn.Module,
    fractions: Iterable[float],
    *,
    keep: Literal["top", "bottom"] = "top",
    spare: Iterable[str] | None = None,
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
    found = {matrix.name: matrix for matrix in matrices(model)}
    spared = set(list(found)[-1:]) if spare is None else set(spare)
    if unknown := spared - set(found):
        raise ValueError(f"cannot spare {sorted(unknown)}: the matrices are {list(found)}")
    svds = {name: decompose(m.view, name=name) for name, m in found.items() if name not in spared}
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise ValueError(f"kept fraction {fraction} is outside [0, 1]")
        cut = copy.deepcopy(model)
        for matrix in matrices(cut):
            if matrix.name in svds:
                svd = svds[matrix.name]
                matrix.write(truncate(svd, ceil(fraction * svd.S.shape[-1]), keep))
        yield cut
