"""Mixing, soups and planes: against NumPy's decompositions, PyTorch's averages, and plain geometry."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

import specdyn as sd
from specdyn.interventions import Mixer, Plane, combined, reestimate, truncations
from specdyn.tasks import ConvNet, build, image_classification

CPU = torch.device("cpu")
TASK = image_classification("smoke")


def pair() -> tuple[ConvNet, ConvNet]:
    return build(TASK, 0), build(TASK, 1)


def parts(weight: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    flat = weight.detach().double().flatten(1).numpy()
    u, s, vh = np.linalg.svd(flat, full_matrices=False)
    top = (u[:, :k] * s[:k]) @ vh[:k]
    return top, flat - top


@pytest.mark.parametrize(("top", "rest", "others"), [(1, 0, 0), (0, 1, 0), (0.5, 0, 0), (0.25, 0.75, 0.5)])
def test_every_matrix_has_the_top_of_one_and_the_rest_of_the_other_in_these_shares(
    top: float, rest: float, others: float
) -> None:
    one, two = pair()
    before = copy.deepcopy(one.state_dict())
    mixed = Mixer(one, two, 0.3)(top=top, rest=rest, others=others)
    for name, tensor in mixed.state_dict().items():
        ours, theirs = one.state_dict()[name], two.state_dict()[name]
        if name.endswith("conv.weight"):
            k = int(np.ceil(0.3 * min(tensor.flatten(1).shape)))
            (top1, rest1), (top2, rest2) = (parts(weight, k) for weight in (ours, theirs))
            expected = (1 - top) * top1 + top * top2 + (1 - rest) * rest1 + rest * rest2
            np.testing.assert_allclose(tensor.flatten(1), expected, atol=1e-6)
        elif tensor.is_floating_point():
            torch.testing.assert_close(tensor, (1 - others) * ours + others * theirs)
    assert all(torch.equal(before[name], tensor) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_equal_shares_of_everything_are_a_point_of_the_line(share: float) -> None:
    one, two = pair()
    mixed = Mixer(one, two, 0.4)(top=share, rest=share, others=share)
    line = combined([one, two], [1 - share, share])
    for ours, theirs in zip(mixed.parameters(), line.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0 if share in (0, 1) else 1e-7)


def test_all_or_none_of_the_components_are_whole_networks_and_what_is_spared_is_no_part() -> None:
    one, two = pair()
    whole, none = Mixer(one, two, 1.0)(top=1), Mixer(one, two, 0.0)(top=1)
    for name in [matrix.name for matrix in sd.matrices(one)][:-1]:
        torch.testing.assert_close(whole.state_dict()[name], two.state_dict()[name])
        torch.testing.assert_close(none.state_dict()[name], one.state_dict()[name])
    assert torch.equal(whole.fc.weight, one.fc.weight)
    spared = Mixer(one, two, 1.0, spare=["layers.0.conv.weight"])(top=1)
    assert torch.equal(spared.layers[0].conv.weight, one.layers[0].conv.weight)
    torch.testing.assert_close(spared.fc.weight, two.fc.weight)


def test_the_middle_of_the_top_parts_alone_is_the_average_of_truncated_networks() -> None:
    one, two = pair()
    cut = [next(truncations(model, [0.3])) for model in (one, two)]
    middle = combined(cut, [0.5, 0.5])
    (top1, _), (top2, _) = (parts(model.layers[2].conv.weight, 5) for model in (one, two))
    np.testing.assert_allclose(middle.layers[2].conv.weight.detach().flatten(1), (top1 + top2) / 2, atol=1e-6)


def test_what_cannot_be_mixed_is_refused() -> None:
    one, two = pair()
    with pytest.raises(ValueError, match=r"fraction 1.5 of the components is outside \[0, 1\]"):
        Mixer(one, two, 1.5)
    with pytest.raises(ValueError, match="cannot spare"):
        Mixer(one, two, 0.5, spare=["wait"])
    with pytest.raises(ValueError, match="networks differ"):
        Mixer(one, build(image_classification("smoke", plan=(8, "pool", 16)), 0), 0.5)


def test_a_soup_is_pytorchs_average_with_statistics_estimated_again() -> None:
    data = TASK.data(0, CPU)
    models = [build(TASK, seed) for seed in range(4)]
    average = AveragedModel(models[0])
    for model in models:
        average.update_parameters(model)
    update_bn(TASK.inputs(data), average)
    soup = reestimate(combined(models, [0.25] * 4), TASK.inputs(data)).eval()
    x = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(soup(x), average.eval()(x), rtol=1e-4, atol=1e-5)


def linear(values: list[float]) -> nn.Module:
    layer = nn.Linear(len(values), 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([values], dtype=torch.float64))
    return layer


def test_a_plane_is_measured_in_distances_and_says_how_far_beside_it_a_network_lies() -> None:
    one, two, three = linear([1, 1, 1]), linear([1, 3, 1]), linear([-2, 2, 1])
    plane = Plane(one, two, three)
    np.testing.assert_allclose(plane.corners, [(0, 0), (2, 0), (1, 3)], atol=1e-12)
    np.testing.assert_allclose(plane.network(2, -1).weight.detach(), [[2, 3, 1]], atol=1e-12)
    np.testing.assert_allclose(plane.place(linear([0, 5, -3])), (4, 1, 4), atol=1e-12)


def test_places_in_the_plane_of_networks_go_there_and_back() -> None:
    models = [build(TASK, seed) for seed in range(3)]
    plane = Plane(*models)
    for model, corner in zip(models, plane.corners, strict=True):
        again = plane.network(*corner)
        for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    x, y, beside = plane.place(plane.network(-1.5, 4.0))
    assert (x, y, beside) == pytest.approx((-1.5, 4.0, 0.0), abs=1e-5)
    distances = [(model, corner) for model, corner in zip(models, plane.corners, strict=True)]
    for (a, at), (b, to) in [(distances[0], distances[1]), (distances[1], distances[2]), (distances[0], distances[2])]:
        apart = sum(float((p - q).detach().square().sum()) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        assert np.hypot(at[0] - to[0], at[1] - to[1]) == pytest.approx(apart**0.5, rel=1e-6)


def test_a_complex_weight_has_a_place_by_both_its_parts() -> None:
    def turned(value: complex) -> nn.Module:
        layer = nn.Linear(1, 1, bias=False, dtype=torch.complex128)
        nn.init.constant_(layer.weight, value)
        return layer

    plane = Plane(turned(0), turned(2), turned(3j))
    np.testing.assert_allclose(plane.corners, [(0, 0), (2, 0), (0, 3)], atol=1e-12)
    assert plane.network(1, 1).weight.item() == pytest.approx(1 + 1j)


def test_networks_that_diverged_have_no_place() -> None:
    with pytest.raises(ValueError, match="parameters are NaN or infinite and have no place in a plane"):
        Plane(linear([1, 1]), linear([1, 3]), linear([float("nan"), 2]))


@pytest.mark.parametrize(
    "third", [lambda one, two: one, lambda one, two: two, lambda one, two: combined([one, two], [3, -2])]
)
def test_three_networks_in_a_line_span_no_plane(third: Callable[[nn.Module, nn.Module], nn.Module]) -> None:
    one, two = pair()
    with pytest.raises(ValueError, match="lie in one line"):
        Plane(one, two, third(one, two))
