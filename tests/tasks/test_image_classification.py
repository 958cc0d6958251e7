"""Image classification against the paper's counts, slow loops and updates worked out by hand."""

import math
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from specdyn import spectra
from specdyn.tasks import ImageClassification, Task, build, datasets, image_classification, image_data, noisy_labels
from specdyn.tasks.datasets import LabelledImages

CPU = torch.device("cpu")
PAPER_CONVOLUTIONS = (0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16)


def on_cifar(**changes: object) -> ImageClassification:
    sizes = {"train_size": 40, "validation_size": 20, "evaluated": 40, "batch_size": 16}
    return image_classification("paper", **{**sizes, **changes})


def whereabouts(images: Tensor, among: Tensor) -> list[int]:
    """Which of the images each one is."""
    return [int((among == image).flatten(1).all(1).nonzero()) for image in images]


def test_paper_tier_has_the_papers_network() -> None:
    task = image_classification("paper")
    model = build(task, 0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_728_266
    names = [matrix.name for matrix in spectra.matrices(model)]
    assert names == [*(f"layers.{k}.conv.weight" for k in PAPER_CONVOLUTIONS), "fc.weight"]
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    shapes = [matrix.shape for matrix in spectra.matrices(model)]
    assert shapes == [*((o, 9 * i) for i, o in zip([3, *widths], widths, strict=False)), (10, 512)]


def test_paper_tier_trains_as_the_paper_does() -> None:
    task = image_classification("paper")
    optimizer = task.optimizer(nn.Linear(1, 1))
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 1e-4, False)
    assert (task.batch_size, task.steps, task.augmentation) == (128, 164 * math.ceil(45_000 / 128), ())
    assert {352 * epoch for epoch in range(165)} < set(task.snapshots)
    assert len(task.snapshots) == 174  # the paper's 169, with nine powers of two in place of four steps


@pytest.mark.parametrize(("second", "told_apart"), [(123, 1e-2), (120, 1e-3)])
def test_learning_rate_drops_where_the_code_has_it_or_where_the_text_has_it(second: int, told_apart: float) -> None:
    task = image_classification("paper", milestones=tuple(352 * epoch for epoch in (82, second, 160)))
    factor = task.schedule(task.optimizer(nn.Linear(1, 1))).lr_lambdas[0]
    expected = {81: 0.1, 82: 1e-2, 119: 1e-2, 121: told_apart, 124: 1e-3, 159: 1e-3, 160: 1e-4, 163: 1e-4}
    assert {epoch: 0.1 * factor(352 * epoch) for epoch in expected} == pytest.approx(expected)
    assert 0.1 * factor(352 * 82 - 1) == pytest.approx(0.1)


def test_milestones_count_in_whatever_order_they_stand() -> None:
    factors = []
    for milestones in ((10, 20, 30), (30, 10, 20)):
        task = image_classification("laptop", milestones=milestones)
        factor = task.schedule(task.optimizer(nn.Linear(1, 1))).lr_lambdas[0]
        factors.append([factor(step) for step in (9, 10, 20, 29, 30)])
    assert factors[0] == factors[1] == pytest.approx([1, 0.1, 1e-2, 1e-2, 1e-3])


def test_the_network_is_one_row_of_pairs() -> None:
    model = build(image_classification("laptop"), 0)
    found = [tuple(pair)[:2] for pair in spectra.feeds(model)]
    names = [matrix.name for matrix in spectra.matrices(model)]
    assert found == list(pairwise(names))


def test_network_computes_what_its_layers_do_one_by_one() -> None:
    model = build(image_classification("smoke"), 0).eval()
    images = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    x = images
    for place in (0, None, 2, None, 4):
        if place is None:
            x = torch.stack([x[:, :, i::2, j::2] for i in range(2) for j in range(2)]).amax(0)
        else:
            block = model.layers[place]
            x = F.conv2d(F.pad(x, (1, 1, 1, 1)), block.conv.weight, block.conv.bias) / (1 + 1e-5) ** 0.5
            x = x.clamp_min(0)  # an untrained BatchNorm only divides, by the root of 1 + epsilon
    expected = x.mean((2, 3)) @ model.fc.weight.T + model.fc.bias
    assert torch.allclose(model(images), expected, atol=1e-5)


