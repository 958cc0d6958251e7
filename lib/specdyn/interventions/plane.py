"""The plane through three networks: places in it, and where other networks lie beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from specdyn.interventions.combination import alike, combined


class Plane:
    """The plane of parameters through three networks, measured in the distance between parameters.

    The first network is at (0, 0), the second at (x, 0), the third at (x, y) with x and y above 0 (Garipov, Izmailov,
    Podoprikhin, Vetrov and Wilson 2018, figure 1). Buffers are combined as parameters are; BatchNorm's statistics are
    to be estimated again: see `reestimate`.

    Raises ``ValueError`` for networks of different architecture, in a line, or with parameters that are not finite.

    >>> nets = [nn.Linear(2, 1, bias=False) for _ in range(3)]
    >>> with torch.no_grad():
    ...     for net, place in zip(nets, ([0.0, 0.0], [3.0, 0.0], [0.0, 4.0])):
    ...         _ = net.weight.copy_(torch.tensor([place]))
    >>> plane = Plane(*nets)
    >>> plane.corners, plane.network(1.5, 2.0).weight.tolist()
    ([(0.0, 0.0), (3.0, 0.0), (0.0, 4.0)], [[1.5, 2.0]])
    """

    def __init__(self, one: nn.Module, two: nn.Module, three: nn.Module) -> None:
        alike(one, two, three)
        self._models = one, two, three
        self._origin = _flat(one)
        sides = torch.stack([_flat(two) - self._origin, _flat(three) - self._origin], dim=1)
        axes, self._across = torch.linalg.qr(sides)
        if not sides.isfinite().all():
            raise ValueError("parameters are NaN or infinite and have no place in a plane: give networks that learn")
        if self._across.diagonal().abs().min() <= 1e-6 * self._across.abs().max():
            raise ValueError("the three networks lie in one line, and span no plane: give three that differ")
        sign = self._across.diagonal().sign()
        self._axes, self._across = axes * sign, self._across * sign[:, None]

    @property
    def corners(self) -> list[tuple[float, float]]:
        """Where the three networks lie."""
        return [self.place(model)[:2] for model in self._models]

    def network(self, x: float, y: float) -> nn.Module:
        """Return the network at a place."""
        two, three = torch.linalg.solve(self._across, torch.tensor([x, y], dtype=torch.float64)).tolist()
        return combined(self._models, [1 - two - three, two, three])

    def place(self, model: nn.Module) -> tuple[float, float, float]:
        """Return where the foot of a network is in the plane, and how far from the plane the network lies.

        A path of training that goes far beside the plane is not what its foot shows. Raises ``ValueError`` for another
        architecture.
        """
        alike(self._models[0], model)
        away = _flat(model) - self._origin
        foot = self._axes.T @ away
        x, y = foot.tolist()
        return x, y, float((away - self._axes @ foot).norm())


def _flat(model: nn.Module) -> Tensor:
    parameters = [parameter.detach().cpu() for parameter in model.parameters()]
    return torch.cat([(torch.view_as_real(p) if p.is_complex() else p).double().flatten() for p in parameters])
