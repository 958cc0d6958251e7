"""The UNet against one written out layer by layer, and sampling against denoisers that are known exactly."""

from __future__ import annotations

import importlib
import math
import os
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.spectra import feeds, matrices
from specdyn.tasks import GreyImages, ImageGeneration, UNet, build, image_generation
from specdyn.tasks.image_generation import sigmoid_betas

CPU = torch.device("cpu")
PAPER_MATRICES = {
    "time_embed": (512, 512),
    "conv1": (64, 9), "dense1": (64, 512), "conv2": (128, 576), "dense2": (128, 512),
    "conv3": (256, 1152), "dense3": (256, 512), "conv4": (512, 2304), "dense4": (512, 512),
    "tconv4": (256, 4608), "dense5": (256, 512), "tconv3": (128, 2304), "dense6": (128, 512),
    "tconv2": (64, 1152), "dense7": (64, 512), "tconv1": (1, 576),
}  # fmt: skip
PAPER_PAIRS = """
conv1 conv2, conv2 conv3, conv3 conv4, dense1 conv2, dense2 conv3, dense3 conv4, dense4 tconv4, conv4 tconv4,
tconv4 tconv3, tconv3 tconv2, tconv2 tconv1,
conv1 tconv1, conv2 tconv2, conv3 tconv3, dense1 tconv1, dense2 tconv2, dense3 tconv3
"""


def written_out(network: UNet, images: Tensor, times: Tensor, groups: tuple[int, int]) -> Tensor:
    """Compute the paper's four stages on 28x28, as its text describes them, one line after the other."""
    w = dict(network.named_parameters())
    angle = 2 * torch.pi * times[:, None] * network.frequencies[None]
    time = F.silu(torch.hstack([angle.sin(), angle.cos()]) @ w["time_embed.weight"].T + w["time_embed.bias"])

    def finish(x: Tensor, place: int) -> Tensor:
        shift = time @ w[f"dense{place}.weight"].T + w[f"dense{place}.bias"]
        parts = groups[0] if place == 1 else groups[1]
        x = (x + shift[..., None, None]).unflatten(1, (parts, -1))
        x = (x - x.mean((2, 3, 4), keepdim=True)) / (x.var((2, 3, 4), correction=0, keepdim=True) + 1e-5).sqrt()
        x = x.flatten(1, 2) * w[f"norm{place}.weight"][:, None, None] + w[f"norm{place}.bias"][:, None, None]
        return x * x.sigmoid()

    down1 = finish(F.conv2d(images, w["conv1.weight"]), 1)  # 26
    down2 = finish(F.conv2d(down1, w["conv2.weight"], stride=2), 2)  # 12
    down3 = finish(F.conv2d(down2, w["conv3.weight"], stride=2), 3)  # 5
    down4 = finish(F.conv2d(down3, w["conv4.weight"], stride=2), 4)  # 2
    up4 = finish(F.conv_transpose2d(down4, w["tconv4.weight"], stride=2), 5)
    up3 = finish(F.conv_transpose2d(up4 + down3, w["tconv3.weight"], stride=2, output_padding=1), 6)
    up2 = finish(F.conv_transpose2d(up3 + down2, w["tconv2.weight"], stride=2, output_padding=1), 7)
    return F.conv_transpose2d(up2 + down1, w["tconv1.weight"])


def test_same_function_as_the_network_written_out() -> None:
    torch.manual_seed(0)
    network = UNet(28, widths=(4, 8, 16, 32), groups=(2, 4), padding=0, time_width=12, frequency=30.0).double()
    for name, parameter in network.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter)
    images, times = torch.randn(3, 1, 28, 28).double(), torch.tensor([0, 5, 999])
    ours, theirs = network(images, times), written_out(network, images, times, (2, 4))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    assert not torch.allclose(ours, network(images, times + 1), atol=1e-3)


