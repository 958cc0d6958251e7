"""What there is already: finished runs of the present code, and nothing else."""

import math
from pathlib import Path

import numpy as np
import pytest

import specdyn as sd
from specdyn.training import DivergedError, Recording, finished
from specdyn.training.loop import science_hash

TASK = sd.tasks.modular_addition("smoke", steps=10)


def test_a_folder_that_is_not_there_holds_none(runs: Path) -> None:
    assert not runs.exists()
    assert finished() == {}


def test_finished_runs_are_found_with_what_tells_them_apart(runs: Path) -> None:
    trunk = sd.train(TASK, seed=1, keep=[5], device="cpu", progress=False)
    branch = sd.train(TASK, seed=2, start=trunk.checkpoint(5), device="cpu", progress=False)
    found = finished()
    assert set(found) == {trunk.folder.name, branch.folder.name}
    assert np.array_equal(found[branch.folder.name].steps, branch.recording.steps)
    assert found[branch.folder.name].provenance["start"][:2] == [trunk.folder.name, 5]


def test_unfinished_diverged_and_outdated_runs_are_left_out(runs: Path) -> None:
    run = sd.train(TASK, seed=1, device="cpu", progress=False)
    with pytest.raises(DivergedError):
        sd.train(sd.tasks.modular_addition("smoke", learning_rate=math.inf), seed=1, device="cpu", progress=False)
    (runs / "killed").mkdir()
    old = Recording.load(run.folder / "recording.npz")
    assert old.provenance["library"] == science_hash()
    (runs / "old").mkdir()
    (runs / "old" / "finished").write_text((run.folder / "finished").read_text())
    old.provenance["library"] = "000000000000"
    old.save(runs / "old" / "recording.npz")
    assert set(finished()) == {run.folder.name}
