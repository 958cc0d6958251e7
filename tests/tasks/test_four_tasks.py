"""The four tasks together: the names the chapters use, and decays that contain what the tasks are given."""

import pytest
import torch

import specdyn as sd
from specdyn.interventions import Truncation


@pytest.mark.parametrize("tier", sd.tasks.TIERS)
def test_decays_go_from_none_past_what_each_task_is_given(tier: str) -> None:
    tasks, decays = sd.tasks.four_tasks(tier), sd.tasks.decay_values(tier)
    assert list(tasks) == list(decays) == ["images", "generation", "speech", "language"]
    for name, task in tasks.items():
        assert task.weight_decay in decays[name], name
        assert decays[name][0] == 0 < decays[name][-1] > task.weight_decay, name
        assert list(decays[name]) == sorted(set(decays[name])), name


def test_the_paper_tier_has_the_papers_grid_and_base_values() -> None:
    assert set(sd.tasks.decay_values("paper").values()) == {(0, 1e-4, 1e-3, 1e-2, 0.1, 1, 10)}
    assert [task.weight_decay for task in sd.tasks.four_tasks("paper").values()] == [1e-4, 0.0, 0.1, 0.1]


def test_a_caller_cannot_change_what_others_are_given() -> None:
    sd.tasks.decay_values("laptop")["images"] = ()
    assert sd.tasks.decay_values("laptop")["images"]


def test_an_unknown_tier_is_refused() -> None:
    for given in (sd.tasks.four_tasks, sd.tasks.decay_values):
        with pytest.raises(ValueError, match="unknown tier 'desktop': choose one of smoke, laptop, gpu, paper"):
            given("desktop")


def test_all_of_them_are_swept_and_probed_in_one_call(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path))
    decays = {name: values[-1:] for name, values in sd.tasks.decay_values("smoke").items()}
    runs = sd.sweep(sd.tasks.four_tasks("smoke"), weight_decay=decays, seed=[0], probe=Truncation(), device="cpu")
    assert [row["task"] for row in runs.labels] == list(decays)
    for run, row in zip(runs, runs.labels, strict=True):
        recording = run.recording
        assert run.diverged_at is None
        assert run.task.weight_decay == decays[row["task"]][0]
        assert recording.alignments, row
        for name in ("train_loss", "validation_loss"):
            for part in ("", "top_", "bottom_"):
                assert (recording.metrics[part + name] > 0).all(), (row, part, name)
        assert ("whole_train_loss" in recording.metrics) == (row["task"] == "images")
        assert ("top_but_embedding_train_loss" in recording.metrics) == (row["task"] == "language")
        assert run.task.quality(run.model(), run.task.data(0, torch.device("cpu")))