def test_paper_tier_has_the_papers_network() -> None:
    network = build(image_generation("paper"), 0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_085_504
    assert {matrix.name.removesuffix(".weight"): matrix.shape for matrix in matrices(network)} == PAPER_MATRICES
    assert [matrix.name.removesuffix(".weight") for matrix in matrices(network)] == list(PAPER_MATRICES)
    sizes = []
    for name, module in network.named_modules():
        if "conv" in name:
            module.register_forward_hook(lambda module, args, output: sizes.append(output.shape[-1]))
    assert network(torch.zeros(1, 1, 28, 28), torch.zeros(1)).shape == (1, 1, 28, 28)
    assert sizes == [26, 12, 5, 2, 5, 12, 26, 28]
    assert [group for name, module in network.named_modules() if isinstance(module, nn.GroupNorm)
            for group in [module.num_groups]] == [4, 32, 32, 32, 32, 32, 32]  # fmt: skip


def test_paper_tier_has_the_papers_protocol() -> None:
    task = image_generation("paper")
    optimizer = task.optimizer(build(task, 0))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (3e-4, (0.9, 0.999), 1e-8, 0.0)
    assert sum(parameter.numel() for parameter in group["params"]) == 4_085_504
    schedule = task.schedule(optimizer)
    assert {schedule.lr_lambdas[0](step) for step in (0, 1, task.steps)} == {1.0}
    assert task.batch_size == 128
    assert task.steps == 100 * math.ceil(54_000 / 128)
    assert len(task.snapshots) == 105
    assert task.snapshots[:7] == (0, 84, 168, 252, 336, 422, 844)
    assert task.snapshots[-1] == task.steps


def test_the_papers_seventeen_pairs_are_among_those_the_data_flow_shows() -> None:
    paper = {tuple(f"{name}.weight" for name in pair.split()) for pair in PAPER_PAIRS.split(",")}
    assert len(paper) == 17
    found = {(pair.previous, pair.next): str(pair) for pair in feeds(build(image_generation("paper"), 0))}
    assert paper <= set(found)
    skips = {pair for pair, text in found.items() if "+>" in text}
    assert skips == {(f"{kind}{k}.weight", f"tconv{k}.weight") for kind in ("conv", "dense") for k in (1, 2, 3)}
    assert image_generation("laptop").pairs == "all"


@pytest.mark.parametrize(("size", "padding", "stages"), [(8, 1, 3), (7, 1, 3), (9, 1, 4), (28, 1, 4), (27, 0, 3)])
def test_output_has_the_size_of_the_image(size: int, padding: int, stages: int) -> None:
    network = UNet(size, widths=(4,) * stages, groups=(2, 2), padding=padding, time_width=4, frequency=1.0)
    assert network(torch.zeros(2, 1, size, size), torch.zeros(2)).shape == (2, 1, size, size)


def test_an_image_that_is_used_up_is_refused() -> None:
    with pytest.raises(ValueError, match="stage 3 of 3 finds 2x2 pixels and leaves none"):
        UNet(8, widths=(4, 4, 4), groups=(2, 2), padding=0, time_width=4, frequency=1.0)


def test_the_papers_noise_leaves_some_of_the_image() -> None:
    task = image_generation("paper")
    betas = sigmoid_betas(task.noise_steps, task.first_noise, task.last_noise)
    assert len(betas) == 1_000
    assert bool((betas.diff() > 0).all())
    assert float(betas[0]) == pytest.approx(1e-5 + 4.99e-3 / (1 + math.exp(6)), rel=1e-9)
    kept = math.exp(math.fsum(math.log1p(-beta) for beta in betas.tolist()))
    assert math.sqrt(kept) == pytest.approx(0.285, abs=5e-4)


def test_a_batch_mixes_image_and_noise_as_step_by_step_noising_would() -> None:
    task = image_generation("smoke", noise_steps=7, last_noise=0.3)
    data = GreyImages(*torch.rand(3, 64, 8, 8))
    noisy, times, noise = task.batch(data, step=0, seed=0)
    assert set(times.tolist()) == set(range(7))
    betas = sigmoid_betas(7, task.first_noise, 0.3).tolist()
    found = []
    for image, at, eps in zip(noisy, times.tolist(), noise, strict=True):
        signal, variance = 1.0, 0.0
        for beta in betas[: at + 1]:
            signal, variance = signal * math.sqrt(1 - beta), variance * (1 - beta) + beta
        clean = (image - math.sqrt(variance) * eps) / signal * 0.376 + 0.3053
        distances = (data.train - clean).abs().amax((1, 2))
        found.append(int(distances.argmin()))
        assert float(distances.min()) < 1e-5
    assert sorted(found) == list(range(64))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    task = image_generation("laptop")
    data = task.data(0, CPU)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one = task.batch(data, 3, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(one, task.batch(data, 3, seed=5), strict=True))
    for other in (task.batch(data, 4, seed=5), task.batch(data, 3, seed=6)):
        assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert one[2].std() == pytest.approx(1, abs=0.05)


class Exact(nn.Module):
    """The best denoiser there is for images that are one of a few, each with its probability."""

    def __init__(self, task: ImageGeneration, images: Tensor, probabilities: list[float]) -> None:
        super().__init__()
        self.images = nn.Parameter((images.double() - 0.3053) / 0.376)
        self.log_priors = torch.tensor(probabilities).double().log()
        betas = sigmoid_betas(task.noise_steps, task.first_noise, task.last_noise)
        self.kept = torch.tensor([math.prod((1 - betas[: t + 1]).tolist()) for t in range(task.noise_steps)])

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        kept = self.kept[times.long()].double().view(-1, 1, 1, 1)
        distance = (x[:, None, 0] - kept.sqrt() * self.images).square().sum((2, 3))
        weights = (self.log_priors - distance / (2 * (1 - kept[..., 0, 0]))).softmax(1)
        clean = torch.einsum("nk,khw->nhw", weights, self.images)[:, None]
        return ((x - kept.sqrt() * clean) / (1 - kept).sqrt()).float()


class Gaussian(nn.Module):
    """The best denoiser there is for images whose pixels are independent and normal."""

    def __init__(self, task: ImageGeneration, mean: Tensor, std: float) -> None:
        super().__init__()
        self.mean, self.std = nn.Parameter((mean - 0.3053) / 0.376), std / 0.376
        self.kept = (1 - sigmoid_betas(task.noise_steps, task.first_noise, task.last_noise)).cumprod(0).float()

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        kept = self.kept[times.long()].view(-1, 1, 1, 1)
        return (1 - kept).sqrt() * (x - kept.sqrt() * self.mean) / (kept * self.std**2 + 1 - kept)


def test_samples_of_a_perfect_denoiser_are_the_images_in_their_proportions() -> None:
    task = image_generation("laptop")
    images = task.data(0, CPU).test[:3]
    samples = task.sample(Exact(task, images, [0.6, 0.3, 0.1]), 600, seed=0)
    assert samples.shape == (600, 8, 8)
    distances = (samples[:, None] - images).abs().amax((2, 3))
    assert float(distances.min(1).values.max()) < 1e-3
    shares = distances.argmin(1).bincount(minlength=3) / 600
    for share, expected in zip(shares.tolist(), [0.6, 0.3, 0.1], strict=True):
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 600))


