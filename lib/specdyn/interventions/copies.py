"""Copies of networks, to change while the one that is given stays as it is."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def copied(model: M) -> M:
    """Return a network that shares nothing with the one given.

    >>> layer = nn.Linear(3, 2)
    >>> copied(layer).weight.data_ptr() == layer.weight.data_ptr()
    False
    """
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # cuDNN wants them in one piece, and copies lie apart
    return twin
