"""Combinations of networks: points of the line between two, averages of many, the plane of three."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from specdyn.interventions.copies import copied


def combined(models: Sequence[nn.Module], shares: Sequence[float]) -> nn.Module:
    """Return the network whose parameters and buffers are sums of those of the models, each times its share.

    Shares (1 - a, a) give a point of the line between two networks, n times 1 / n their average, which is called a
    soup (Wortsman et al. 2022), and three that add up to 1 a point of the plane through three networks. Sums are taken
    in float64, so that copies of one network give that network. Buffers without fractions, such as BatchNorm's count
    of batches, are those of the first model. BatchNorm's statistics are combined as everything else, and belong to no
    network that way: see `reestimate`.

    Raises ``ValueError`` for networks of different architecture, also in which weights are tied, naming where they
    differ, and unless each has a share.

    >>> one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> middle = combined([one, two], [0.5, 0.5])
    >>> torch.allclose(middle.weight, (one.weight + two.weight) / 2)
    True
    """
    if not models or len(models) != len(shares):
        raise ValueError(f"{len(models)} networks and {len(shares)} shares: give each network one, and at least one")
    alike(*models)
    states = [model.state_dict() for model in models]
    result = copied(models[0])
    for name, tensor in result.state_dict().items():
        if tensor.is_floating_point() or tensor.is_complex():
            total = torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float64))
            for share, state in zip(shares, states, strict=True):
                if share:  # 0 times infinity would be NaN, where the network has no part in it
                    total += share * state[name].to(total)
            tensor.copy_(total)
    return result


def alike(first: nn.Module, *others: nn.Module) -> None:
    """Raise ``ValueError``, naming where, unless networks have parameters and buffers of the same names and shapes.

    And unless the same ones are tied.

    >>> alike(nn.Linear(3, 2), nn.Linear(3, 4))
    Traceback (most recent call last):
    ValueError: networks differ: bias is (2,) in one and (4,) in another, and 1 more differ: compare one architecture
    """
    ours = _layout(first)
    for other in others:
        theirs = _layout(other)
        if different := sorted({name for name, _ in ours.items() ^ theirs.items()}):
            name = different[0]
            raise ValueError(
                f"networks differ: {name} is {ours.get(name, 'absent')} in one and {theirs.get(name, 'absent')} in "
                f"another, and {len(different) - 1} more differ: compare one architecture"
            )


def _layout(model: nn.Module) -> dict[str, str]:
    """Return the shapes of all parameters and buffers, and as which other one they are stored, if they are."""
    state = model.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in reversed(state.items())}
    tied = {name: f", tied to {first[id(tensor)]}," for name, tensor in state.items() if first[id(tensor)] != name}
    return {name: f"{tuple(tensor.shape)}{tied.get(name, '')}" for name, tensor in state.items()}
