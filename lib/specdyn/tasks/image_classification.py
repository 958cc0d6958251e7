"""Image classification: what is in a picture, learned by a convolutional network (VGG; Simonyan and Zisserman 2015)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from specdyn.tasks.image_data import SOURCES, ImageData, chunks, judged, load, logits
from specdyn.tasks.task import at_least_one, at_tier, doubling, generator, minibatch, one_of

VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
"""Thirteen convolutions by their channels, and where the resolution is halved."""


class ConvBlock(nn.Module):
    """A 3x3 convolution that keeps the resolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        return F.relu(self.norm(self.conv(x)))


class ConvNet(nn.Module):
    """The paper's network: blocks and poolings in a row, the average over what is left, a linear layer.

    The convolution at place k of the plan is ``layers.{k}.conv``; poolings count. Raises ``ValueError`` for
    a place that is neither a number of channels nor ``"pool"``.

    >>> network = ConvNet((8, "pool", 16), channels=1, classes=10)
    >>> network(torch.zeros(5, 1, 16, 16)).shape, network.layers[2].conv.weight.shape
    (torch.Size([5, 10]), torch.Size([16, 8, 3, 3]))
    """

    def __init__(self, plan: tuple[int | str, ...], channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for item in plan:
            if isinstance(item, int):
                self.layers.append(ConvBlock(channels, item))
                channels = item
            elif item == "pool":
                self.layers.append(nn.MaxPool2d(2))
            else:
                raise ValueError(f'plan has {item!r}: give a number of channels or "pool"')
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of images (N, channels, H, W)."""
        logits: Tensor = self.fc(self.pool(self.layers(images)).flatten(1))
        return logits


AUGMENTATIONS = ("crop", "flip")


@dataclass(frozen=True)
class ImageClassification:
    """Settings of one image-classification run (paper section 4; task T2). SGD with momentum 0.9.

    ``dataset``: ``"cluttered-digits"``, ``"cifar10"``, ``"mnist"``, ``"fashion-mnist"`` or ``"digits"``. ``plan``:
    the convolutions of `ConvNet`; the 8x8 pixels of ``"digits"`` can be halved three times. Of the first ``evaluated``
    training and validation images losses are measured at a snapshot, and from those of training the BatchNorm
    statistics of truncated networks.

    ``augmentation``: none as in the paper, whose training set is memorised in the end; ``"crop"`` shifts
    each image by up to an eighth of its side, ``"flip"`` mirrors half of them. ``milestones``: steps after
    which the learning rate is a tenth of what it was, in any order. The official code drops it after epochs
    82, 123 and 160 and so does the paper tier; the paper says 120 for the second.

    Weight decay acts on every parameter. Coupled, it is added to the gradient and so enters the momentum;
    ``decoupled``, it shrinks the weights by learning rate times decay apart from it, as AdamW does, and
    has to be ten times as strong for as much of an effect.

    Raises ``ValueError`` for an unknown dataset or augmentation, sizes below 1, and decoupled decay that lets
    weights grow or takes more of them at a step than there is.
    """

    dataset: str
    plan: tuple[int | str, ...]
    train_size: int
    validation_size: int
    evaluated: int
    augmentation: tuple[str, ...]
    batch_size: int
    learning_rate: float
    milestones: tuple[int, ...]
    weight_decay: float
    decoupled: bool
    steps: int
    every: int
    name: str = "image-classification"

    def __post_init__(self) -> None:
        """Refuse what no run could be made of."""
        one_of(self, dataset=SOURCES)
        if unknown := [name for name in self.augmentation if name not in AUGMENTATIONS]:
            raise ValueError(f"unknown augmentation {unknown[0]!r}: choose among {', '.join(AUGMENTATIONS)}")
        at_least_one(self, "train_size", "validation_size", "evaluated", "batch_size", "every")
        if self.decoupled and not (self.weight_decay >= 0 and self.learning_rate * self.weight_decay <= 1):
            raise ValueError(
                f"decoupled weight_decay={self.weight_decay} at learning_rate={self.learning_rate} would let weights "
                "grow or change their sign: choose one from 0 to 1 / learning_rate"
            )

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps 0, 1, 2, 4, 8 and so on up to the distance ``every``, which is kept from there to the end.

        The paper has four in the first epoch in place of these powers of two, and so 169 in all where the paper
        tier has 174.
        """
        return doubling(self.every, self.steps)

    @property
    def pairs(self) -> Literal["direct"]:
        """Every layer feeds the next."""
        return "direct"

    def model(self) -> ConvNet:
        """The network for the dataset's colours and classes."""
        source = SOURCES[self.dataset]
        return ConvNet(self.plan, len(source.mean), source.classes)

    def data(self, seed: int, device: torch.device) -> ImageData:
        """The images, split once for all seeds."""
        return load(self.dataset, self.train_size, self.validation_size, device)

    def batch(self, data: ImageData, step: int, seed: int) -> tuple[Tensor, Tensor]:
        """Training images (N, C, H, W), ready for the network, and their labels (N,)."""
        count, device = len(data.train), data.train.device
        index = minibatch(count, self.batch_size, step, seed, device)
        images = data.train[index]
        if self.augmentation:
            epoch = step // -(-count // self.batch_size)
            images = self._augmented(images, _draws(count, epoch, seed, device)[index])
        return data.prepared(images), data.train_labels[index]

    def _augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        """Shift and mirror each image as its draws (N, 3), uniform in [0, 1), say; black comes in from outside."""
        size = images.shape[-1]
        margin = size // 8 if "crop" in self.augmentation else 0
        top, left = (draws[:, :2] * (2 * margin + 1)).long().unsqueeze(-1).unbind(1)
        reach = torch.arange(size, device=images.device)
        mirrored = (draws[:, 2:] < 0.5) & ("flip" in self.augmentation)
        columns = left + torch.where(mirrored, size - 1 - reach, reach)
        padded = F.pad(images, (margin,) * 4)
        each = torch.arange(len(images), device=images.device)[:, None, None]
        return padded[each, :, (top + reach)[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def inputs(self, data: ImageData) -> Iterator[Tensor]:
        """The training images that are evaluated, 128 at a time."""
        return chunks(data, data.train[: self.evaluated])

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """SGD; weight decay acts on every parameter, as in the official code."""
        coupled = 0.0 if self.decoupled else self.weight_decay
        optimizer = SGD(model.parameters(), self.learning_rate, momentum=0.9, weight_decay=coupled, fused=True)
        if self.decoupled:
            optimizer.register_step_pre_hook(partial(_shrink, weight_decay=self.weight_decay))
        return optimizer

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """A tenth after each milestone."""
        milestones = sorted(self.milestones)
        return LambdaLR(optimizer, lambda step: 0.1 ** bisect_right(milestones, step))

    def metrics(self, model: nn.Module, data: ImageData) -> dict[str, float]:
        """Losses and error rates on the images that are evaluated at a snapshot."""
        count = self.evaluated
        return {
            **judged("train", logits(model, data, data.train[:count]), data.train_labels[:count]),
            **judged("validation", logits(model, data, data.validation[:count]), data.validation_labels[:count]),
        }

    def quality(self, model: nn.Module, data: ImageData) -> dict[str, float]:
        """Loss and error rate on the whole official test set, which decides nothing else."""
        return judged("test", logits(model, data, data.test), data.test_labels)


@lru_cache(maxsize=2)  # as the order of the epoch is: moved to the device once, so that no batch waits for the CPU
def _draws(count: int, epoch: int, seed: int, device: torch.device) -> Tensor:
    return torch.rand(count, 3, generator=generator(seed, "augmentation", epoch)).to(device)


@torch.no_grad()
def _shrink(optimizer: Optimizer, *_: Any, weight_decay: float) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.mul_(1 - group["lr"] * weight_decay)


_EPOCH = 352  # batches of 128 in the paper's 45,000 training images
_PAPER = ImageClassification(
    dataset="cifar10", plan=VGG16, train_size=45_000, validation_size=5_000, evaluated=45_000, augmentation=(),
    batch_size=128, learning_rate=0.1, milestones=(82 * _EPOCH, 123 * _EPOCH, 160 * _EPOCH), weight_decay=1e-4,
    decoupled=False, steps=164 * _EPOCH, every=_EPOCH,
)  # fmt: skip
# In shorter runs the decay is stronger, so that decay times the sum of learning rates stays near the paper's 0.3.
_LAPTOP = replace(
    _PAPER, dataset="cluttered-digits", plan=(16, 16, "pool", 32, 32, "pool", 64, 64), train_size=4_096,
    validation_size=1_024, evaluated=256, milestones=(240,), weight_decay=1e-2, steps=320, every=20,
)  # fmt: skip
_TIERS = {
    "smoke": replace(
        _LAPTOP, plan=(8, "pool", 16, "pool", 16), train_size=512, validation_size=128, evaluated=64,
        batch_size=32, milestones=(18,), steps=24, every=6,
    ),
    "laptop": _LAPTOP,
    "gpu": replace(
        _PAPER, evaluated=5_000, milestones=(8 * _EPOCH, 12 * _EPOCH, 15 * _EPOCH), weight_decay=1e-3,
        steps=16 * _EPOCH,
    ),
    "paper": _PAPER,
}  # fmt: skip


def image_classification(tier: str = "laptop", **changes: Any) -> ImageClassification:
    """Return the image-classification settings of a tier, with any field changed by name.

    >>> image_classification("laptop", weight_decay=0.0).snapshots[:8]
    (0, 1, 2, 4, 8, 16, 20, 40)
    """
    return replace(at_tier(_TIERS, tier), **changes)
