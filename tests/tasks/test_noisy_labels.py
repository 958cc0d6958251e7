"""Noisy labels against the paper's counts, permutations that can be read off, and judgements worked out by hand."""

import math
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

import specdyn as sd
from specdyn import spectra
from specdyn.tasks import (
    NoisyImages,
    build,
    generator,
    image_data,
    image_generation,
    noisy_labels,
)
from specdyn.tasks.datasets import LabelledImages
from specdyn.tasks.noisy_labels import _permuted

CPU = torch.device("cpu")
SIZES = {"train_size": 40, "validation_size": 20, "evaluated": 40, "batch_size": 16}


def test_paper_tier_has_the_papers_network() -> None:
    model = build(noisy_labels("paper"), 0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 920_842  # the paper's 0.92 million
    found = {matrix.name: matrix.shape for matrix in spectra.matrices(model)}
    shapes = [(256, 3_072), (256, 256), (256, 256), (10, 256)]
    assert found == {f"layers.{k}.weight": shape for k, shape in enumerate(shapes)}


def test_paper_tier_trains_as_the_paper_does() -> None:
    task = noisy_labels("paper")
    optimizer = task.optimizer(nn.Linear(1, 1))
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (1e-3, 0.9, 0.0, False)
    assert (task.batch_size, task.steps, task.init_scale) == (128, 300 * math.ceil(45_000 / 128), 1.0)
    assert {352 * epoch for epoch in range(301)} < set(task.snapshots)
    assert len(task.snapshots) == 310  # the paper's 305, with nine powers of two in place of four steps


def test_the_learning_rate_stays() -> None:
    task = noisy_labels("laptop")
    factor = task.schedule(task.optimizer(nn.Linear(1, 1))).lr_lambdas[0]
    assert {factor(step) for step in (0, 1, task.steps // 2, task.steps)} == {1.0}


@pytest.mark.parametrize("tier", sd.tasks.TIERS)
def test_the_network_is_one_row_of_pairs_whose_middle_is_square(tier: str) -> None:
    model = build(noisy_labels(tier), 0)
    names = [matrix.name for matrix in spectra.matrices(model)]
    assert names == [f"layers.{k}.weight" for k in range(4)]
    assert [tuple(pair)[:2] for pair in spectra.feeds(model)] == list(pairwise(names))
    rows, columns = model.layers[1].weight.shape
    assert rows == columns == model.layers[2].weight.shape[0]


def test_network_computes_what_its_layers_do_one_by_one() -> None:
    task = noisy_labels("smoke")
    model, images = build(task, 0), torch.randn(3, 1, 8, 8, generator=generator("images"))
    x = torch.stack([torch.cat(list(image[0])) for image in images])  # row after row
    for k in range(3):
        x = (x @ model.layers[k].weight.T + model.layers[k].bias).clamp_min(0)
    expected = x @ model.layers[3].weight.T + model.layers[3].bias
    torch.testing.assert_close(model(images), expected)
    sideways = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(sideways), expected)


def test_images_in_colour_are_read_colour_by_colour(small_cifar: LabelledImages) -> None:
    """However they lie in memory, so that a matrix's columns mean the same everywhere."""
    task = noisy_labels("paper", **SIZES)
    images, _ = task.batch(task.data(0, CPU), 0, 0)
    read = []
    model = build(task, 0)
    model.layers[0].register_forward_pre_hook(lambda layer, inputs: read.append(inputs[0]))
    model(images)
    assert torch.equal(read[0][5], torch.cat([images[5, colour].reshape(-1) for colour in range(3)]))


def test_initial_parameters_are_scaled_and_nothing_else() -> None:
    whole, quarter = (build(noisy_labels("laptop", init_scale=scale), 3) for scale in (1.0, 0.25))
    for larger, smaller in zip(whole.parameters(), quarter.parameters(), strict=True):
        assert torch.equal(larger / 4, smaller)
    bound = 1 / math.sqrt(256)  # PyTorch's: uniform up to one over the root of the inputs
    assert 0.99 * bound < whole.layers[1].weight.abs().max().item() <= bound


@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 1_000))
def test_a_share_of_labels_is_permuted_and_no_other_touched(count: int, share: float, seed: int) -> None:
    before = torch.arange(count) + 100
    labels = before.clone()
    after = _permuted(labels, share, generator(seed))
    assert torch.equal(labels, before)
    assert sorted(after.tolist()) == before.tolist()
    assert int((after != before).sum()) <= round(share * count)
    assert torch.equal(after, _permuted(labels, share, generator(seed)))


