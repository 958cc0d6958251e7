"""Low rank in the place of a mask: matrices held to their best approximation of a rank while a network learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from specdyn.spectra import decompose, find, truncate


@dataclass(frozen=True)
class LowRank:
    """Replace each named matrix by its best approximation of this rank, at once and after every ``every`` updates.

    The best in the Frobenius norm keeps the largest singular components (Eckart and Young 1936). In between the rank
    grows, by the updates since; at a snapshot whose step ``every`` divides it is exact.

    Raises ``ValueError`` for a rank or ``every`` below 1. ``bind`` raises it for a name the model does not have, a
    rank that the matrix cannot have, or a weight that its layer computes.

    >>> import torch
    >>> layer = nn.Linear(5, 4)
    >>> hold = LowRank({"weight": 2}, every=1).bind(layer)
    >>> torch.linalg.matrix_rank(layer.weight).item()
    2
    >>> with torch.no_grad(): _ = layer.weight.add_(torch.eye(4, 5))
    >>> hold(1, 0.1)
    >>> torch.linalg.matrix_rank(layer.weight).item()
    2
    """

    ranks: Mapping[str, int]
    every: int = 1

    def __post_init__(self) -> None:
        """Refuse what leaves nothing, or never acts."""
        if self.every < 1 or any(rank < 1 for rank in self.ranks.values()):
            raise ValueError(
                f"{self}: give ranks from 1 on, for less leaves nothing, and every how many updates from 1"
            )

    def bind(self, model: nn.Module) -> Callable[[int, float], None]:
        """Approximate the matrices and return what does so again."""
        for name, matrix in find(model, self.ranks).items():
            if self.ranks[name] > min(matrix.shape):
                raise ValueError(
                    f"{name} has shape {matrix.shape} and cannot have rank {self.ranks[name]}: leave it out"
                )

        def approximate(step: int, learning_rate: float) -> None:
            for name, matrix in find(model, self.ranks).items() if step % self.every == 0 else ():
                if not matrix.view.isfinite().all():
                    return  # the run has diverged, which is not for a constraint to say
                matrix.write(truncate(decompose(matrix.view, name=name), self.ranks[name]))

        approximate(0, 0.0)
        return approximate


def rank_within(shape: tuple[int, int], budget: int) -> int:
    """Return the largest rank at which two factors of a matrix take no more parameters than ``budget``.

    A matrix (m, n) of rank r is the product of factors (m, r) and (r, n), which hold r (m + n) numbers. It is 0 where
    not even one component fits, and never more than the smaller side. Raises ``ValueError`` for a budget below 0.

    >>> rank_within((64, 576), budget=1843), rank_within((64, 576), budget=639)
    (2, 0)
    """
    if budget < 0:
        raise ValueError(f"budget={budget}: give how many parameters there may be, from 0 on")
    return min(budget // sum(shape), *shape)
