"""Matching: the order of one network's features in which they fit those of another that was trained apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from specdyn.interventions.activations import activations
from specdyn.interventions.combination import alike
from specdyn.interventions.copies import copied
from specdyn.interventions.symmetries import Symmetry
from specdyn.tasks import Task

Scores = NDArray[np.float64]


def match_weights(one: nn.Module, two: nn.Module, among: Sequence[Symmetry]) -> dict[Symmetry, Tensor]:
    """Return the orders in which the features of the second network have weights closest to those of the first.

    Give them to `permuted`. The sum of products of all weights is raised symmetry by symmetry, each a linear
    assignment while the others stay (Ainsworth, Hayase and Srinivasa 2022, section 3.2), until none gains. A first
    round goes by the weights alone whose other side is settled, from the inputs on: it takes no order for granted, and
    undoes a permutation of the whole network exactly. Matrices that read their own outputs do not count, since what
    they add is not linear in the order.

    Raises ``ValueError`` for networks of different architecture, and for weights that are not finite.

    >>> from specdyn.interventions import permuted, symmetries
    >>> one = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> found = symmetries(one, torch.randn(4, 2))
    >>> two = permuted(one, {found[0]: torch.tensor([2, 0, 1])})
    >>> match_weights(one, two, found)[found[0]].tolist()
    [1, 2, 0]
    """
    alike(one, two)
    orders = {symmetry: torch.arange(symmetry.size) for symmetry in among}
    moving = copied(two)

    def improve(symmetry: Symmetry, unsettled: set[str]) -> bool:
        score = _products(one, moving, symmetry, unsettled | (_wholes(symmetry.rows) & _wholes(symmetry.columns)))
        order = _assigned(score, symmetry.blocks)
        if score[np.arange(symmetry.size), order].sum() <= score.trace() + 1e-12 * np.abs(score).sum():
            return False
        turn = torch.from_numpy(order)
        symmetry.reorder(moving, turn)
        orders[symmetry] = orders[symmetry][turn]
        return True

    for place, symmetry in enumerate(among, 1):
        improve(symmetry, _wholes(name for later in among[place:] for name in (*later.rows, *later.columns)))
    while any([improve(symmetry, set()) for symmetry in among]):
        pass
    return orders


@torch.no_grad()
def match_activations(
    task: Task, one: nn.Module, two: nn.Module, data: Any, among: Sequence[Symmetry], *, batches: int = 8
) -> dict[Symmetry, Tensor]:
    """Return the orders in which the features of the second network do on data what those of the first do.

    Give them to `permuted`. The sum of correlations between features is the greatest there is, one linear assignment a
    symmetry (Li, Yosinski, Clune, Lipson and Hopcroft 2016). Features are seen where they leave their normalisation,
    or else the layers that give them, on that many batches of the task's own with seed 0; BatchNorm uses the statistics
    it has. Correlations are about the mean of each batch; a feature that never changes has none.

    Raises ``ValueError`` for networks of different architecture, where the features of a symmetry are not seen as
    what a module returns, or are not finite, and for less than 1 batch.

    >>> from specdyn.interventions import permuted, symmetries
    >>> from specdyn.tasks import build, noisy_labels
    >>> task = noisy_labels("smoke")
    >>> one, data = build(task, 0), task.data(0, torch.device("cpu"))
    >>> found = symmetries(one, torch.randn(4, 64))
    >>> two = permuted(one, {symmetry: torch.arange(symmetry.size).flip(0) for symmetry in found})
    >>> [order.tolist()[:3] for order in match_activations(task, one, two, data, found).values()]
    [[31, 30, 29], [31, 30, 29], [31, 30, 29]]
    """
    alike(one, two)
    if batches < 1:
        raise ValueError(f"batches={batches}: features are matched by what they do on at least one")
    places = {symmetry: _places(symmetry) for symmetry in among}
    sizes = {path: symmetry.size for symmetry, paths in places.items() for path in paths}
    totals: dict[str, list[Tensor]] = {}
    for step in range(batches):
        batch = task.batch(data, step, 0)
        ours, theirs = (activations(task, model, batch, sizes) for model in (one, two))
        for path in ours:
            a, b = (x.double() - x.double().mean(0) for x in (ours[path], theirs[path]))
            sums = [a.T @ b, a.square().sum(0), b.square().sum(0)]
            totals[path] = [old + new for old, new in zip(totals[path], sums, strict=True)] if step else sums
    orders = {}
    for symmetry, paths in places.items():
        if unseen := [path for path in paths if path not in totals]:
            raise ValueError(f"what {', '.join(unseen)} gives was not seen: leave this symmetry out, or match weights")
        score = np.asarray(sum(_correlation(*totals[path]) for path in paths))
        if not np.isfinite(score).all():
            raise ValueError(f"what {', '.join(paths)} gives is not finite: match networks that learn")
        orders[symmetry] = torch.from_numpy(_assigned(score, symmetry.blocks))
    return orders


def _products(one: nn.Module, two: nn.Module, symmetry: Symmetry, ignored: set[str]) -> Scores:
    """Return the sum of products of the weights of features i of one network and j of the other (size, size)."""
    parameters = {name for name, _ in one.named_parameters()}
    score = torch.zeros(symmetry.size, symmetry.size, dtype=torch.float64)
    for (name, ours), theirs in zip(symmetry.faces(one).items(), symmetry.faces(two).values(), strict=True):
        whole = name.rpartition(" of ")[2].partition("[")[0]
        if whole in parameters - ignored:
            score += (ours.double().flatten(1) @ theirs.to(ours).double().flatten(1).T).cpu()
    if not score.isfinite().all():
        raise ValueError(f"weights of or after {', '.join(symmetry.rows)} are not finite: match networks that learn")
    return score.numpy()


def _assigned(score: Scores, blocks: Sequence[int]) -> NDArray[np.int64]:
    """Return which feature j of the second network to put at place i of the first, so that the score is greatest.

    Where features stay in blocks, the best order within every two blocks is found first, and then that of blocks.
    """
    if not blocks:
        return np.asarray(linear_sum_assignment(score, maximize=True)[1])
    count, size = blocks[0], len(score) // blocks[0]
    tiles = score.reshape(count, size, count, size).swapaxes(1, 2)
    within = [[_assigned(tile, [finer // count for finer in blocks[1:]]) for tile in row] for row in tiles]
    reached = [
        [tiles[i, j, np.arange(size), order].sum() for j, order in enumerate(row)] for i, row in enumerate(within)
    ]
    best = _assigned(np.array(reached), ())
    return np.concatenate([size * j + within[i][j] for i, j in enumerate(best)])


def _wholes(names: Iterable[str]) -> set[str]:
    return {name.partition("[")[0] for name in names}


def _places(symmetry: Symmetry) -> list[str]:
    """Return the modules that features are seen after: normalisations, or else the layers that give them."""
    layers, kept = ({name.rpartition(".")[0] for name in names} for names in (symmetry.rows, symmetry.vectors))
    return sorted(kept - layers or layers)


def _correlation(cross: Tensor, ours: Tensor, theirs: Tensor) -> Scores:
    """Return the correlation (size, size) of features, 0 for those that never change."""
    scale = torch.outer(ours, theirs).sqrt()
    return torch.where(scale == 0, 0.0, cross / scale).cpu().numpy()
