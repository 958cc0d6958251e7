"""Labelled images in three parts, and how a network is judged on them: what the tasks that classify images share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.tasks import datasets
from specdyn.tasks.datasets import LabelledImages
from specdyn.tasks.datasets.bundled_digits import bundled_digits, in_bytes
from specdyn.tasks.datasets.cluttered_digits import cluttered_digits
from specdyn.tasks.task import generator

_CHUNK = 128  # images that are evaluated at once: more of them leave a CPU's cache and take twice as long each


@dataclass(frozen=True)
class ImageData:
    """Images (N, C, H, W), uint8, and labels (N,) in three parts that share no example.

    ``mean`` and ``std`` (C, 1, 1) are those of the colours, between 0 and 1.
    """

    train: Tensor
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    test: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor

    @property
    def examples(self) -> Tensor:
        """One training image of each class in turn: (classes, H, W), in colour (classes, H, W, 3), from 0 to 1."""
        present = sorted(set(self.train_labels.tolist()))
        first = torch.cat([self.train[self.train_labels == label][:1] for label in present])
        return first.permute(0, 2, 3, 1).squeeze(-1) / 255

    def prepared(self, images: Tensor) -> Tensor:
        """Return images as a network reads them: floating point, each colour centred and scaled."""
        scaled = (images / 255 - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)  # a quarter faster here, and no slower on a GPU


@dataclass(frozen=True)
class Source:
    """How a dataset is read, with what size of the training and validation parts, and what its images are."""

    read: Callable[[int, int], tuple[Tensor, ...]]
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int = 10

    @property
    def values(self) -> int:
        """Numbers in an image: pixels times colours."""
        return self.side**2 * len(self.mean)


def _made(train_size: int, validation_size: int) -> tuple[Tensor, ...]:
    parts = cluttered_digits("train", train_size), cluttered_digits("validation", validation_size)
    return *parts[0], *parts[1], *cluttered_digits("test", 1_000)


def _bundled() -> LabelledImages:
    """Return scikit-learn's digits; the 300 to test on are those that image generation is tested on."""
    digits, labels = bundled_digits()
    images = in_bytes(digits).unsqueeze(1)
    order = torch.randperm(len(images), generator=generator("digits", "test"))
    test, train = order[:300], order[300:]
    return LabelledImages(images[train], labels[train], images[test], labels[test], tuple("0123456789"))


def _split(source: LabelledImages, train_size: int, validation_size: int) -> tuple[Tensor, ...]:
    """Hold validation images out of the official training set, the same in every run; the test set stays whole."""
    if train_size + validation_size > len(source.train):
        raise ValueError(
            f"train_size={train_size} and validation_size={validation_size} together exceed "
            f"the {len(source.train)} images there are: choose smaller ones"
        )
    order = torch.randperm(len(source.train), generator=generator("images", "split"))
    validation, train = order[:validation_size], order[validation_size : validation_size + train_size]
    parts = [part[index] for index in (train, validation) for part in (source.train, source.train_labels)]
    return *parts, source.test, source.test_labels


SOURCES = {
    "cluttered-digits": Source(_made, 16, (0.2,), (0.347,)),
    "cifar10": Source(
        lambda *sizes: _split(datasets.cifar10(), *sizes), 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    ),
    "mnist": Source(lambda *sizes: _split(datasets.mnist(), *sizes), 28, (0.1307,), (0.3081,)),
    "fashion-mnist": Source(lambda *sizes: _split(datasets.fashion_mnist(), *sizes), 28, (0.2860,), (0.3530,)),
    "digits": Source(lambda *sizes: _split(_bundled(), *sizes), 8, (0.3053,), (0.3760,)),
}
"""What can be classified, by name."""


@lru_cache(maxsize=2)  # the data are those of every seed, so the runs of a sweep share them
def load(dataset: str, train_size: int, validation_size: int, device: torch.device) -> ImageData:
    """Return a dataset, split once for all seeds, on the device."""
    source = SOURCES[dataset]
    parts = source.read(train_size, validation_size)
    colours = (torch.tensor(values).view(-1, 1, 1) for values in (source.mean, source.std))
    return ImageData(*(tensor.to(device) for tensor in (*parts, *colours)))


def chunks(data: ImageData, images: Tensor) -> Iterator[Tensor]:
    """Yield images as a network reads them, 128 at a time."""
    return (data.prepared(images[i : i + _CHUNK]) for i in range(0, len(images), _CHUNK))


@torch.no_grad()
def logits(model: nn.Module, data: ImageData, images: Tensor) -> Tensor:
    """Return what the network says of images (N, classes); raise ``ValueError`` in training mode."""
    if model.training:
        raise ValueError("evaluating in training mode would change the BatchNorm statistics: model.eval() first")
    return torch.cat([model(chunk) for chunk in chunks(data, images)])


def judged(part: str, said: Tensor, labels: Tensor) -> dict[str, float]:
    """Return mean loss and error rate of logits (N, classes); each image counts the same, whatever chunk it was in.

    >>> judged("test", torch.tensor([[0.0, 9.0], [0.0, 9.0]]), torch.tensor([1, 0]))["test_error"]
    0.5
    """
    wrong = said.argmax(dim=1) != labels
    return {f"{part}_loss": float(F.cross_entropy(said, labels)), f"{part}_error": float(wrong.float().mean())}
