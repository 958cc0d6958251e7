"""Image generation: digits drawn out of noise by denoising diffusion (Ho, Jain and Abbeel 2020), learned by a UNet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from specdyn.tasks import datasets
from specdyn.tasks.datasets import LabelledImages
from specdyn.tasks.datasets.bundled_digits import bundled_digits
from specdyn.tasks.task import at_least_one, at_tier, generator, in_fifths, minibatch, one_of

_CHUNK = 512  # images that are evaluated at once, so that a whole test set fits beside a network
_SAMPLES = 100  # images that are drawn to judge a network by


class UNet(nn.Module):
    """The paper's network: convolutions down, transposed ones up, and what is left on the way down added back.

    Stage k of the way down is ``conv{k}`` and ``dense{k}``, which adds the time; the first keeps the
    resolution, each other one halves it. ``tconv{k}`` undoes stage k, and the dense layers count on.
    ``widths``: channels of the stages. ``groups``: of the first normalisation, and of all others.
    ``padding``: with the paper's 0, four stages take 28x28 to 2x2. ``frequency``: standard deviation of the
    fixed random frequencies by which a time is told, in cycles a step.

    Raises ``ValueError`` where a stage is left without pixels.

    >>> network = UNet(8, widths=(8, 16), groups=(4, 8), padding=1, time_width=16, frequency=0.02)
    >>> network(torch.zeros(5, 1, 8, 8), torch.arange(5)).shape
    torch.Size([5, 1, 8, 8])
    """

    frequencies: Tensor

    def __init__(
        self,
        size: int,
        *,
        widths: tuple[int, ...],
        groups: tuple[int, int],
        padding: int,
        time_width: int,
        frequency: float,
    ) -> None:
        super().__init__()
        self.stages, channels = len(widths), (1, *widths)
        self.register_buffer("frequencies", frequency * torch.randn(time_width // 2))
        self.time_embed = nn.Linear(time_width, time_width)
        left_over = {}
        for k in range(1, self.stages + 1):
            stride = _stride(k)
            before, size = size, (size + 2 * padding - 3) // stride + 1
            if size < 1:
                raise ValueError(
                    f"stage {k} of {self.stages} finds {before}x{before} pixels and leaves none: "
                    f"take larger images, fewer widths than {widths}, or more padding than {padding}"
                )
            left_over[k] = (before + 2 * padding - 3) % stride
            self.add_module(f"conv{k}", nn.Conv2d(channels[k - 1], channels[k], 3, stride, padding, bias=False))
            self._add_time(k, channels[k], groups[min(k, 2) - 1])
        for k in range(self.stages, 0, -1):
            upwards = nn.ConvTranspose2d(
                channels[k], channels[k - 1], 3, _stride(k), padding, output_padding=left_over[k], bias=False
            )
            self.add_module(f"tconv{k}", upwards)
            if k > 1:
                self._add_time(self._place(k), channels[k - 1], groups[1])

    def _add_time(self, place: int, width: int, groups: int) -> None:
        self.add_module(f"dense{place}", nn.Linear(self.time_embed.out_features, width))
        self.add_module(f"norm{place}", nn.GroupNorm(groups, width))

    def _place(self, k: int) -> int:
        """Return the number of the dense layer after ``tconv{k}``."""
        return 2 * self.stages + 1 - k

    def forward(self, images: Tensor, times: Tensor) -> Tensor:
        """Return the noise (N, 1, H, W) believed to be in images (N, 1, H, W) at times (N,), in steps."""
        phases = 2 * math.pi * times.unsqueeze(1) * self.frequencies
        time = F.silu(self.time_embed(torch.cat([phases.sin(), phases.cos()], dim=1)))
        x, passed = images, []
        for k in range(1, self.stages + 1):
            x = self._timed(k, self.get_submodule(f"conv{k}")(x), time)
            passed.append(x)
        for k in range(self.stages, 1, -1):
            x = self._timed(self._place(k), self.get_submodule(f"tconv{k}")(x), time) + passed[k - 2]
        noise: Tensor = self.get_submodule("tconv1")(x)
        return noise

    def _timed(self, place: int, x: Tensor, time: Tensor) -> Tensor:
        shift = self.get_submodule(f"dense{place}")(time)[:, :, None, None]
        return F.silu(self.get_submodule(f"norm{place}")(x + shift))


def _stride(k: int) -> int:
    return 1 if k == 1 else 2


def sigmoid_betas(count: int, first: float, last: float) -> Tensor:
    """Return how much noise each of ``count`` steps adds (count,), float64: from about first to about last.

    >>> sigmoid_betas(3, 0.0, 0.2).round(decimals=4).tolist()
    [0.0005, 0.1, 0.1995]
    """
    return first + (last - first) * torch.linspace(-6, 6, count, dtype=torch.float64).sigmoid()


@dataclass(frozen=True)
class GreyImages:
    """Images (N, H, W) in three parts that share none, from 0 (black) to 1 (white)."""

    train: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True)
class _Source:
    """How a dataset is read, as images to train and validate on and images to test on, and what its pixels are."""

    read: Callable[[], tuple[Tensor, Tensor]]
    size: int
    mean: float
    std: float


def _bundled() -> tuple[Tensor, Tensor]:
    """Read scikit-learn's 1,797 digits; 300 of them are to test on."""
    images = bundled_digits()[0] / 16
    order = torch.randperm(len(images), generator=generator("digits", "test"))
    return images[order[300:]], images[order[:300]]


