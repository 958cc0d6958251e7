"""Noisy labels: images of which some or all have the label of another one, learned by a fully connected network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from specdyn.tasks.image_data import SOURCES, ImageData, judged, load, logits
from specdyn.tasks.task import at_least_one, at_tier, doubling, generator, minibatch, one_of


class MLP(nn.Module):
    """Linear layers with ReLU between them; layer k is ``layers.{k}``.

    ``widths``: numbers that go into the first layer and come out of each.

    >>> network = MLP((64, 32, 32, 10))
    >>> network(torch.zeros(5, 1, 8, 8)).shape, network.layers[1].weight.shape
    (torch.Size([5, 10]), torch.Size([32, 32]))
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, outputs) of inputs (N, ...), each of them laid out in one row."""
        *hidden, last = self.layers
        x = x.flatten(1)
        for layer in hidden:
            x = F.relu(layer(x))
        outputs: Tensor = last(x)
        return outputs


@dataclass(frozen=True)
class NoisyImages(ImageData):
    """Images whose labels are the given ones, and beside them what the labels of the training images were before."""

    true_labels: Tensor

    @property
    def wrong(self) -> Tensor:
        """Which training images are given another label than their own (N,); those of a twin of their class are not."""
        return self.train_labels != self.true_labels


@dataclass(frozen=True)
class NoisyLabels:
    """Settings of one run on labels some of which are wrong (paper section 6; task T6). SGD with momentum 0.9.

    ``corrupted``: the share of training images, from 0 to 1, whose labels are permuted among themselves, so that as
    many images as before have each label; some get one like their own back. Which images that are follows from
    the seed, and those of a smaller share are among those of a larger one. Validation labels are left as
    they are, so that validation tells what was learned of the images; with ``corrupted_validation`` as large a
    share of them is permuted too. The official code permutes all labels before it holds validation images out.

    ``dataset``: ``"digits"`` (8x8, from scikit-learn), ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"`` or
    ``"cluttered-digits"``. ``widths``: of the hidden layers; a layer of ``classes`` outputs follows. All
    parameters begin ``init_scale`` times as large as PyTorch makes them. Of the first ``evaluated`` training and
    validation images losses are measured at a snapshot. The learning rate is constant.

    Raises ``ValueError`` for an unknown dataset, sizes below 1, and a share that is none.
    """

    dataset: str
    widths: tuple[int, ...]
    classes: int
    train_size: int
    validation_size: int
    evaluated: int
    corrupted: float
    corrupted_validation: bool
    init_scale: float
    batch_size: int
    learning_rate: float
    weight_decay: float
    steps: int
    every: int
    name: str = "noisy-labels"

    def __post_init__(self) -> None:
        """Refuse what no run could be made of."""
        one_of(self, dataset=SOURCES)
        at_least_one(self, "classes", "train_size", "validation_size", "evaluated", "batch_size", "every")
        if bad := [width for width in self.widths if width < 1]:
            raise ValueError(f"widths={self.widths}: a layer of {bad[0]} lets nothing through, give at least 1")
        if not 0 <= self.corrupted <= 1:
            raise ValueError(f"corrupted={self.corrupted} is no share of the labels: choose one from 0 to 1")

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps 0, 1, 2, 4, 8 and so on up to the distance ``every``, which is kept from there to the end."""
        return doubling(self.every, self.steps)

    @property
    def pairs(self) -> Literal["direct"]:
        """Every layer feeds the next."""
        return "direct"

    def model(self) -> MLP:
        """The network for the dataset's images, its initial parameters multiplied by ``init_scale``."""
        model = MLP((SOURCES[self.dataset].values, *self.widths, self.classes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(self.init_scale)
        return model

    def data(self, seed: int, device: torch.device) -> NoisyImages:
        """The images, split once for all seeds, with labels permuted by the seed.

        Raises ``ValueError`` where a label is none of the classes.
        """
        clean = load(self.dataset, self.train_size, self.validation_size, device)
        labels, held_out = clean.train_labels, clean.validation_labels
        if (highest := int(torch.cat([labels, held_out, clean.test_labels]).max())) >= self.classes:
            raise ValueError(
                f"classes={self.classes}, but {self.dataset} has labels up to {highest}: set classes={highest + 1}"
            )
        shares = {"train": self.corrupted, "validation": self.corrupted if self.corrupted_validation else 0.0}
        given = {
            "train_labels": _permuted(labels, shares["train"], generator(seed, "labels")),
            "validation_labels": _permuted(held_out, shares["validation"], generator(seed, "labels", "validation")),
        }
        return NoisyImages(**{**vars(clean), **given}, true_labels=labels)

    def batch(self, data: NoisyImages, step: int, seed: int) -> tuple[Tensor, Tensor]:
        """Training images (N, C, H, W), ready for the network, and the labels (N,) they are given."""
        index = minibatch(len(data.train), self.batch_size, step, seed, data.train.device)
        return data.prepared(data.train[index]), data.train_labels[index]

    def inputs(self, data: NoisyImages) -> list[Tensor]:
        """Nothing: the network has no statistics that could be estimated again."""
        return []

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """SGD; weight decay acts on every parameter, as in the official code."""
        return SGD(model.parameters(), self.learning_rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """Constant."""
        return LambdaLR(optimizer, lambda step: 1.0)

    def metrics(self, model: nn.Module, data: NoisyImages) -> dict[str, float]:
        """Losses and error rates against the labels that are given, on the images that are evaluated at a snapshot.

        Where some labels are wrong also ``right_error`` and ``wrong_error``, the error rates on training images with
        right and with wrong labels, and ``wrong_restored``, the share of the latter whose true label is said.
        """
        count = self.evaluated
        said, held_out = (logits(model, data, images[:count]) for images in (data.train, data.validation))
        found = {
            **judged("train", said, data.train_labels[:count]),
            **judged("validation", held_out, data.validation_labels[:count]),
        }
        wrong = data.wrong[:count]
        if wrong.any():
            said, given, true = (labels[:count] for labels in (said.argmax(dim=1), data.train_labels, data.true_labels))
            found |= {
                "right_error": _share((said != given)[~wrong]),
                "wrong_error": _share((said != given)[wrong]),
                "wrong_restored": _share((said == true)[wrong]),
            }
        return found

    def quality(self, model: nn.Module, data: NoisyImages) -> dict[str, float]:
        """Loss and error rate on the whole official test set, whose labels are right and which decides nothing else."""
        return judged("test", logits(model, data, data.test), data.test_labels)


def _permuted(labels: Tensor, share: float, draws: torch.Generator) -> Tensor:
    """Return labels of which a share is permuted; the images chosen for a share are among those for a larger one."""
    order = torch.randperm(len(labels), generator=draws).to(labels.device)
    chosen = order[: round(share * len(labels))]
    given = labels.clone()
    given[chosen] = labels[chosen[torch.randperm(len(chosen), generator=draws).to(labels.device)]]
    return given


def _share(which: Tensor) -> float:
    """Return the share that is true, NaN of none."""
    return float(which.float().mean())


_EPOCH = 352  # batches of 128 in the paper's 45,000 training images
_PAPER = NoisyLabels(
    dataset="cifar10", widths=(256, 256, 256), classes=10, train_size=45_000, validation_size=5_000, evaluated=45_000,
    corrupted=0.0, corrupted_validation=False, init_scale=1.0, batch_size=128, learning_rate=1e-3, weight_decay=0.0,
    steps=300 * _EPOCH, every=_EPOCH,
)  # fmt: skip
_LAPTOP = replace(
    _PAPER, dataset="digits", train_size=1_024, validation_size=473, evaluated=1_024, init_scale=0.25,
    learning_rate=0.15, steps=270 * 8, every=24,
)  # fmt: skip
_TIERS = {
    "smoke": replace(
        _LAPTOP, widths=(32, 32, 32), train_size=128, validation_size=64, evaluated=128, init_scale=1.0, batch_size=32,
        learning_rate=0.03, steps=400, every=40,
    ),
    "laptop": _LAPTOP,
    "gpu": replace(_PAPER, evaluated=5_000, learning_rate=1e-2, steps=100 * _EPOCH),
    "paper": _PAPER,
}  # fmt: skip


def noisy_labels(tier: str = "laptop", **changes: Any) -> NoisyLabels:
    """Return the settings of a tier for labels some of which are wrong, with any field changed by name.

    >>> noisy_labels("paper", corrupted=1.0).widths
    (256, 256, 256)
    """
    return replace(at_tier(_TIERS, tier), **changes)