def test_parts_are_disjoint_whole_and_the_same_for_every_seed(small_cifar: LabelledImages) -> None:
    task = on_cifar()
    data = task.data(0, CPU)
    train, validation = (whereabouts(part, small_cifar.train) for part in (data.train, data.validation))
    assert sorted(train + validation) == list(range(60))
    assert data.train_labels.tolist() == [k % 10 for k in train]
    assert data.validation_labels.tolist() == [k % 10 for k in validation]
    assert torch.equal(data.test, small_cifar.test)
    assert torch.equal(task.data(1, CPU).train, data.train)


def test_images_are_normalised_by_colour(small_cifar: LabelledImages) -> None:
    data = on_cifar().data(0, CPU)
    grey = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
    expected = [(0.2 - 0.4914) / 0.2470, (0.2 - 0.4822) / 0.2435, (0.2 - 0.4465) / 0.2616]
    assert data.prepared(grey)[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_constants_of_cluttered_digits_are_theirs() -> None:
    data = image_classification("laptop").data(0, CPU)
    prepared = data.prepared(data.train)
    assert float(prepared.mean()) == pytest.approx(0, abs=0.01)
    assert float(prepared.std()) == pytest.approx(1, abs=0.01)


def test_an_epoch_shows_every_image_once_with_its_label(small_cifar: LabelledImages) -> None:
    task = on_cifar()
    data = task.data(0, CPU)
    batches = [task.batch(data, step, seed=3) for step in range(3)]
    assert [len(images) for images, _ in batches] == [16, 16, 8]
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    shown = whereabouts(images, data.prepared(data.train))
    assert sorted(shown) == list(range(40))
    assert torch.equal(labels, data.train_labels[shown])


@pytest.mark.parametrize("augmentation", [("crop",), ("flip",), ("crop", "flip")])
def test_augmented_images_are_shifted_and_mirrored_ones(
    augmentation: tuple[str, ...], small_cifar: LabelledImages
) -> None:
    plain, task = on_cifar(), on_cifar(augmentation=augmentation)
    data = task.data(0, CPU)
    before, labels = plain.batch(data, 4, seed=5)
    after, same_labels = task.batch(data, 4, seed=5)
    assert torch.equal(labels, same_labels)
    black = (-data.mean / data.std).flatten()
    found = set()
    for old, new in zip(before, after, strict=True):
        padded = black[:, None, None].repeat(1, 40, 40)
        padded[:, 4:36, 4:36] = old
        ways = {
            (y, x, mirrored): window.flip(-1) if mirrored else window
            for y in range(9)
            for x in range(9)
            for mirrored in (False, True)
            for window in (padded[:, y : y + 32, x : x + 32],)
        }
        way = [key for key, value in ways.items() if torch.equal(value, new)]
        assert len(way) == 1
        found.add(way[0])
    assert ({(y, x) for y, x, _ in found} == {(4, 4)}) == ("crop" not in augmentation)
    assert {mirrored for _, _, mirrored in found} == ({False, True} if "flip" in augmentation else {False})


def test_augmentation_is_a_function_of_seed_and_epoch(small_cifar: LabelledImages) -> None:
    task = on_cifar(augmentation=("crop", "flip"), batch_size=40)
    data = task.data(0, CPU)
    first, again, later, other = (task.batch(data, step, seed)[0] for step, seed in ((0, 0), (0, 0), (1, 0), (0, 1)))
    assert torch.equal(first, again)
    unaugmented = on_cifar(batch_size=40)
    for step, seed, images in ((1, 0, later), (0, 1, other)):
        order = whereabouts(unaugmented.batch(data, step, seed)[0], data.prepared(data.train))
        start = whereabouts(unaugmented.batch(data, 0, 0)[0], data.prepared(data.train))
        sorted_first = first[torch.tensor(start).argsort()]
        assert not torch.equal(images[torch.tensor(order).argsort()], sorted_first)


@pytest.mark.parametrize("decoupled", [False, True])
def test_decay_enters_the_momentum_or_stays_apart_from_it(decoupled: bool) -> None:
    task = image_classification("smoke", weight_decay=0.5, decoupled=decoupled, milestones=(2,), learning_rate=0.1)
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.constant_(layer.bias, -1.0)
    optimizer = task.optimizer(layer)
    schedule = task.schedule(optimizer)
    weights, momenta = [2.0, -1.0], [0.0, 0.0]
    for step, rate in enumerate([0.1, 0.1, 0.01, 0.01]):
        gradient = float(step + 1)
        for parameter in layer.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        schedule.step()
        for i, weight in enumerate(weights):
            momenta[i] = 0.9 * momenta[i] + gradient + (0.0 if decoupled else 0.5 * weight)
            weights[i] = weight * (1 - rate * 0.5 * decoupled) - rate * momenta[i]
        assert [layer.weight.item(), layer.bias.item()] == pytest.approx(weights, rel=1e-5)


class Says(nn.Module):
    """Says class 1, with a logit of 1, where the first pixel is brighter in red than the average, and else 0."""

    def forward(self, images: Tensor) -> Tensor:
        return F.one_hot((images[:, 0, 0, 0] > 0).long(), 10).float()


def by_hand(pixels: Tensor, labels: Tensor) -> tuple[float, float]:
    said = [int(pixel > 0.4914 * 255) for pixel in pixels[:, 0, 0, 0].tolist()]
    right = [a == b for a, b in zip(said, labels.tolist(), strict=True)]
    loss = sum(math.log(math.e + 9) - is_right for is_right in right) / len(right)
    return loss, 1 - sum(right) / len(right)


def test_losses_weigh_every_image_alike(small_cifar: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_data, "_CHUNK", 7)  # leaves a short last chunk
    task = on_cifar(evaluated=30)
    data, model = task.data(0, CPU), Says().eval()
    metrics, quality = task.metrics(model, data), task.quality(model, data)
    parts = {
        "train": (data.train[:30], data.train_labels[:30]),
        "validation": (data.validation, data.validation_labels),
        "test": (small_cifar.test, small_cifar.test_labels),
    }
    for part, (images, labels) in parts.items():
        loss, error = by_hand(images, labels)
        found = quality if part == "test" else metrics
        assert found[f"{part}_loss"] == pytest.approx(loss, rel=1e-5)
        assert found[f"{part}_error"] == pytest.approx(error, abs=1e-6)
    assert len(metrics) == 4
    assert len(quality) == 2


@pytest.mark.parametrize("task", [image_classification("smoke"), noisy_labels("smoke", corrupted=0.5)])
def test_evaluating_leaves_the_network_alone_and_refuses_training_mode(task: Task) -> None:
    data, model = task.data(0, CPU), build(task, 0)
    with pytest.raises(ValueError, match=r"model\.eval\(\) first"):
        task.metrics(model, data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task.metrics(model.eval(), data)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_statistics_are_estimated_on_the_images_that_are_evaluated() -> None:
    task = image_classification("smoke", evaluated=300)
    data = task.data(0, CPU)
    assert torch.equal(torch.cat(list(task.inputs(data))), data.prepared(data.train[:300]))


def test_examples_show_each_class_in_turn(small_cifar: LabelledImages) -> None:
    data = on_cifar().data(0, CPU)
    assert data.examples.shape == (10, 32, 32, 3)
    shown = (data.examples * 255).round().to(torch.uint8).permute(0, 3, 1, 2)
    assert data.train_labels[whereabouts(shown, data.train)].tolist() == list(range(10))
    assert image_classification("smoke").data(0, CPU).examples.shape == (10, 16, 16)


def test_a_label_out_of_range_is_refused_with_the_label(
    small_cifar: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> LabelledImages:
        labels = small_cifar.train_labels.clone()
        labels[7] = 10
        return replace(small_cifar, train_labels=labels)

    monkeypatch.setattr(datasets, "cifar10", damaged)
    with pytest.raises(ValueError, match="label 10 of image 7 is outside 0 to 9"):
        on_cifar().data(0, CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "cifar-10"}, "unknown dataset 'cifar-10': choose one of cluttered-digits, cifar10, mnist,"),
        ({"augmentation": ("crop", "rotate")}, "unknown augmentation 'rotate': choose among crop, flip"),
        ({"batch_size": 0}, "batch_size=0: it has to be at least 1"),
        ({"validation_size": 0}, "validation_size=0"),
        ({"every": 0}, "every=0"),
        (
            {"decoupled": True, "weight_decay": -0.1},
            "decoupled weight_decay=-0.1 at learning_rate=0.1 would let weights",
        ),
        ({"decoupled": True, "weight_decay": 11.0}, "weight_decay=11.0 .*: choose one from 0 to 1 / learning_rate"),
    ],
)
def test_what_no_run_could_be_made_of_is_refused_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_classification("laptop", **changes)


