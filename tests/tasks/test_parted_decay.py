"""Decay on parts reaches just these; growing steps in its place give the same network, only larger."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

from specdyn.tasks import ImageClassification, image_classification, parted_decay
from specdyn.tasks.task import build

STEPS = 40
TASK = image_classification("smoke", weight_decay=0.02, steps=STEPS, milestones=(30,))


def trained(task: ImageClassification) -> nn.Module:
    """A network in double precision, after all steps, with the same batches for every task."""
    model = build(task, 0).double()
    data = task.data(0, torch.device("cpu"))
    optimizer = task.optimizer(model)
    schedule = task.schedule(optimizer)
    for step in range(STEPS):
        images, labels = task.batch(data, step, 0)
        optimizer.zero_grad()
        task.loss(model, (images.double(), labels)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model


def convolutions(model: nn.Module) -> list[torch.Tensor]:
    return [weight.detach() for weight in model.parameters() if weight.ndim == 4]


def norms(weights: Sequence[torch.Tensor]) -> list[float]:
    return [float(weight.norm()) for weight in weights]


def test_decay_on_both_parts_is_the_plain_task() -> None:
    for ours, theirs in zip(trained(parted_decay(TASK)).parameters(), trained(TASK).parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_twin_without_decay_is_the_decayed_network_but_for_its_scale() -> None:
    """Through a drop of the learning rate, and with the rest of the network decayed as before."""
    task = parted_decay(TASK, on=("rest",), growing=True)
    twin, decayed = trained(task), trained(TASK)
    left = task.paced()[1][-1]
    assert left < 0.7
    for grown, shrunk in zip(convolutions(twin), convolutions(decayed), strict=True):
        # BatchNorm adds a small number to a variance before it divides, which knows of the scale
        torch.testing.assert_close(grown * left, shrunk, rtol=1e-2, atol=1e-3)
        assert torch.cosine_similarity(grown.flatten(), shrunk.flatten(), dim=0) > 0.99999


def test_without_growing_steps_the_directions_differ() -> None:
    plain, decayed = trained(parted_decay(TASK, on=("rest",))), trained(TASK)
    cosines = [
        torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        for a, b in zip(convolutions(plain), convolutions(decayed), strict=True)
    ]
    assert min(cosines) < 0.99


def test_decay_reaches_the_parts_that_are_named() -> None:
    for on in (("convolutions",), ("rest",), ()):
        groups = parted_decay(TASK, on=on).optimizer(TASK.model()).param_groups
        assert [group["weight_decay"] for group in groups] == [
            0.02 * ("convolutions" in on),
            0.02 * ("rest" in on),
        ]
        assert all(weight.ndim == 4 for weight in groups[0]["params"])
        assert sum(len(group["params"]) for group in groups) == len(list(TASK.model().parameters()))


def test_what_is_left_without_gradient_is_worked_out_by_hand() -> None:
    """Momentum 0.9: the step b is 0.9 b + decay w, the weight w - rate b."""
    rates, left = parted_decay(TASK).paced()
    weight, buffer, by_hand = 1.0, 0.0, [1.0]
    for rate in rates:
        buffer = 0.9 * buffer + 0.02 * weight
        weight -= rate * buffer
        by_hand.append(weight)
    assert left.tolist() == pytest.approx(by_hand)
    assert rates.tolist() == pytest.approx([0.1] * 30 + [0.01] * 10)


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="has 'head': choose among convolutions, rest"):
        parted_decay(TASK, on=("head",))
    with pytest.raises(ValueError, match="take 'convolutions' out of on"):
        parted_decay(TASK, growing=True)
    with pytest.raises(ValueError, match="set decoupled=False"):
        parted_decay(replace(TASK, decoupled=True))
    strong = parted_decay(replace(TASK, weight_decay=0.5), on=("rest",), growing=True)
    with pytest.raises(ValueError, match="carries weights beyond zero at step"):
        strong.paced()