def test_labels_permuted_for_a_share_are_among_those_for_a_larger_one() -> None:
    labels = torch.arange(2_000)
    shares = (0.1, 0.2, 0.5, 1.0)
    moved = [set((_permuted(labels, share, generator(7)) != labels).nonzero().flatten().tolist()) for share in shares]
    for share, found in zip(shares, moved, strict=True):
        assert 2_000 * share - 8 <= len(found) <= 2_000 * share  # one label in all is expected to find its place again
    for smaller, larger in pairwise(moved):
        assert len(smaller - larger) <= 8


def test_every_order_of_three_labels_is_as_likely() -> None:
    found = [tuple(_permuted(torch.arange(3), 1.0, generator(seed, "labels")).tolist()) for seed in range(600)]
    counts = [found.count(order) for order in set(found)]
    assert len(counts) == 6
    assert sum((count - 100) ** 2 / 100 for count in counts) < 20.5  # chi-squared of 5 degrees, 1 in 1,000


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_as_many_images_have_each_label_as_before(share: float) -> None:
    data = noisy_labels("laptop", corrupted=share).data(0, CPU)
    assert torch.equal(data.train_labels.bincount(), data.true_labels.bincount())
    wrong = float(data.wrong.float().mean())
    assert wrong == pytest.approx(0.9 * share, abs=0.03)  # one in ten finds a label of its own class
    assert torch.equal(data.wrong, data.train_labels != data.true_labels)


def test_the_seed_decides_on_labels_and_on_nothing_else() -> None:
    task = noisy_labels("laptop", corrupted=0.5, corrupted_validation=True)
    clean = noisy_labels("laptop").data(0, CPU)
    first, again, other = (task.data(seed, CPU) for seed in (0, 0, 1))
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(first).items())
    differ = {name for name, value in vars(first).items() if not torch.equal(value, getattr(other, name))}
    assert differ == {"train_labels", "validation_labels"}
    assert torch.equal(first.true_labels, clean.train_labels)
    after = noisy_labels("laptop").data(0, CPU)  # the images are shared by all runs, and nobody writes on them
    assert not after.wrong.any()


def test_validation_labels_are_right_unless_they_are_to_be_wrong_too() -> None:
    task = noisy_labels("laptop", corrupted=1.0)
    clean, kept = noisy_labels("laptop").data(0, CPU), task.data(0, CPU)
    permuted = replace(task, corrupted_validation=True).data(0, CPU)
    assert torch.equal(kept.validation_labels, clean.validation_labels)
    assert torch.equal(permuted.validation_labels.bincount(), clean.validation_labels.bincount())
    moved = (permuted.validation_labels != clean.validation_labels).float().mean()
    assert float(moved) == pytest.approx(0.9, abs=0.05)
    assert torch.equal(permuted.train_labels, kept.train_labels)  # so both runs are the same, judged otherwise
    for data in (kept, permuted):
        assert torch.equal(data.test_labels, clean.test_labels)


def test_validation_labels_alone_are_not_permuted() -> None:
    clean, task = noisy_labels("laptop").data(0, CPU), noisy_labels("laptop", corrupted_validation=True)
    assert torch.equal(task.data(0, CPU).validation_labels, clean.validation_labels)


def test_digits_are_each_in_one_part_and_tested_on_those_of_image_generation() -> None:
    data = noisy_labels("laptop").data(0, CPU)
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [1_024, 473, 300]
    from sklearn.datasets import load_digits

    bundled = load_digits()
    every = torch.cat(parts).squeeze(1)
    labels = torch.cat([data.true_labels, data.validation_labels, data.test_labels])
    found = sorted(zip((every / 255 * 16).round().flatten(1).tolist(), labels.tolist(), strict=True))
    assert found == sorted(zip(bundled.data.tolist(), bundled.target.tolist(), strict=True))
    theirs = image_generation("laptop").data(0, CPU).test
    torch.testing.assert_close(data.test.squeeze(1) / 255, theirs, atol=0.51 / 255, rtol=0)
    prepared = data.prepared(every.unsqueeze(1))
    assert float(prepared.mean()) == pytest.approx(0, abs=1e-3)
    assert float(prepared.std()) == pytest.approx(1, abs=1e-3)


