"""Interpolation: curves whose barriers are known, networks averaged by hand, statistics by the definition."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import specdyn as sd
from specdyn.interventions import Line, combined, line
from specdyn.tasks import build, image_classification, image_generation

CPU = torch.device("cpu")


class Place(nn.Module):
    """A network that is one number."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(place, dtype=torch.float64))


@dataclass
class Curve:
    """A task whose loss is a curve over that number, and which notes where it was looked at."""

    curve: Callable[[float, int], float]
    looked: list[float] = field(default_factory=list)

    def batch(self, data: object, step: int, seed: int) -> int:
        return step

    def inputs(self, data: object) -> list[Tensor]:
        return []

    def loss(self, model: Any, batch: int) -> float:
        return self.curve(float(model.place), batch)

    def metrics(self, model: Any, data: object) -> dict[str, float]:
        self.looked.append(float(model.place))
        return {"twice": 2 * self.curve(float(model.place), 0)}


def between(curve: Callable[[float, int], float], **settings: Any) -> Line:
    return line(Curve(curve), Place(0.0), Place(1.0), None, **settings)


@pytest.mark.parametrize("place", [0.5, 0.514, 0.527, 0.537, 0.55, 0.04, 0.96])
@pytest.mark.parametrize("width", [0.3, 0.1, 0.05, 0.03])
def test_a_narrow_barrier_by_itself_is_found_to_the_tolerance(place: float, width: float) -> None:
    def curve(at: float, batch: int) -> float:
        return 2 + 3 * at + 0.7 * float(np.exp(-(((at - place) / width) ** 2)))

    found = between(curve, tolerance=0.003)
    fine = np.linspace(0, 1, 100_001)
    values = np.array([curve(at, 0) for at in fine])
    true = (values - values[0] - fine * (values[-1] - values[0])).max()
    assert found.barrier() == pytest.approx(true, abs=0.003)
    assert found.barrier() <= true + 1e-9
    assert found.room <= 0.003
    assert len(found.at) < 41
    assert found.barrier("twice") == pytest.approx(2 * found.barrier())
    assert np.isin(np.linspace(0, 1, 11), found.at).all()
    assert (np.diff(found.at) > 0).all()


@pytest.mark.parametrize("hill", [-1, 0, 0.5, 2])
def test_a_peak_as_wide_as_the_points_are_apart_is_found_wherever_it_lies_on_a_hill_or_in_a_valley(hill: float) -> None:
    fine = np.linspace(0, 1, 10_001)
    for place in np.linspace(0, 1, 53):

        def curve(at: Any, batch: int, place: float = place) -> Any:
            return hill * 4 * at * (1 - at) + np.exp(-(((at - place) / 0.1) ** 2))

        values = curve(fine, 0)
        true = (values - values[0] - fine * (values[-1] - values[0])).max()
        assert between(curve).barrier() == pytest.approx(true, abs=0.01)


def test_even_points_alone_would_miss_it_and_few_more_do_not() -> None:
    def curve(at: float, batch: int) -> float:
        return float(np.exp(-(((at - 0.55) / 0.04) ** 2)))

    even, found = between(curve, most=11), between(curve)
    assert even.barrier() < 0.5
    assert even.room > 0.01
    assert found.barrier() == pytest.approx(1, abs=0.01)
    assert len(found.at) < 25


def test_no_point_is_spent_where_the_curve_is_straight_and_few_where_it_is_smooth() -> None:
    assert len(between(lambda at, batch: 1 - 3 * at).at) == 11
    assert len(between(lambda at, batch: at * (1 - at)).at) == 11
    steep = between(lambda at, batch: 9 * at * (1 - at))
    assert steep.barrier() == pytest.approx(9 / 4)
    assert 11 < len(steep.at) < 17
    assert abs(steep.at[~np.isin(steep.at, np.linspace(0, 1, 11))] - 0.5).max() < 0.1


