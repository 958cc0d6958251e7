"""Matching: permuted copies are undone exactly, and small cases agree with trying every order."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from specdyn.interventions import Symmetry, match_activations, match_weights, permuted, symmetries
from specdyn.interventions.matching import _assigned
from specdyn.interventions.symmetries import shuffled
from specdyn.tasks import (
    MLP,
    Alphabet,
    BidirectionalLSTM,
    Task,
    build,
    image_classification,
    image_generation,
    noisy_labels,
)

CPU = torch.device("cpu")


def scrambled(model: nn.Module, among: list[Symmetry], seed: int = 0) -> nn.Module:
    draws = torch.Generator().manual_seed(seed)
    return permuted(model, {symmetry: shuffled(symmetry, draws) for symmetry in among})


def same(one: nn.Module, two: nn.Module) -> bool:
    states = one.state_dict().items()
    return all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in states)


def with_statistics(model: nn.Module) -> nn.Module:
    """Give BatchNorm's affine parameters and statistics values of their own, as training does."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def cases() -> Iterator[tuple[Task, tuple[torch.Tensor, ...]]]:
    image = torch.randn(3, 1, 16, 16)
    yield image_classification("smoke"), (image,)
    yield image_generation("smoke"), (image[..., :8, :8], torch.arange(3))
    yield noisy_labels("smoke"), (image[..., :8, :8],)


@pytest.mark.parametrize(("task", "example"), list(cases()), ids=lambda x: getattr(x, "name", ""))
def test_a_permuted_copy_is_undone_exactly_by_weights_and_by_activations(
    task: Task, example: tuple[torch.Tensor, ...]
) -> None:
    model, data = with_statistics(build(task, 0)), task.data(0, CPU)
    found = symmetries(model, *example)
    other = scrambled(model, found)
    assert not same(model, other)
    assert same(model, permuted(other, match_weights(model, other, found)))
    assert same(model, permuted(other, match_activations(task, model, other, data, found, batches=2)))


def test_a_permuted_lstm_is_undone_by_weights_and_says_that_it_is_not_seen() -> None:
    torch.manual_seed(0)
    model, x = BidirectionalLSTM(9, 8, 2, Alphabet("abcd")), torch.randn(2, 6, 9)
    found = symmetries(model, x)
    other = scrambled(model, found)
    assert same(model, permuted(other, match_weights(model, other, found)))
    task = noisy_labels("smoke")
    unseen = Symmetry(32, ("layers.1.weight",), ("layers.2.weight",), ("layers.1.bias", "absent.weight"))
    with pytest.raises(AttributeError, match="absent"):
        match_activations(task, build(task, 0), build(task, 1), task.data(0, CPU), [unseen])
    odd = Symmetry(16, ("layers.1.weight",), ("layers.2.weight",), ("layers.1.bias",))
    with pytest.raises(ValueError, match=r"what layers\.1 gives was not seen: leave this symmetry out"):
        match_activations(task, build(task, 0), build(task, 1), task.data(0, CPU), [odd])