def test_an_epoch_shows_every_image_once_with_the_label_it_is_given(small_cifar: LabelledImages) -> None:
    task = noisy_labels("paper", corrupted=1.0, **SIZES)
    data = task.data(0, CPU)
    batches = [task.batch(data, step, seed=3) for step in range(3)]
    assert [len(images) for images, _ in batches] == [16, 16, 8]
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    among = data.prepared(data.train)
    shown = [int((among == image).flatten(1).all(1).nonzero()) for image in images]
    assert sorted(shown) == list(range(40))
    assert torch.equal(labels, data.train_labels[shown])
    assert not torch.equal(labels, data.true_labels[shown])


class Says(nn.Module):
    """Says class 1, with a logit of 1, where the first pixel is brighter in red than the average, and else 0."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot((images[:, 0, 0, 0] > 0).long(), 10).float()


def test_metrics_are_counted_image_by_image(small_cifar: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_data, "_CHUNK", 7)  # leaves a short last chunk
    task = noisy_labels("paper", corrupted=0.5, **{**SIZES, "evaluated": 30})
    data, model = task.data(0, CPU), Says().eval()
    said = [int(pixel > 0.4914 * 255) for pixel in data.train[:30, 0, 0, 0].tolist()]
    rows = list(zip(said, data.train_labels.tolist(), data.true_labels.tolist(), strict=False))
    right, wrong = ([row for row in rows if (row[1] == row[2]) is kind] for kind in (True, False))
    assert len(right) > 10
    assert len(wrong) > 8
    metrics = task.metrics(model, data)
    assert metrics["train_error"] == pytest.approx(sum(a != b for a, b, _ in rows) / 30)
    assert metrics["train_loss"] == pytest.approx(sum(math.log(math.e + 9) - (a == b) for a, b, _ in rows) / 30)
    assert metrics["right_error"] == pytest.approx(sum(a != b for a, b, _ in right) / len(right))
    assert metrics["wrong_error"] == pytest.approx(sum(a != b for a, b, _ in wrong) / len(wrong))
    assert metrics["wrong_restored"] == pytest.approx(sum(a == c for a, _, c in wrong) / len(wrong))
    for part, images, labels, found in (
        ("validation", data.validation, data.validation_labels, metrics),
        ("test", small_cifar.test, small_cifar.test_labels, task.quality(model, data)),
    ):
        missed = [int(a > 0.4914 * 255) != b for a, b in zip(images[:, 0, 0, 0].tolist(), labels.tolist(), strict=True)]
        assert found[f"{part}_error"] == pytest.approx(sum(missed) / 20)


class Remembers(nn.Module):
    """Says for each image what it was told."""

    def __init__(self, data: NoisyImages, labels: Tensor) -> None:
        super().__init__()
        self.known = {
            tuple(image.flatten().tolist()): int(label) for image, label in zip(data.train, labels, strict=True)
        }
        self.data = data

    def forward(self, images: Tensor) -> Tensor:
        pixels = ((images * self.data.std + self.data.mean) * 255).round().to(torch.uint8)
        said = torch.tensor([self.known.get(tuple(image.flatten().tolist()), 0) for image in pixels])
        return 100.0 * nn.functional.one_hot(said, 10)


def test_memorising_and_seeing_through_the_noise_are_told_apart() -> None:
    task = noisy_labels("smoke", corrupted=0.6)
    data = task.data(0, CPU)
    memory, truth = (
        task.metrics(Remembers(data, labels).eval(), data) for labels in (data.train_labels, data.true_labels)
    )
    assert [memory[name] for name in ("train_error", "right_error", "wrong_error", "wrong_restored")] == [0, 0, 0, 0]
    assert [truth[name] for name in ("right_error", "wrong_error", "wrong_restored")] == [0, 1, 1]
    assert truth["train_error"] == pytest.approx(float(data.wrong.float().mean()))


def test_where_no_label_is_wrong_nothing_is_said_of_wrong_ones() -> None:
    task = noisy_labels("smoke")
    assert set(task.metrics(build(task, 0).eval(), task.data(0, CPU))) == {
        "train_loss", "train_error", "validation_loss", "validation_error",
    }  # fmt: skip


def test_a_share_of_no_images_is_no_number_rather_than_none_of_them_wrong() -> None:
    task = noisy_labels("smoke", corrupted=1.0)
    data = task.data(0, CPU)
    assert data.wrong[0]
    metrics = replace(task, evaluated=1).metrics(build(task, 0).eval(), data)
    assert math.isnan(metrics["right_error"])
    assert metrics["wrong_error"] == metrics["train_error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (32, 0)}, r"widths=\(32, 0\): a layer of 0 lets nothing through"),
        ({"dataset": "cifar100"}, "unknown dataset 'cifar100': choose one of .*cifar10.*digits"),
        ({"corrupted": -0.1}, r"corrupted=-0\.1 is no share of the labels: choose one from 0 to 1"),
        ({"corrupted": 20}, "corrupted=20 is no share"),
        ({"corrupted": math.nan}, "corrupted=nan is no share"),
        ({"batch_size": 0}, "batch_size=0: it has to be at least 1"),
        ({"validation_size": 0}, "validation_size=0"),
        ({"every": 0}, "every=0"),
    ],
)
def test_what_no_run_could_be_made_of_is_refused_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noisy_labels("laptop", **changes)


def test_fewer_classes_than_labels_are_refused_with_both_and_more_are_not() -> None:
    with pytest.raises(ValueError, match="classes=7, but digits has labels up to 9: set classes=10"):
        noisy_labels("smoke", classes=7).data(0, CPU)
    task = noisy_labels("smoke", classes=12)
    assert math.isfinite(task.metrics(build(task, 0).eval(), task.data(0, CPU))["train_loss"])


def test_more_images_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="train_size=1400 and validation_size=473 together exceed the 1497 images"):
        noisy_labels("laptop", train_size=1_400).data(0, CPU)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_smoke_tier_fits_any_labels(share: float, runs: Path) -> None:
    run = sd.train(noisy_labels("smoke", corrupted=share), 0, device="cpu", progress=False)
    metrics = run.recording.metrics
    assert metrics["train_error"][-1] <= 0.02
    assert metrics["train_loss"][0] == pytest.approx(math.log(10), rel=0.05)
    if share:
        assert metrics["wrong_error"][-1] <= 0.02
        assert max(metrics["wrong_error"]) > 0.5
    assert metrics["validation_error"][-1] == pytest.approx([0.1, 0.6, 0.9][round(2 * share)], abs=0.15)


def test_the_same_run_is_judged_by_clean_or_by_permuted_validation_labels(runs: Path) -> None:
    task = noisy_labels("smoke", corrupted=1.0)
    clean, permuted = (
        sd.train(replace(task, corrupted_validation=judged), 0, device="cpu", progress=False).recording
        for judged in (False, True)
    )
    assert clean.metrics["train_loss"].tolist() == permuted.metrics["train_loss"].tolist()
    assert clean.metrics["validation_loss"].tolist() != permuted.metrics["validation_loss"].tolist()
    for name, values in clean.singular_values.items():
        assert (values == permuted.singular_values[name]).all()


def test_a_branch_keeps_the_labels_of_its_trunk(runs: Path) -> None:
    task = noisy_labels("smoke", corrupted=0.5)
    trunk = sd.train(task, 0, keep=[200], device="cpu", progress=False)
    branch = sd.train(task, 100, start=trunk.checkpoint(200), device="cpu", progress=False)
    at = trunk.recording.steps.tolist().index(200)
    for name, values in branch.recording.metrics.items():
        assert values[0] == trunk.recording.metrics[name][at]
    assert branch.recording.metrics["wrong_error"][-1] <= 0.02
    assert branch.recording.metrics["train_loss"][-1] != trunk.recording.metrics["train_loss"][-1]


@pytest.mark.parametrize("tier", ["gpu", "paper"])
def test_higher_tiers_start_on_cifar(tier: str, small_cifar: LabelledImages) -> None:
    whole = noisy_labels(tier, corrupted=1.0)
    assert (whole.dataset, whole.train_size, whole.validation_size) == ("cifar10", 45_000, 5_000)
    task = replace(whole, **SIZES)
    data, model = task.data(0, CPU), build(task, 0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = task.optimizer(model)
    task.loss(model, task.batch(data, 0, seed=0)).backward()
    optimizer.step()
    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []
    assert all(math.isfinite(value) for value in task.metrics(model.eval(), data).values())


@pytest.mark.skipif("SPECDYN_DATA" not in os.environ, reason="reads CIFAR-10, and SPECDYN_DATA names no folder of it")
def test_cifar_keeps_its_classes_in_balance_under_the_papers_permutation() -> None:
    task = noisy_labels("paper", corrupted=1.0)
    data = task.data(0, CPU)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    assert torch.equal(data.train_labels.bincount(), data.true_labels.bincount())
    together = data.true_labels.bincount() + data.validation_labels.bincount()
    assert together.tolist() == [5_000] * 10
    assert float(data.wrong.float().mean()) == pytest.approx(0.9, abs=0.01)
    model = build(task, 0)
    loss = task.loss(model, task.batch(data, 0, 0))
    assert loss.item() == pytest.approx(math.log(10), rel=0.05)
