"""Low rank: the best approximation there is, held while a network learns, at a price that is counted exactly."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import specdyn as sd
from specdyn.interventions import LowRank, rank_within
from specdyn.tasks import image_classification
from specdyn.training import DivergedError


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "runs"))


def test_every_matrix_becomes_its_best_approximation_of_its_rank_and_the_others_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 2), nn.LSTM(5, 3), nn.Embedding(9, 4), nn.Conv2d(6, 4, 2)).double()
    before = copy.deepcopy(model)
    ranks = {"0.weight": 2, "1.weight_ih_l0": 1, "2.weight": 4}
    LowRank(ranks, every=7).bind(model)
    for old, new in zip(sd.matrices(before), sd.matrices(model), strict=True):
        expected = old.view.numpy()
        if old.name in ranks:
            u, s, vh = np.linalg.svd(expected, full_matrices=False)
            expected = (u[:, : ranks[old.name]] * s[: ranks[old.name]]) @ vh[: ranks[old.name]]
        np.testing.assert_allclose(new.view, expected, atol=1e-12)
    assert all(torch.equal(one.bias, two.bias) for one, two in ((before[0], model[0]), (before[3], model[3])))


def test_in_a_run_the_rank_is_exact_whenever_it_is_due_and_grows_in_between() -> None:
    task = image_classification("smoke", every=3)
    names = [f"layers.{place}.conv.weight" for place in (0, 2, 4)]
    hold = LowRank(dict(zip(names, (1, 2, 3), strict=True)), every=6)
    recording = sd.train(task, 0, constraint=hold, device="cpu", progress=False).recording
    assert recording.steps.tolist() == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24]
    due = recording.steps % 6 == 0
    for name, rank in hold.ranks.items():
        values = recording.singular_values[name]
        beyond = values[:, rank] / values[:, 0]
        assert (beyond[due] < 1e-6).all()
        assert (beyond[~due] > 1e-4).all()
        assert (values[due, rank - 1] > 1e-4 * values[due, 0]).all()
        assert values[0, 0] != values[-1, 0]


@given(st.integers(1, 600), st.integers(1, 5_000), st.integers(0, 400_000))
def test_the_rank_within_a_budget_is_the_largest_whose_factors_fit(rows: int, columns: int, budget: int) -> None:
    rank = rank_within((rows, columns), budget)
    assert 0 <= rank <= min(rows, columns)
    assert rank * rows + rank * columns <= budget
    assert rank == min(rows, columns) or (rank + 1) * (rows + columns) > budget


def test_a_budget_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"budget=-5: give how many parameters there may be"):
        rank_within((3, 4), -5)


@pytest.mark.parametrize("settings", [{"ranks": {"weight": 0}}, {"ranks": {"weight": 1}, "every": 0}])
def test_what_leaves_nothing_or_never_acts_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"LowRank\(ranks=.*: give ranks from 1 on"):
        LowRank(**settings)


def test_a_rank_no_matrix_has_and_a_matrix_no_network_has_are_refused() -> None:
    layer = nn.Linear(5, 3)
    with pytest.raises(ValueError, match=r"weight has shape \(3, 5\) and cannot have rank 4: leave it out"):
        LowRank({"weight": 4}).bind(layer)
    with pytest.raises(ValueError, match="no matrix 'wait'"):
        LowRank({"wait": 1}).bind(layer)
    with pytest.raises(ValueError, match="weight is computed by its layer and cannot be written to"):
        LowRank({"weight": 1}).bind(nn.utils.parametrizations.weight_norm(layer))


def test_a_diverging_run_of_low_rank_is_reported_as_one() -> None:
    wild = image_classification("smoke", learning_rate=float("inf"))
    with pytest.raises(DivergedError, match="not finite at step"):
        sd.train(wild, 0, constraint=LowRank({"fc.weight": 2}), device="cpu", progress=False)
