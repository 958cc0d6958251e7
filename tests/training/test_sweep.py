"""Sweeps: every combination once, in parallel, with nothing dropped in silence."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import specdyn as sd
from specdyn.interventions import HoldNorm
from specdyn.training.loop import DivergedError

TASK = sd.tasks.modular_addition("smoke", steps=10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> sd.training.Runs:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECDYN_RUNS", str(tmp_path_factory.mktemp("sweep")))
        tasks = {"none": replace(TASK, weight_decay=0.0), "wild": replace(TASK, learning_rate=math.inf)}
        return sd.sweep(tasks, seed=[1, 2], train_fraction=[0.4, 0.6], device="cpu", workers=2)


def test_every_combination_is_there_once_under_its_labels(runs: sd.training.Runs) -> None:
    assert len(runs) == 2 * 2 * 2
    assert len({run.folder for run in runs}) == len(runs)
    for labels, run in zip(runs.labels, runs, strict=True):
        assert run.seed == labels["seed"]
        assert run.task.train_fraction == labels["train_fraction"]
    (one,) = runs.sel(task="none", seed=2, train_fraction=0.6)
    assert one.task.weight_decay == 0.0


def test_a_sweeps_run_is_the_same_as_one_trained_alone(runs: sd.training.Runs) -> None:
    (swept,) = runs.sel(task="none", seed=1, train_fraction=0.4)
    alone = sd.train(replace(TASK, weight_decay=0.0, train_fraction=0.4), 1, device="cpu", progress=False)
    assert alone.folder.name == swept.folder.name
    np.testing.assert_array_equal(
        alone.recording.singular_values["linear1.weight"], swept.recording.singular_values["linear1.weight"]
    )


def test_stack_has_a_row_a_seed(runs: sd.training.Runs) -> None:
    chosen = runs.sel(task="none", train_fraction=0.4)
    assert chosen.stack("train_loss").shape == (2, 3)
    assert chosen.stack(lambda recording: recording.effective_rank()).shape == (2, 3)


def test_diverged_runs_stay_in_the_table_with_their_step(runs: sd.training.Runs) -> None:
    table = runs.table.set_index("task")
    assert table.loc["none", "diverged_at"].isna().all()
    assert (table.loc["wild", "diverged_at"] == 1).all()
    with pytest.raises(ValueError, match=r"diverged cannot be stacked, .*'task': 'wild'"):
        runs.stack("train_loss")


def test_a_diverged_run_trained_alone_raises() -> None:
    with pytest.raises(DivergedError, match="smaller learning rate"):
        sd.train(replace(TASK, learning_rate=math.inf), 1, device="cpu", progress=False)


def test_selecting_nothing_says_what_there_is(runs: sd.training.Runs) -> None:
    with pytest.raises(KeyError, match=r"no run has .*'seed': 99.*train_fraction"):
        runs.sel(seed=99)


def test_starts_and_constraints_are_axes_like_any_other() -> None:
    trunks = sd.sweep(TASK, seed=[1, 2], keep=[5, 99], device="cpu")
    assert all(run.kept == [5, 10] for run in trunks)
    starts = {"early": {run.seed: run.checkpoint(5) for run in trunks}}
    held = {"one": HoldNorm(1.0), "two": HoldNorm(2.0)}
    branches = sd.sweep(TASK, start=starts, constraint=held, seed=[1, 2], device="cpu")
    assert branches.labels[0] == {"start": "early", "constraint": "one", "seed": 1}
    for scale, name in ((1.0, "one"), (2.0, "two")):
        for run in branches.sel(constraint=name):
            norm = run.recording.frobenius_norm("linear1.weight")
            assert run.recording.steps.tolist() == [5, 10]
            assert norm[-1] == pytest.approx(scale * norm[0], rel=1e-5)
    with pytest.raises(KeyError, match=r"start 'early' has nothing for seed 3, only for \[1, 2\]: add it"):
        sd.sweep(TASK, start=starts, seed=[3], device="cpu")


def test_a_constraint_may_differ_by_seed_or_be_that_of_all() -> None:
    held = {"own": {1: HoldNorm(3.0), 2: HoldNorm(5.0)}, "same": HoldNorm(2.0)}
    runs = sd.sweep(TASK, constraint=held, seed=[1, 2], device="cpu")
    assert [(row["constraint"], row["seed"]) for row in runs.labels] == [
        ("own", 1),
        ("own", 2),
        ("same", 1),
        ("same", 2),
    ]
    for run, scale in zip(runs, (3.0, 5.0, 2.0, 2.0), strict=True):
        norm = run.recording.frobenius_norm("linear1.weight")
        assert norm[-1] == pytest.approx(scale * norm[0], rel=1e-5)
    with pytest.raises(KeyError, match=r"constraint 'own' has nothing for seed 4, only for \[1, 2\]: add it"):
        sd.sweep(TASK, constraint=held, seed=[1, 4], device="cpu")


def size(model: nn.Module) -> float:
    return sum(float(parameter.detach().norm()) for parameter in model.parameters())


@dataclass(frozen=True)
class Size:
    """Reports the size of a network, many times over."""

    factor: float

    def __call__(self, task: object, model: nn.Module, data: object, snapshot: object) -> dict[str, float]:
        return {"scaled": self.factor * size(model)}


def test_an_axis_may_differ_by_task_and_a_probe_is_for_all() -> None:
    tasks = {"short": replace(TASK, steps=5), "long": TASK}
    decays = {"short": (value for value in [0.5]), "long": [0.0, 1.0], "other": [7.0]}
    runs = sd.sweep(tasks, weight_decay=decays, seed=[1], probe=Size(2.0), device="cpu")
    assert [(row["task"], row["weight_decay"], row["seed"]) for row in runs.labels] == [
        ("short", 0.5, 1),
        ("long", 0.0, 1),
        ("long", 1.0, 1),
    ]
    assert [run.task.weight_decay for run in runs] == [0.5, 0.0, 1.0]
    assert runs[2].recording.metrics["scaled"][-1] == pytest.approx(2 * size(runs[2].model()))
    with pytest.raises(ValueError, match=r"values for \['short'\], but the tasks are .*: add \['long'\]"):
        sd.sweep(tasks, weight_decay={"short": [0.5]}, seed=[1], device="cpu")
    with pytest.raises(TypeError, match=r"weight_decay goes by task, \['short'\], and there is one task"):
        sd.sweep(TASK, weight_decay={"short": [0.5]}, seed=[1], device="cpu")


def test_a_sweep_goes_where_runs_go_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two"):  # the workers of the first sweep serve the second
        monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / folder))
        (run,) = sd.sweep(TASK, seed=[1], device="cpu")
        assert run.folder.parent == tmp_path / folder
        assert run.finished


@pytest.mark.parametrize(
    "arguments",
    [{"seed": []}, {"seed": [1], "weight_decay": []}, {"seed": [3, 3]}, {"seed": [1], "weight_decay": [0.1, 0.1]}],
)
def test_an_empty_axis_and_a_double_are_refused(arguments: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="is empty or has doubles"):
        sd.sweep(TASK, device="cpu", **arguments)


@pytest.mark.parametrize(("axis", "value"), [("seed", 10), ("weight_decay", 0.1)])
def test_a_single_value_is_refused_with_the_cure(axis: str, value: float) -> None:
    with pytest.raises(TypeError, match=rf"{axis}={value} is one value: give a list, {axis}=\[{value}\]"):
        sd.sweep(TASK, device="cpu", **{"seed": [1], axis: value})


def test_a_seed_that_is_no_integer_is_refused() -> None:
    with pytest.raises(TypeError, match="'ten' is no integer"):
        sd.sweep(TASK, seed=["ten"], device="cpu")


def test_a_field_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="depth"):
        sd.sweep(TASK, seed=[1], depth=[2], device="cpu")