def _official(source: LabelledImages) -> tuple[Tensor, Tensor]:
    return source.train[:, 0] / 255, source.test[:, 0] / 255


_SOURCES = {
    "digits": _Source(_bundled, 8, 0.3053, 0.3760),
    "mnist": _Source(lambda: _official(datasets.mnist()), 28, 0.1307, 0.3081),
    "fashion-mnist": _Source(lambda: _official(datasets.fashion_mnist()), 28, 0.2860, 0.3530),
}


@lru_cache(maxsize=2)  # the data are those of every seed, so the runs of a sweep share them
def _loaded(dataset: str, validation_size: int, device: torch.device) -> GreyImages:
    images, test = _SOURCES[dataset].read()
    if validation_size >= len(images):
        raise ValueError(
            f"validation_size={validation_size} leaves none of the {len(images)} images of {dataset} to train on: "
            "choose a smaller one"
        )
    order = torch.randperm(len(images), generator=generator("generation", "split"))
    validation, train = images[order[:validation_size]], images[order[validation_size:]]
    return GreyImages(train.to(device), validation.to(device), test.to(device))


@lru_cache(maxsize=8)
def _amplitudes(count: int, first: float, last: float, device: torch.device) -> Tensor:
    """Return the amplitudes (2, count) of an image and of the noise in it after 1, 2, ... steps."""
    kept = (1 - sigmoid_betas(count, first, last)).cumprod(0)
    return torch.stack([kept, 1 - kept]).sqrt().float().to(device)


def _on(device: torch.device, *key: int | str) -> torch.Generator:
    """Return a generator of that device, which depends on the key as `generator` does; no draw waits for the CPU."""
    return torch.Generator(device).manual_seed(generator(*key).initial_seed())


Noised = tuple[Tensor, Tensor, Tensor]
"""Images (N, 1, H, W) with noise in them, the times (N,) it was added up to, and the noise."""