def test_decoupled_decay_may_take_all_there_is_and_coupled_decay_any() -> None:
    assert image_classification("laptop", decoupled=True, weight_decay=10.0).weight_decay == 10
    assert image_classification("laptop", weight_decay=1_000.0).weight_decay == 1_000


def test_a_place_of_the_plan_that_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="plan has 'M': give a number of channels or \"pool\""):
        build(image_classification("laptop", plan=(8, "M")), 0)


def test_more_images_than_there_are_are_refused(small_cifar: LabelledImages) -> None:
    with pytest.raises(ValueError, match="train_size=50 and validation_size=20 together exceed the 60 images"):
        on_cifar(train_size=50).data(0, CPU)


@pytest.mark.parametrize("tier", ["smoke", "laptop", "gpu"])
def test_snapshots_are_dense_early_and_meet_every_drop(tier: str) -> None:
    task = image_classification(tier)
    assert task.snapshots[:4] == (0, 1, 2, 4)
    assert task.snapshots[-1] == task.steps
    assert set(task.milestones) <= set(task.snapshots)
    assert max(b - a for a, b in pairwise(task.snapshots)) == task.every


def test_smoke_tier_takes_seconds_and_learns() -> None:
    began = time.process_time()
    task = image_classification("smoke", steps=80, milestones=(60,))
    data, model = task.data(0, CPU), build(task, 0)
    optimizer = task.optimizer(model)
    schedule, losses = task.schedule(optimizer), []
    for step in range(task.steps):
        loss = task.loss(model, task.batch(data, step, seed=0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(10), rel=0.1)
    assert sum(losses[-16:]) / 16 < 0.9 * losses[0]
    assert time.process_time() - began < 4


@pytest.mark.parametrize("tier", ["gpu", "paper"])
def test_higher_tiers_start_on_cifar(tier: str, small_cifar: LabelledImages) -> None:
    whole = image_classification(tier)
    assert (whole.train_size, whole.validation_size) == (45_000, 5_000)
    task = replace(whole, train_size=40, validation_size=20, batch_size=4, evaluated=8)
    data, model = task.data(0, CPU), build(task, 0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = task.optimizer(model)
    task.loss(model, task.batch(data, 0, seed=0)).backward()
    optimizer.step()
    unmoved = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert unmoved == []
    assert all(math.isfinite(value) for value in task.metrics(model.eval(), data).values())
