"""What can be recorded, and that a recording is made in pieces and says where it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import specdyn as sd
from recordings import record as SCRIPT

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_every_task_can_be_recorded_at_the_gpu_tier_for_every_decay() -> None:
    found = SCRIPT.recorded()
    assert list(found) == [
        "grokking_paper", "images_gpu", "generation_gpu", "speech_gpu", "language_gpu",
        "memorization_paper",
    ]  # fmt: skip
    assert list(found["images_gpu"]) == [f"images_gpu_{decay}" for decay in ("0", "0.001", "0.01", "0.1")]
    assert found["images_gpu"]["images_gpu_0.01"]["task"] == sd.tasks.image_classification("gpu", weight_decay=0.01)
    for name, decays in sd.tasks.decay_values("gpu").items():
        assert tuple(run["task"].weight_decay for run in found[f"{name}_gpu"].values()) == decays


def test_true_and_permuted_labels_are_recorded_as_in_the_paper_and_differ_in_nothing_else() -> None:
    found = SCRIPT.recorded()["memorization_paper"]
    assert len(found) == 6
    for seed in (10, 11, 12):
        true, permuted = (found[f"memorization_paper_{labels}_{seed}"] for labels in ("true", "permuted"))
        paper = sd.tasks.noisy_labels("paper", evaluated=5_000, every=true["task"].every)
        assert (true["task"], true["seed"], true["probe"]) == (paper, seed, permuted["probe"])
        assert permuted["task"] == replace(paper, corrupted=1.0)
        assert paper.steps % paper.every == 0


def test_the_update_is_what_training_has_added(tmp_path: Path) -> None:
    task = sd.tasks.noisy_labels("smoke")
    SCRIPT.record({"run": {"task": task, "seed": 3, "probe": SCRIPT.UpdateRank(3)}}, tmp_path, "cpu", "abc1234")
    kept = sd.Recording.load(tmp_path / "run.npz").metrics["update_rank_layers.1.weight"]
    start, end = sd.tasks.build(task, 3), sd.train(task, seed=3, probe=SCRIPT.UpdateRank(3), device="cpu").model()
    added = (end.layers[1].weight - start.layers[1].weight).detach().double()
    p = torch.linalg.svdvals(added)
    p = p / p.sum()
    assert kept[0] == 0
    assert kept[-1] == pytest.approx(float(torch.exp(torch.special.entr(p).sum())) / len(p), rel=1e-4)


def test_what_pages_show_can_be_recorded_again() -> None:
    (run,) = SCRIPT.recorded()["grokking_paper"].values()
    kept = sd.Recording.load(ROOT / "recordings" / "grokking_paper.npz").provenance
    assert (kept["task"], kept["seed"]) == (vars(run["task"]), SCRIPT.SEED)


def test_a_recording_is_a_chapters_own_run_made_in_pieces(tmp_path: Path, runs: Path) -> None:
    wanted = dict(list(SCRIPT.recorded("smoke")["generation_smoke"].items())[:2])
    first = dict(list(wanted.items())[:1])
    SCRIPT.record(first, tmp_path, "cpu", "abc1234")
    task = sd.tasks.four_tasks("smoke")["generation"]
    sd.sweep(
        {"generation": task}, weight_decay={"generation": [0.0]}, seed=[10], probe=sd.interventions.Truncation(),
        device="cpu", workers=1,
    )  # fmt: skip
    assert len(list(runs.glob("*/finished"))) == 1
    SCRIPT.record(wanted, tmp_path, "cpu", "abc1234")
    assert len(list(runs.glob("*/finished"))) == 2
    assert {path.name for path in tmp_path.glob("*.npz")} == {"generation_smoke_0.npz", "generation_smoke_10.npz"}
    kept = sd.Recording.load(tmp_path / "generation_smoke_10.npz")
    assert (kept.provenance["commit"], kept.provenance["seed"]) == ("abc1234", 10)
    assert kept.provenance["task"]["weight_decay"] == 10.0
    assert "top_train_loss" in kept.metrics


def test_what_diverges_is_said_and_the_others_are_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = sd.tasks.linear_network("smoke")
    SCRIPT.record(
        {"bad": {"task": sd.tasks.linear_network("smoke", learning_rate=1e30)}, "good": {"task": task}},
        tmp_path, "cpu", "abc1234",
    )  # fmt: skip
    assert "bad diverged at step" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*.npz")} == {"bad.npz", "good.npz"}


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(SystemExit, match="nothing 'images' to record: choose one of grokking_paper, images_gpu"):
        SCRIPT.main("images")