def test_two_vgg_are_matched_within_a_minute_and_a_permuted_one_is_undone() -> None:
    model = with_statistics(build(image_classification("paper"), 0))
    began = time.process_time()
    found = symmetries(model, torch.randn(1, 3, 32, 32))
    assert [symmetry.size for symmetry in found] == [64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    other = scrambled(model, found)
    assert same(model, permuted(other, match_weights(model, other, found)))
    match_weights(model, build(image_classification("paper"), 1), found)
    assert time.process_time() - began < 60


def test_noise_and_rescaled_features_do_not_hide_the_order() -> None:
    task = noisy_labels("smoke")
    model, data = build(task, 0), task.data(0, CPU)
    found = symmetries(model, torch.randn(3, 64))
    noisy = scrambled(model, found)
    with torch.no_grad():
        for parameter in noisy.parameters():
            parameter.add_(0.2 * parameter.std() * torch.randn_like(parameter))
        for layer, factor in zip(noisy.layers, (7.0, 0.2, 1.0, 1.0), strict=True):
            layer.weight.mul_(factor)
    right = scrambled(model, found)
    for orders in (
        match_weights(model, noisy, found),
        match_activations(task, model, noisy, data, found, batches=4),
    ):
        assert same(model, permuted(right, orders))


def allowed(size: int, blocks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every order in which features stay together in blocks."""
    for order in itertools.permutations(range(size)):
        if all(
            len({order[place] // (size // count) for place in range(first, first + size // count)}) == 1
            for count in blocks
            for first in range(0, size, size // count)
        ):
            yield order


@pytest.mark.parametrize("blocks", [(), (2,), (3,), (6,), (1,), (2, 6)])
def test_the_best_order_is_the_best_of_all_that_are_allowed(blocks: tuple[int, ...]) -> None:
    score = np.random.default_rng(0).normal(size=(6, 6))
    orders = [list(order) for order in allowed(6, blocks)]
    best = max(orders, key=lambda order: score[range(6), order].sum())
    assert _assigned(score, blocks).tolist() == best
    symmetry, draws = Symmetry(6, (), (), blocks=blocks), torch.Generator().manual_seed(0)
    assert all(shuffled(symmetry, draws).tolist() in orders for _ in range(50))


def test_one_hidden_layer_is_matched_as_well_as_by_trying_every_order() -> None:
    torch.manual_seed(0)
    one, two = MLP((4, 6, 3)), MLP((4, 6, 3))
    (symmetry,) = symmetries(one, torch.randn(5, 4))

    @torch.no_grad()
    def distance(order: tuple[int, ...]) -> float:
        moved = permuted(two, {symmetry: torch.tensor(order)})
        return sum(float((a - b).square().sum()) for a, b in zip(one.parameters(), moved.parameters(), strict=True))

    best = min(itertools.permutations(range(6)), key=distance)
    assert tuple(match_weights(one, two, [symmetry])[symmetry].tolist()) == best


@pytest.mark.parametrize("seed", range(5))
def test_tied_weights_are_matched_as_well_as_by_trying_every_order(seed: int) -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
        model[1].weight = model[0].weight
        return model

    torch.manual_seed(seed)
    one, two = tied(), tied()
    (symmetry,) = symmetries(one, torch.arange(5))
    ours, theirs = (model[0].weight.detach() for model in (one, two))
    best = max(itertools.permutations(range(4)), key=lambda order: float((ours * theirs[:, order]).sum()))
    assert tuple(match_weights(one, two, [symmetry])[symmetry].tolist()) == best


def test_activations_are_matched_by_their_correlations_on_the_batches() -> None:
    task = noisy_labels("smoke", widths=(6, 5))
    one, two, data = build(task, 0), build(task, 1), task.data(0, CPU)
    found = symmetries(one, torch.randn(3, 64))
    orders = match_activations(task, one, two, data, found, batches=1)
    x = task.batch(data, 0, 0)[0].flatten(1)
    with torch.no_grad():
        seen = [[model.layers[0](x), model.layers[1](model.layers[0](x).relu())] for model in (one, two)]
    for symmetry, ours, theirs in zip(found, *seen, strict=True):
        size = symmetry.size
        correlation = np.corrcoef(ours.numpy().T, theirs.numpy().T)[:size, size:]
        best = max(itertools.permutations(range(size)), key=lambda order: correlation[range(size), order].sum())
        assert tuple(orders[symmetry].tolist()) == best


def test_networks_trained_apart_come_closer_and_compute_the_same() -> None:
    task = image_classification("smoke")
    one, two = (with_statistics(build(task, seed)) for seed in (0, 1))
    found = symmetries(one, x := torch.randn(3, 1, 16, 16))
    moved = permuted(two, match_weights(one, two, found))
    with torch.no_grad():
        torch.testing.assert_close(moved(x), two(x), rtol=1e-4, atol=1e-4)

    @torch.no_grad()
    def distance(other: nn.Module) -> float:
        return sum(float((a - b).square().sum()) for a, b in zip(one.parameters(), other.parameters(), strict=True))

    assert distance(moved) < distance(two)


def test_features_that_never_change_are_matched_last() -> None:
    task = noisy_labels("smoke")
    model, data = build(task, 0), task.data(0, CPU)
    with torch.no_grad():
        model.layers[0].weight[3:5] = 0
    found = symmetries(model, torch.randn(3, 64))
    other = scrambled(model, found)
    for orders in (match_weights(model, other, found), match_activations(task, model, other, data, found)):
        back, x = permuted(other, orders), torch.randn(5, 64)
        with torch.no_grad():
            torch.testing.assert_close(back(x), model(x))
        live = [place for place in range(32) if place not in (3, 4)]
        assert torch.equal(back.layers[0].weight[live], model.layers[0].weight[live])


def test_networks_that_cannot_be_matched_are_refused() -> None:
    one, two = MLP((4, 6, 3)), MLP((4, 6, 3))
    found = symmetries(one, torch.randn(5, 4))
    with pytest.raises(ValueError, match=r"networks differ: layers.0.bias is \(6,\) in one and \(5,\) in another"):
        match_weights(one, MLP((4, 5, 3)), found)
    nn.init.constant_(two.layers[1].weight, float("nan"))
    with pytest.raises(ValueError, match=r"weights of or after layers\.0\.weight are not finite"):
        match_weights(one, two, found)
    task = noisy_labels("smoke")
    one, two, data = build(task, 0), build(task, 1), task.data(0, CPU)
    found = symmetries(one, torch.randn(3, 64))
    with pytest.raises(ValueError, match="batches=0: features are matched by what they do on at least one"):
        match_activations(task, one, two, data, found, batches=0)
    nn.init.constant_(two.layers[0].weight, float("nan"))
    with pytest.raises(ValueError, match=r"what layers\.0 gives is not finite"):
        match_activations(task, one, two, data, found)
