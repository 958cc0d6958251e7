"""The benchmark of holds times what it says, apart from the update."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import specdyn as sd
from benchmarks import interventions as benchmark

TASK = sd.tasks.noisy_labels("smoke")


class Spends:
    """A constraint that takes ten milliseconds of a clock that goes on by one whenever it is read, and notes when."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.seconds = 0.0

    def process_time(self) -> float:
        self.seconds += 0.001
        return self.seconds

    def bind(self, model: nn.Module) -> Callable[[int, float], None]:
        return self.spend

    def spend(self, step: int, learning_rate: float) -> None:
        self.steps.append(step)
        self.seconds += 0.01


def test_update_and_hold_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    spends = Spends()
    monkeypatch.setattr(benchmark, "holds", lambda model: {"spends": spends})
    monkeypatch.setattr(benchmark, "time", spends)
    update, hold = benchmark.measured(TASK, "spends", updates=15)
    assert (update, hold) == pytest.approx((1, 11))
    assert spends.steps[-15:] == list(range(1, 16))


def test_low_rank_leaves_no_more_than_the_mask_where_a_component_fits() -> None:
    mask, rank = (sd.tasks.build(TASK, 0) for _ in range(2))
    for model, hold in zip((mask, rank), benchmark.holds(mask).values(), strict=True):
        hold.bind(model)
    rows, columns = mask.layers[0].weight.shape
    assert int((mask.layers[0].weight != 0).sum()) == round(benchmark.KEPT * rows * columns)
    assert int(torch.linalg.matrix_rank(rank.layers[0].weight)) * (rows + columns) <= benchmark.KEPT * rows * columns


def test_a_row_says_the_share() -> None:
    assert benchmark.row("noisy-labels", "mask", 2.0, 0.1).split() == ["noisy-labels", "mask", "2.00", "0.100", "5.0%"]
