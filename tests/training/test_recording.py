"""Recordings: what goes in comes out, in a file anybody can read, or there is no file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd


@pytest.fixture
def recording() -> sd.Recording:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    recorder = sd.Recorder(model, steps=[0, 2, 4], pairs=[("0.weight", "1.weight")])
    for step in range(5):
        recorder(step, loss=1 / (step + 1))
        with torch.no_grad():
            model[0].weight.mul_(2.0)
    return recorder.finish({"seed": 7})


def test_snapshots_are_states_after_so_many_updates(recording: sd.Recording) -> None:
    assert recording.steps.tolist() == [0, 2, 4]
    first, second, third = recording.singular_values["0.weight"]
    np.testing.assert_allclose(second, 4 * first, rtol=1e-6)
    np.testing.assert_allclose(third, 16 * first, rtol=1e-6)
    np.testing.assert_allclose(recording.metrics["loss"], [1, 1 / 3, 1 / 5])


def test_quantities_agree_with_numpy(recording: sd.Recording) -> None:
    s = recording.singular_values["1.weight"].astype(float)
    p = s / s.sum(axis=1, keepdims=True)
    expected = np.exp(-(p * np.log(p)).sum(axis=1)) / 4
    np.testing.assert_allclose(recording.effective_rank("1.weight"), expected, rtol=1e-6)
    both = [recording.effective_rank(name) for name in ("0.weight", "1.weight")]
    np.testing.assert_allclose(recording.effective_rank(), np.mean(both, axis=0))
    norms = [recording.frobenius_norm(name) for name in ("0.weight", "1.weight")]
    np.testing.assert_allclose(recording.frobenius_norm(), np.hypot(*norms), rtol=1e-6)


def test_alignment_is_that_of_the_vectors_and_its_chance_that_of_the_shared_dimension() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    recording = sd.Recorder(model, steps=[0], pairs=[("0.weight", "1.weight")]).finish()
    u = torch.linalg.svd(model[0].weight.detach().double())[0]
    vh = torch.linalg.svd(model[1].weight.detach().double())[2]
    expected = [abs(float(u[:, j] @ vh[j])) for j in range(4)]
    np.testing.assert_allclose(recording.alignments["0.weight", "1.weight"][0], expected, rtol=1e-5)
    np.testing.assert_allclose(recording.alignment("0.weight", "1.weight"), [np.mean(expected)], rtol=1e-5)
    assert recording.alignment_chance("1.weight") == pytest.approx(sd.alignment_chance(5))


def test_a_file_holds_everything_and_plain_numpy_reads_it(recording: sd.Recording, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    recording.save(path)
    again = sd.Recording.load(path)
    for name, array in recording.to_arrays().items():
        np.testing.assert_array_equal(array, again.to_arrays()[name])
    assert again.provenance == {"seed": 7}
    assert again.alignments.keys() == {("0.weight", "1.weight")}
    with np.load(path, allow_pickle=False) as plain:
        assert plain["singular_values/0.weight"].shape == (3, 5)


def test_the_table_is_tidy(recording: sd.Recording) -> None:
    table = recording.to_dataframe()
    assert list(table.columns) == ["step", "matrix", "index", "singular_value"]
    assert len(table) == 3 * (5 + 4)
    row = table.query("step == 2 and matrix == '1.weight' and index == 3")
    assert row["singular_value"].item() == recording.singular_values["1.weight"][1, 3]


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "newer"])
def test_a_damaged_file_is_refused_by_name(recording: sd.Recording, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run.npz"
    recording.save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        np.savez(path, something=np.ones(3))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        np.savez(path, **{**recording.to_arrays(), "format": np.array(99)})
    with pytest.raises(ValueError, match=r"run\.npz is damaged or no recording.*delete it"):
        sd.Recording.load(path)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    np.savez(path, format=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="damaged or no recording"):
        sd.Recording.load(path)


def test_a_save_that_fails_leaves_the_old_file(
    recording: sd.Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.npz"
    recording.save(path)
    before = path.read_bytes()

    def half_way(file: object, **arrays: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", half_way)
    with pytest.raises(OSError, match="disk full"):
        recording.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".*")) == []


def test_recorder_names_the_parameter_that_is_not_finite() -> None:
    model = nn.Linear(3, 2)
    recorder = sd.Recorder(model, steps=[0, 1])
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight: 1 of 6 entries is NaN"):
        recorder(1)
    assert recorder.finish().steps.tolist() == [0]


def test_recorder_takes_a_loss_as_it_comes_out_of_the_model() -> None:
    model = nn.Linear(3, 2)
    recorder = sd.Recorder(model, steps=[0])
    recorder(0, loss=model(torch.ones(3)).square().sum(), accuracy=np.float32(0.5))
    metrics = recorder.finish().metrics
    assert metrics["loss"][0] == pytest.approx(model(torch.ones(3)).square().sum().item())
    assert metrics["accuracy"].tolist() == [0.5]


def test_recorder_leaves_the_model_alone() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    version = model.weight._version
    sd.Recorder(model, steps=[0, 1])(1)
    assert torch.equal(model.weight, before)
    assert model.weight._version == version
    assert model.weight.grad is None


@pytest.mark.parametrize(("last", "count"), [(1, 2), (10, 100), (10_000, 100), (7, 3)])
def test_log_spaced_has_both_ends_and_no_doubles(last: int, count: int) -> None:
    steps = sd.log_spaced(last, count)
    assert steps[0] == 0
    assert steps[-1] == last
    assert steps == sorted(set(steps))
    assert len(steps) <= count


@pytest.mark.parametrize(("last", "count"), [(0, 5), (10, 1)])
def test_log_spaced_refuses_nothing_to_space(last: int, count: int) -> None:
    with pytest.raises(ValueError, match="log_spaced"):
        sd.log_spaced(last, count)