@pytest.mark.parametrize("std", [0.376, 0.1])
def test_samples_of_a_perfect_denoiser_of_a_normal_distribution_have_its_moments(std: float) -> None:
    task = image_generation("laptop", noise_steps=400, last_noise=0.03)
    mean = torch.linspace(0, 1, 64).view(8, 8)
    samples = task.sample(Gaussian(task, mean, std), 1_000, seed=1)
    assert torch.allclose(samples.mean(0), mean, atol=5 * std / math.sqrt(1_000))
    assert float(samples.std(0).square().mean().sqrt()) == pytest.approx(std, rel=0.03)
    correlation = torch.corrcoef(samples.flatten(1).T) - torch.eye(64)
    assert float(correlation.square().mean().sqrt()) == pytest.approx(1 / math.sqrt(1_000), rel=0.1)


def test_samples_depend_on_their_seed_alone() -> None:
    task = image_generation("smoke")
    model = build(task, 0)
    before = torch.random.get_rng_state()
    one = task.sample(model, 4, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not one.requires_grad
    torch.manual_seed(99)
    assert torch.equal(one, task.sample(model, 4, seed=3))
    assert not torch.allclose(one, task.sample(model, 4, seed=4))


class Nothing(nn.Module):
    """Sees no noise anywhere."""

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Counted(nn.Module):
    """Sees no noise anywhere, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.times: list[int] = []

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        self.seen.extend(x)
        self.times.extend(times.tolist())
        return torch.zeros_like(x)


def test_the_loss_of_knowing_nothing_is_one_and_of_knowing_all_is_zero() -> None:
    task = image_generation("laptop", evaluated=2_000)
    data = task.data(0, CPU)
    assert task.metrics(Nothing(), data)["validation_loss"] == pytest.approx(1, abs=0.02)
    alike = GreyImages(*(data.test[:1].expand(5, 8, 8) for _ in range(3)))
    knows = task.metrics(Exact(task, data.test[:1], [1.0]), alike)
    assert max(knows.values()) < 1e-6


def test_trials_cover_all_times_evenly_and_the_same_for_both_parts() -> None:
    task = image_generation("laptop", evaluated=600)
    data, model = task.data(0, CPU), Counted()
    task.metrics(model, data)
    assert sorted(model.times[:600]) == sorted(list(range(100)) * 6)
    assert model.times[:600] == model.times[600:]
    assert model.times[:100] != sorted(model.times[:100])


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
def test_every_trial_counts_the_same_whatever_chunk_it_is_in(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = image_generation("smoke", evaluated=65)
    model, data = build(task, 0), task.data(0, CPU)
    expected = task.metrics(model, data)
    monkeypatch.setattr(importlib.import_module("specdyn.tasks.image_generation"), "_CHUNK", chunk)
    assert task.metrics(model, data) == pytest.approx(expected, rel=1e-5)


def test_a_loss_is_the_same_each_time_it_is_measured() -> None:
    task = image_generation("smoke")
    model, data = build(task, 0), task.data(0, CPU)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = task.metrics(model, data)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert task.metrics(model, data) == first
    same = GreyImages(data.train, data.train, data.test)
    assert task.metrics(model, same)["validation_loss"] == first["train_loss"] != first["validation_loss"]


def test_quality_reads_the_whole_test_set() -> None:
    task = image_generation("smoke", evaluated=1)
    data, model = task.data(0, CPU), Counted()
    model.register_parameter("here", nn.Parameter(torch.zeros(())))
    measured = task.quality(model, data)
    assert len(model.seen) == 20 * 100 + len(data.test)
    assert measured["test_loss"] == pytest.approx(1, abs=0.05)


def test_sample_distance_tells_copies_from_digits_from_noise() -> None:
    task = image_generation("laptop")
    data = task.data(0, CPU)

    class Frozen(ImageGeneration):
        """Draws what it is told to."""

        drawn: Tensor

        def sample(self, model: nn.Module, count: int, seed: int) -> Tensor:
            return self.drawn[:count]

    frozen = Frozen(**vars(task))
    found = {}
    for name, drawn in {
        "copies": data.train, "unseen": data.test[100:], "noise": torch.rand(100, 8, 8),
    }.items():  # fmt: skip
        object.__setattr__(frozen, "drawn", drawn)
        found[name] = frozen.quality(Nothing(), data)["sample_distance"]
    assert found["copies"] == 0
    assert found["unseen"] == pytest.approx(1, abs=0.1)
    assert found["noise"] > 2


def test_digits_are_split_once_for_all_seeds_and_none_is_in_two_parts() -> None:
    task = image_generation("laptop")
    data = task.data(0, CPU)
    assert task.data(1, CPU) is data
    assert [len(part) for part in vars(data).values()] == [1_297, 200, 300]
    from sklearn.datasets import load_digits

    every = torch.cat(list(vars(data).values()))
    bundled = torch.from_numpy(load_digits().images).float() / 16
    assert sorted(every.flatten(1).tolist()) == sorted(bundled.flatten(1).tolist())
    images, _, noise = task.batch(data, 0, 0)
    assert images.shape == noise.shape == (64, 1, 8, 8)
    assert float(every.mean()) == pytest.approx(0.3053, abs=1e-4)
    assert float(every.std()) == pytest.approx(0.3760, abs=1e-4)


@pytest.mark.skipif("SPECDYN_DATA" not in os.environ, reason="reads MNIST, and SPECDYN_DATA names no folder of it")
def test_mnist_is_split_as_in_the_paper_and_its_test_set_left_alone() -> None:
    task = image_generation("gpu", batch_size=4, evaluated=4)
    data = task.data(0, CPU)
    assert [tuple(part.shape) for part in vars(data).values()] == [
        (54_000, 28, 28), (6_000, 28, 28), (10_000, 28, 28),
    ]  # fmt: skip
    trained_on = torch.cat([data.train, data.validation])
    assert float(trained_on.mean()) == pytest.approx(0.1307, abs=1e-4)
    assert float(trained_on.std()) == pytest.approx(0.3081, abs=1e-4)
    model = build(task, 0)
    batch = task.batch(data, 0, 0)
    before = task.loss(model, batch).item()
    optimizer = task.optimizer(model)
    for _ in range(3):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    assert task.loss(model, batch).item() < before


def test_a_run_of_the_smallest_tier_learns_in_under_two_seconds() -> None:
    begin = time.process_time()
    task = image_generation("smoke")
    model, data = build(task, 0), task.data(0, CPU)
    optimizer = task.optimizer(model)
    before = task.metrics(model, data)
    for step in range(task.steps):
        loss = task.loss(model, task.batch(data, step, seed=0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = task.metrics(model, data)
    assert all(after[name] < 0.8 * before[name] for name in before)
    assert time.process_time() - begin < 4  # twice the budget, for a machine that is busy


def test_every_tier_has_about_two_dozen_snapshots_or_the_papers() -> None:
    for tier, count in {"laptop": 22, "gpu": 25, "paper": 105}.items():
        snapshots = image_generation(tier).snapshots
        assert len(snapshots) == count
        assert snapshots[0] == 0
        assert snapshots[-1] == image_generation(tier).steps
        assert list(snapshots) == sorted(set(snapshots))
    assert image_generation("smoke", steps=5, every=1).snapshots == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "letters"}, "unknown dataset 'letters': choose one of digits, mnist, fashion-mnist"),
        ({"batch_size": 0}, "batch_size=0: it has to be at least 1"),
        ({"noise_steps": 0}, "noise_steps=0"),
        ({"first_noise": 0.2, "last_noise": 0.1}, "first_noise=0.2 and last_noise=0.1: choose shares"),
        ({"last_noise": 1.0}, "last_noise=1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        image_generation("laptop", **change)


def test_a_validation_part_that_leaves_nothing_is_refused() -> None:
    task = image_generation("laptop", validation_size=1_497)
    with pytest.raises(ValueError, match="validation_size=1497 leaves none of the 1497 images of digits"):
        task.data(0, CPU)


def test_unknown_tier_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown tier 'huge': choose one of smoke, laptop, gpu, paper"):
        image_generation("huge")


def test_data_moves_whole() -> None:
    data = image_generation("smoke").data(0, torch.device("meta"))
    assert all(tensor.device.type == "meta" for tensor in vars(data).values())
