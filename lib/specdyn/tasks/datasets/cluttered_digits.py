"""Cluttered digits: a handwritten digit among pieces of others, made on the spot from what scikit-learn ships."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

from specdyn.tasks.datasets.bundled_digits import bundled_digits, in_bytes
from specdyn.tasks.task import generator

CANVAS = 16
PIECES = 6
PIECE = 4
SHARES = {"train": 1_197, "validation": 300, "test": 300}
"""How many of the 1,797 digits each part is made from; no digit is in two of them."""

Part = Literal["train", "validation", "test"]


def cluttered_digits(part: Part, count: int) -> tuple[Tensor, Tensor]:
    """Return images (count, 1, 16, 16), uint8, and the digit in each, int64; always the same ones.

    An 8x8 digit of scikit-learn lies at a random place over six 4x4 pieces cut from other digits of the same
    part; where they meet, the brighter pixel stays. Plain digits are learned too soon to watch anything
    (and by networks that see no more than a few pixels). Raises ``ValueError`` for an unknown part.

    >>> images, labels = cluttered_digits("test", 5)
    >>> images.shape, images.dtype, labels.tolist()
    (torch.Size([5, 1, 16, 16]), torch.uint8, [9, 6, 8, 2, 4])
    """
    if part not in SHARES:
        raise ValueError(f"unknown part {part!r}: choose one of {', '.join(SHARES)}")
    digits, labels = _sources(part)
    draws = generator("cluttered digits", part)
    chosen = torch.randint(len(digits), (count,), generator=draws)
    canvas = torch.zeros(count, CANVAS, CANVAS, dtype=torch.uint8)
    for _ in range(PIECES):
        others = digits[torch.randint(len(digits), (count,), generator=draws)]
        _lay(_window(others, PIECE, draws), canvas, draws)
    _lay(digits[chosen], canvas, draws)
    return canvas.unsqueeze(1), labels[chosen]


@cache
def _sources(part: Part) -> tuple[Tensor, Tensor]:
    """Return the 8x8 digits (N, 8, 8), uint8 from 0 to 255, that a part is made from, and their labels."""
    digits, labels = bundled_digits()
    order = torch.randperm(len(digits), generator=generator("cluttered digits", "sources"))
    first = sum(list(SHARES.values())[: list(SHARES).index(part)])
    mine = order[first : first + SHARES[part]]
    return in_bytes(digits)[mine], labels[mine]


def _lay(pieces: Tensor, canvas: Tensor, draws: torch.Generator) -> None:
    """Lay one piece (N, k, k) on each canvas (N, 16, 16) at a random place."""
    place = _places(len(canvas), CANVAS, pieces.shape[-1], draws)
    canvas[place] = torch.maximum(canvas[place], pieces)


def _window(images: Tensor, size: int, draws: torch.Generator) -> Tensor:
    """Cut a window (N, size, size) out of each image at a random place."""
    return images[_places(len(images), images.shape[-1], size, draws)]


def _places(count: int, outer: int, inner: int, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the index of a random inner square of each outer one."""
    top, left = torch.randint(outer - inner + 1, (2, count, 1), generator=draws)
    reach = torch.arange(inner)
    return torch.arange(count)[:, None, None], (top + reach)[:, :, None], (left + reach)[:, None, :]