def test_a_valley_is_no_barrier_by_the_paper_and_a_negative_one_by_the_official_code() -> None:
    found = between(lambda at, batch: 4 * (at - 0.5) ** 2)
    assert found.barrier() == 0
    assert found.barrier(over="interior") == pytest.approx(4 * 0.4**2 - 1)
    assert between(lambda at, batch: at * (1 - at)).barrier(over="interior") == pytest.approx(0.25)
    with pytest.raises(ValueError, match="over='ends': choose"):
        found.barrier(over="ends")
    with pytest.raises(ValueError, match="no metric 'los' on this line: choose one of loss, twice"):
        found.barrier("los")


def test_the_standard_error_is_that_of_the_gap_batch_by_batch() -> None:
    heights = np.array([1.0, 2.0, 4.0, 9.0])
    levels = np.array([300.0, -70.0, 5.0, 0.0])  # shared by all points, so that they cancel

    found = between(lambda at, batch: levels[batch] + heights[batch] * 4 * at * (1 - at), batches=4)
    assert found.barrier() == pytest.approx(heights.mean())
    assert found.standard_error() == pytest.approx(heights.std(ddof=1) / 2)
    assert found.standard_error(over="interior") == pytest.approx(heights.std(ddof=1) / 2)
    flat = between(lambda at, batch: levels[batch] - heights[batch] * 4 * at * (1 - at), batches=4)
    assert flat.standard_error() == 0
    assert flat.standard_error(over="interior") == pytest.approx(0.36 * heights.std(ddof=1) / 2)


@pytest.mark.parametrize("wild", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_ends_the_search_and_is_no_small_barrier(wild: float) -> None:
    found = between(lambda at, batch: wild if 0.35 < at < 0.65 else 1.0)
    assert len(found.at) == 11
    assert not found.barrier() < float("inf")


@pytest.mark.parametrize(
    ("curve", "barrier"),
    [([1, 2, np.inf], np.nan), ([np.inf, 2, np.inf], np.nan), ([1, np.inf, 1], np.inf), ([1, np.nan, 1], np.nan)],
)
def test_no_barrier_is_told_from_an_end_that_diverged_nor_its_error_where_any_point_did(
    curve: list[float], barrier: float
) -> None:
    found = Line(np.array([0, 0.5, 1]), np.array([curve, np.ones(3)]).T, {})
    np.testing.assert_equal([found.barrier(), found.barrier(over="interior")], [barrier] * 2)
    assert np.isnan([found.standard_error(), found.standard_error(over="interior"), found.room]).all()


def test_too_few_points_or_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="points=2 and batches=8: a line takes at least 3"):
        between(lambda at, batch: 0.0, points=2)
    with pytest.raises(ValueError, match="a standard error at least 2"):
        between(lambda at, batch: 0.0, batches=1)