@dataclass(frozen=True)
class ImageGeneration:
    """Settings of one diffusion run (paper section 4; task T3). AdamW, constant learning rate, no average of weights.

    Images get mean 0 and standard deviation 1, then noise step by step: ``noise_steps`` steps, of which each
    replaces a share of the variance that grows from ``first_noise`` to ``last_noise`` along a sigmoid. The
    network of ``widths``, ``groups``, ``padding``, ``time_width`` and ``frequency`` (see `UNet`) learns to tell
    the noise from what it sees, in mean squared error: 1 for an answer of 0, which knows nothing.

    ``dataset``: ``"digits"`` (8x8, from scikit-learn), ``"mnist"`` or ``"fashion-mnist"``.
    ``validation_size``: images held out of the official training set. ``evaluated``: how many trials a loss
    is measured on at a snapshot: always the same images, times spread over all steps, and noise. The official
    code draws them afresh each time, so that its losses differ by chance.

    Raises ``ValueError`` for an unknown dataset, sizes below 1, and noise that does not grow or is no share.
    """

    dataset: str
    validation_size: int
    evaluated: int
    widths: tuple[int, ...]
    groups: tuple[int, int]
    padding: int
    time_width: int
    frequency: float
    noise_steps: int
    first_noise: float
    last_noise: float
    learning_rate: float
    weight_decay: float
    batch_size: int
    steps: int
    every: int
    name: str = "image-generation"

    def __post_init__(self) -> None:
        """Refuse what no run could be made of."""
        one_of(self, dataset=_SOURCES)
        at_least_one(self, "validation_size", "evaluated", "noise_steps", "batch_size", "every")
        if not 0 < self.first_noise <= self.last_noise < 1:
            raise ValueError(
                f"first_noise={self.first_noise} and last_noise={self.last_noise}: "
                "choose shares between 0 and 1, the last not below the first"
            )

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The paper's: the beginning, four within the first ``every`` steps, and then one every so many steps."""
        return in_fifths(self.every, self.steps)

    @property
    def pairs(self) -> Literal["all"]:
        """All, as the paper's seventeen include those across the skip connections."""
        return "all"

    def model(self) -> UNet:
        """The network for the dataset's size."""
        return UNet(
            _SOURCES[self.dataset].size,
            widths=self.widths,
            groups=self.groups,
            padding=self.padding,
            time_width=self.time_width,
            frequency=self.frequency,
        )

    def data(self, seed: int, device: torch.device) -> GreyImages:
        """The images, split once for all seeds."""
        return _loaded(self.dataset, self.validation_size, device)

    def batch(self, data: GreyImages, step: int, seed: int) -> Noised:
        """Training images with noise of random strength."""
        device = data.train.device
        images = data.train[minibatch(len(data.train), self.batch_size, step, seed, device)]
        draws = _on(device, seed, "noise", step)
        times = torch.randint(self.noise_steps, (len(images),), generator=draws, device=device)
        return self._noised(images, times, draws)

    def _noised(self, images: Tensor, times: Tensor, draws: torch.Generator) -> Noised:
        source = _SOURCES[self.dataset]
        clean = (images.unsqueeze(1) - source.mean) / source.std
        noise = torch.randn(clean.shape, generator=draws, device=clean.device)
        amplitudes = _amplitudes(self.noise_steps, self.first_noise, self.last_noise, clean.device)
        of_image, of_noise = amplitudes[:, times].view(2, -1, 1, 1, 1)
        return of_image * clean + of_noise * noise, times, noise

    def inputs(self, data: GreyImages) -> list[Tensor]:
        """Nothing: GroupNorm has no statistics that could be estimated again."""
        return []

    def loss(self, model: nn.Module, batch: Noised) -> Tensor:
        """Mean squared error of the noise."""
        noisy, times, noise = batch
        return F.mse_loss(model(noisy, times), noise)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """AdamW; weight decay acts on every parameter, as in the official code."""
        return AdamW(model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """Constant."""
        return LambdaLR(optimizer, lambda step: 1.0)

    def metrics(self, model: nn.Module, data: GreyImages) -> dict[str, float]:
        """Losses on ``evaluated`` trials each; training and validation images meet the same times and noise."""
        return {
            "train_loss": self._evaluated(model, data.train, self.evaluated),
            "validation_loss": self._evaluated(model, data.validation, self.evaluated),
        }

    def quality(self, model: nn.Module, data: GreyImages) -> dict[str, float]:
        """The loss on the whole test set, and how near 100 samples come to a training image, beside test images.

        ``sample_distance``: 1 where samples are as far from their nearest training image as unseen digits are,
        0 for copies, and large for noise.
        """
        samples = self.sample(model, _SAMPLES, seed=0).clamp(0, 1)  # as they are shown
        return {
            "test_loss": self._evaluated(model, data.test, max(self.evaluated, len(data.test))),
            "sample_distance": _from_nearest(samples, data.train) / _from_nearest(data.test[:_SAMPLES], data.train),
        }

    @torch.no_grad()
    def _evaluated(self, model: nn.Module, images: Tensor, trials: int) -> float:
        """Return the loss over trials; each counts the same, whatever chunk it is in."""
        device = images.device
        draws = _on(device, "evaluation")
        each = torch.arange(trials, device=device)
        shuffled = torch.randperm(trials, generator=draws, device=device)
        noised = self._noised(images[each % len(images)], shuffled * self.noise_steps // trials, draws)
        chunks = zip(*(torch.split(part, _CHUNK) for part in noised), strict=True)
        wrong = torch.stack([F.mse_loss(model(x, times), noise, reduction="sum") for x, times, noise in chunks])
        return float(wrong.sum() / noised[2].numel())

    @torch.no_grad()
    def sample(self, model: nn.Module, count: int, seed: int) -> Tensor:
        """Return images (count, H, W) drawn step by step out of pure noise (Ho et al. 2020, algorithm 2).

        Brightness is about 0 to 1, a little beyond where the network draws it so. The device is the model's.
        """
        source, device = _SOURCES[self.dataset], next(model.parameters()).device
        draws = _on(device, seed, "sample")
        betas = sigmoid_betas(self.noise_steps, self.first_noise, self.last_noise)
        kept = [1.0, *(1 - betas).cumprod(0).tolist()]
        x = torch.randn(count, 1, source.size, source.size, generator=draws, device=device)
        for t, beta in reversed(list(enumerate(betas.tolist()))):
            noise = model(x, torch.full((count,), t, device=device))
            x = (x - beta / math.sqrt(1 - kept[t + 1]) * noise) / math.sqrt(1 - beta)
            spread = math.sqrt(beta * (1 - kept[t]) / (1 - kept[t + 1]))  # 0 at the last step
            x = x + spread * torch.randn(x.shape, generator=draws, device=device)
        return x.squeeze(1) * source.std + source.mean


def _from_nearest(images: Tensor, others: Tensor) -> float:
    """Return the median distance of images (N, H, W) from the nearest of the others (M, H, W)."""
    return float(torch.cdist(images.flatten(1), others.flatten(1)).amin(1).median())


_EPOCH = 422  # batches of 128 in the paper's 54,000 training images
_PAPER = ImageGeneration(
    dataset="mnist", validation_size=6_000, evaluated=6_000, widths=(64, 128, 256, 512), groups=(4, 32), padding=0,
    time_width=512, frequency=30.0, noise_steps=1_000, first_noise=1e-5, last_noise=5e-3, learning_rate=3e-4,
    weight_decay=0.0, batch_size=128, steps=100 * _EPOCH, every=_EPOCH,
)  # fmt: skip
_LAPTOP = replace(
    _PAPER, dataset="digits", validation_size=200, evaluated=256, widths=(16, 32, 64), groups=(4, 4), padding=1,
    time_width=64, noise_steps=100, first_noise=1e-3, last_noise=0.1, learning_rate=6e-3, batch_size=64,
    steps=1_700, every=100,
)  # fmt: skip
_TIERS = {
    "smoke": replace(_LAPTOP, evaluated=64, widths=(8, 16), noise_steps=20, last_noise=0.5, steps=60, every=15),
    "laptop": _LAPTOP,
    "gpu": replace(_PAPER, learning_rate=1e-3, steps=10 * _EPOCH, every=_EPOCH // 2),
    "paper": _PAPER,
}


def image_generation(tier: str = "laptop", **changes: Any) -> ImageGeneration:
    """Return the diffusion settings of a tier, with any field changed by name.

    >>> image_generation("laptop", weight_decay=0.1).snapshots[:7]
    (0, 20, 40, 60, 80, 100, 200)
    """
    return replace(at_tier(_TIERS, tier), **changes)
