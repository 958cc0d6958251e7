"""What the tests of more than one task read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from specdyn.tasks import datasets, generator, image_data
from specdyn.tasks.datasets import LabelledImages


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> Iterator[LabelledImages]:
    """CIFAR-10 with 60 training and 20 test images, each of which can be told by its pixels."""
    images = torch.randint(256, (80, 3, 32, 32), dtype=torch.uint8, generator=generator("small"))
    labels = torch.arange(80) % 10
    small = LabelledImages(images[:60], labels[:60], images[60:], labels[60:], tuple("abcdefghij"))
    monkeypatch.setattr(datasets, "cifar10", lambda: small)
    image_data.load.cache_clear()
    yield small
    image_data.load.cache_clear()