def test_the_middle_is_what_averaging_by_hand_and_estimating_the_statistics_gives() -> None:
    task = image_classification("smoke")
    one, two, middle = (build(task, seed) for seed in (0, 1, 2))
    data = task.data(0, CPU)
    before = [copy.deepcopy(model.state_dict()) for model in (one, two)]
    found = line(task, one, two, data, points=3, most=3, batches=2)
    with torch.no_grad():
        for ours, theirs, result in zip(one.parameters(), two.parameters(), middle.parameters(), strict=True):
            result.copy_((ours + theirs) / 2)
        images = data.prepared(data.train[: task.evaluated])  # one batch of 64, so that its statistics are the mean
        x = images
        for layer in middle.layers:
            if hasattr(layer, "conv"):
                raw = layer.conv(x)
                layer.norm.running_mean.copy_(raw.mean((0, 2, 3)))
                layer.norm.running_var.copy_(raw.var((0, 2, 3)))
            x = layer.eval()(x)
    middle.eval()
    for name, value in task.metrics(middle, data).items():
        assert found.values(name)[1] == pytest.approx(value, rel=1e-4, abs=1e-6)
    expected = [float(task.loss(middle, task.batch(data, step, 0)).detach()) for step in range(2)]
    np.testing.assert_allclose(found.losses[1], expected, rtol=1e-4)
    for model, state in zip((one, two), before, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("task", [image_classification("smoke"), image_generation("smoke")])
def test_a_network_has_no_barrier_to_itself(task: Any) -> None:
    model = build(task, 0)
    found = line(task, model, copy.deepcopy(model), task.data(0, CPU))
    assert found.barrier() == found.standard_error() == found.room == 0
    assert all((found.gap(name) == 0).all() for name in found.metrics)


def test_networks_of_other_shapes_or_keys_are_refused_by_name() -> None:
    task, wide = image_classification("smoke"), image_classification("smoke", plan=(8, "pool", 16, "pool", 24))
    with pytest.raises(ValueError, match=r"fc.weight is \(10, 16\) in one and \(10, 24\) in another, and \d more"):
        line(task, build(task, 0), build(wide, 0), task.data(0, CPU))
    with pytest.raises(ValueError, match=r"1\.num_batches_tracked is absent in one and \(\) in another, and 2 more"):
        combined(
            [nn.Sequential(nn.Linear(2, 3), nn.GroupNorm(1, 3)), nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))],
            [0.5, 0.5],
        )
    with pytest.raises(ValueError, match="1 networks and 2 shares"):
        combined([nn.Linear(2, 3)], [0.5, 0.5])


def test_a_combination_is_numpys_in_every_precision_and_of_every_kind_of_entry() -> None:
    def network(seed: int, dtype: torch.dtype) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 2)).to(dtype)
        model.register_buffer("phases", torch.randn(3, dtype=torch.complex64))
        model[1].num_batches_tracked.fill_(seed)
        model[1].running_var.uniform_(0.5, 2)
        return model

    shares = [0.5, -0.25, 0.75]
    for dtype, exact in ((torch.float64, 1e-15), (torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)):
        models = [network(seed, dtype) for seed in (7, 8, 9)]
        found = combined(models, shares)
        for name, tensor in found.state_dict().items():
            parts = [model.state_dict()[name] for model in models]
            if name.endswith("num_batches_tracked"):
                assert int(tensor) == 7
                continue
            assert tensor.dtype == parts[0].dtype
            wide = [part.to(torch.promote_types(part.dtype, torch.float64)).numpy() for part in parts]
            wanted = sum(share * part for share, part in zip(shares, wide, strict=True))
            np.testing.assert_allclose(tensor.to(torch.promote_types(tensor.dtype, torch.float64)), wanted, atol=exact)
        ends = [combined(models[:2], pair).state_dict() for pair in ([1.0, 0.0], [0.0, 1.0])]
        for end, model in zip(ends, models[:2], strict=True):
            assert all(torch.equal(end[n], t) for n, t in model.state_dict().items() if t.is_floating_point())


def test_a_network_without_a_share_has_no_part_whatever_it_holds() -> None:
    one, wild = nn.Linear(2, 2), nn.Linear(2, 2)
    nn.init.constant_(wild.weight, float("inf"))
    assert torch.equal(combined([one, wild], [1.0, 0.0]).weight, one.weight)


def test_tied_weights_stay_tied() -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
        model[1].weight = model[0].weight
        return model

    one, two = tied(), tied()
    middle = combined([one, two], [0.5, 0.5])
    assert middle[0].weight is middle[1].weight
    torch.testing.assert_close(middle[0].weight, (one[0].weight + two[0].weight) / 2)


def test_networks_of_which_one_has_tied_weights_are_refused() -> None:
    one, two = (nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)) for _ in range(2))
    two[1].weight = two[0].weight
    with pytest.raises(ValueError, match=r"1\.weight is \(5, 3\) in one and \(5, 3\), tied to 0\.weight, in another"):
        combined([one, two], [0.5, 0.5])


def test_the_line_is_exported() -> None:
    assert sd.interventions.line is line
