"""The handwritten digits that come with scikit-learn: real images that need no download."""

from __future__ import annotations

import torch
from torch import Tensor


def bundled_digits() -> tuple[Tensor, Tensor]:
    """Return 1,797 images (N, 8, 8), uint8 from 0 (black) to 16, and the digit in each (N,), int64.

    >>> images, labels = bundled_digits()
    >>> images.shape, int(images.max()), labels[:5].tolist()
    (torch.Size([1797, 8, 8]), 16, [0, 1, 2, 3, 4])
    """
    from sklearn.datasets import load_digits  # half a second, and only where these images are read

    digits = load_digits()
    return torch.from_numpy(digits.images).to(torch.uint8), torch.from_numpy(digits.target).long()


def in_bytes(digits: Tensor) -> Tensor:
    """Return bundled digits with their greys from 0 to 255, as those of other images are.

    >>> in_bytes(torch.tensor([0, 8, 16], dtype=torch.uint8)).tolist()
    [0, 128, 255]
    """
    return digits.mul(255 / 16).round().to(torch.uint8)
