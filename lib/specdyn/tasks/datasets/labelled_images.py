"""Images with a class each, split into training and test set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, C, H, W) of dtype uint8 and labels (N,) of dtype int64; raises ``ValueError`` where they disagree.

    >>> pixels, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 2])
    >>> LabelledImages(pixels, labels, pixels, labels, ("cat", "dog"))
    Traceback (most recent call last):
    ValueError: training label 2 of image 1 is outside 0 to 1
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    """The names of the labels 0, 1, ..."""

    def __post_init__(self) -> None:
        """Refuse images and labels that do not belong together."""
        self._check("training", self.train, self.train_labels)
        self._check("test", self.test, self.test_labels)
        if self.train.shape[1:] != self.test.shape[1:]:
            raise ValueError(f"training images are {_shape(self.train)} and test images {_shape(self.test)}")

    def _check(self, part: str, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or labels.dtype != torch.int64 or labels.ndim != 1:
            raise ValueError(
                f"{part} images have to be (N, C, H, W) of uint8 and labels (N,) of int64, not "
                f"{tuple(images.shape)} of {images.dtype} and {tuple(labels.shape)} of {labels.dtype}"
            )
        if len(images) != len(labels) or len(images) == 0:
            raise ValueError(f"{len(images)} {part} images have {len(labels)} labels")
        wrong = (labels < 0) | (labels >= len(self.classes))
        if wrong.any():
            at = int(wrong.nonzero()[0])
            raise ValueError(f"{part} label {int(labels[at])} of image {at} is outside 0 to {len(self.classes) - 1}")


def _shape(images: Tensor) -> str:
    return " x ".join(map(str, images.shape[1:]))
