"""Mixing: networks with the top singular components of one network and the rest of another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

from torch import Tensor, nn

from specdyn.interventions.combination import combined
from specdyn.interventions.spare import unspared
from specdyn.spectra import decompose, find, truncate


class Mixer:
    """Two networks whose matrices are cut in two: the ceil(f R) top ones of R singular components, and the rest.

    Call it with the shares of the second network in the ``top`` components, in the ``rest``, and in all ``others``:
    biases, normalisations with their statistics, and the matrices in ``spare``, by default the last one. A share of 0
    is the first network, 1 the second, and between lie points of the line between them; a half everywhere is its
    middle. So ``(top=1)`` puts the top components of the second in place of those of the first, and ``(top=0.5)``
    averages the top components only.

    The decompositions are made once. Statistics are to be estimated again: see `reestimate`. Raises ``ValueError`` for
    networks of different architecture, a fraction outside [0, 1], a name they do not have, and, when called, for a
    weight that its layer computes.

    >>> import torch
    >>> one, two = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    >>> with torch.no_grad():
    ...     _ = one.weight.copy_(torch.diag(torch.tensor([3.0, 1.0])))
    ...     _ = two.weight.copy_(torch.diag(torch.tensor([2.0, 5.0])))
    >>> Mixer(one, two, 0.5, spare=())(top=1).weight.diagonal().tolist()
    [0.0, 6.0]
    """

    def __init__(self, one: nn.Module, two: nn.Module, fraction: float, *, spare: Iterable[str] | None = None) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction {fraction} of the components is outside [0, 1]")
        self._pair = combined([one, two], [1, 0]), combined([one, two], [0, 1])
        whole = [unspared(model, spare) for model in self._pair]
        self._top, self._rest = {}, {}
        for name in whole[0]:
            views = [found[name].view for found in whole]
            svds = [decompose(view, name=name) for view in views]
            self._top[name] = [truncate(svd, ceil(fraction * svd.S.shape[-1])) for svd in svds]
            self._rest[name] = [view - top for view, top in zip(views, self._top[name], strict=True)]

    def __call__(self, *, top: float = 0.0, rest: float = 0.0, others: float = 0.0) -> nn.Module:
        """Return the network with these shares of the second one."""
        mixed = combined(self._pair, [1 - others, others])
        for name, matrix in find(mixed, self._top).items():
            matrix.write(_between(self._top[name], top) + _between(self._rest[name], rest))
        return mixed


def _between(ends: Sequence[Tensor], share: float) -> Tensor:
    return (1 - share) * ends[0] + share * ends[1]
