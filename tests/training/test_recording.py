"""Recordings: what goes in comes out, in a small file anybody can read, or there is no file."""

import io
import itertools
import json
import math
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.spectra import Pair
from specdyn.training.files import book_root

PAIR = Pair("0.weight", "1.weight")


@pytest.fixture
def recording() -> sd.Recording:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    recorder = sd.Recorder(model, steps=[0, 2, 4], pairs=[PAIR], vectors=4)
    for step in range(5):
        recorder(step, loss=1 / (step + 1))
        with torch.no_grad():
            model[0].weight.mul_(2.0)
    return recorder.finish({"seed": 7})


def same(one: sd.Recording, two: sd.Recording) -> bool:
    ours, theirs = one.to_arrays(), two.to_arrays()
    return list(ours) == list(theirs) and all(
        ours[key].dtype == theirs[key].dtype and ours[key].tobytes() == theirs[key].tobytes() for key in ours
    )


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
    np.testing.assert_allclose(recording.alignments[PAIR][0], expected, rtol=1e-5)
    np.testing.assert_allclose(recording.alignment(("0.weight", "1.weight")), [np.mean(expected)], rtol=1e-5)
    assert recording.alignment_chance(("0.weight", "1.weight")) == pytest.approx(sd.alignment_chance(5))


def test_what_comes_out_of_a_file_is_what_went_in(recording: sd.Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "run.npz")
    again = sd.Recording.load(tmp_path / "run.npz")
    assert same(again, recording)
    assert again.provenance == {"seed": 7}
    assert again.vector_steps.tolist() == [0, 4]
    assert list(again.alignments) == list(again.alignment_blocks) == list(again.alignment_chances) == [PAIR]
    assert list(again.agreements) == list(again.agreement_chances) == ["0.weight", "1.weight"]


def test_plain_numpy_reads_every_array(recording: sd.Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as plain:
        read = {key: plain[key] for key in plain.files}
    expected = {
        "format": (),
        "steps": (3,),
        "vector_steps": (2,),
        "rule": (),
        "provenance": (),
        "singular_values/0.weight": (3, 5),
        "singular_values/1.weight": (3, 4),
        "shape/0.weight": (2,),
        "shape/1.weight": (2,),
        "alignment/0.weight -> 1.weight": (2, 4),
        "alignment_block/0.weight -> 1.weight": (2, 5, 4),
        "alignment_chance/0.weight -> 1.weight": (),
        "agreement/0.weight": (2, 5),
        "agreement/1.weight": (2, 4),
        "agreement_block/0.weight": (2, 5, 5),
        "agreement_block/1.weight": (2, 4, 4),
        "subspace_agreement/0.weight": (2,),
        "subspace_agreement/1.weight": (2,),
        "agreement_chance/0.weight": (),
        "agreement_chance/1.weight": (),
        "metric/loss": (3,),
    }
    assert {key: array.shape for key, array in read.items()} == expected
    assert {array.dtype.kind for array in read.values()} == {"i", "f", "U"}
    assert read["steps"].tolist() == [0, 2, 4]
    np.testing.assert_array_equal(read["singular_values/0.weight"], recording.singular_values["0.weight"])
    assert json.loads(str(read["provenance"])) == {"seed": 7}


@pytest.mark.parametrize("arrow", ["->", "+>", "~"])
def test_pairs_keep_their_arrow_whatever_their_names(recording: sd.Recording, tmp_path: Path, arrow: str) -> None:
    pair = Pair("blocks.0.attn.in_proj_weight[q*]", "up.weight[:,0:64]", arrow)
    values = recording.alignments[PAIR]
    one = replace(recording, alignments={pair: values}, alignment_blocks={}, alignment_chances={pair: 0.25})
    one.save(tmp_path / "run.npz")
    again = sd.Recording.load(tmp_path / "run.npz")
    assert again.alignment_chance(pair) == 0.25
    np.testing.assert_array_equal(again.alignments[pair], values)


def test_what_was_not_recorded_is_named_with_what_was(recording: sd.Recording) -> None:
    with pytest.raises(KeyError, match=r"no matrix '2.weight' in this recording; it has 0.weight, 1.weight"):
        recording.effective_rank("2.weight")
    with pytest.raises(KeyError, match=r"no alignment '1.weight -> 0.weight' in .*; it has 0.weight -> 1.weight"):
        recording.alignment(("1.weight", "0.weight"))
    with pytest.raises(KeyError, match=r"no alignment '0.weight ~ 1.weight'"):
        recording.alignment_chance(("0.weight", "1.weight", "~"))
    with pytest.raises(KeyError, match=r"no agreement '0.weight' in this recording; it has none"):
        replace(recording, agreements={}).agreement("0.weight")


def test_a_recording_shows_as_one_line(recording: sd.Recording) -> None:
    assert repr(recording) == (
        "Recording(3 snapshots from step 0 to 4, 2 with vectors; 2 matrices, 1 pairs; metrics: loss)"
    )


def test_tables_are_tidy(recording: sd.Recording) -> None:
    table = recording.to_dataframe()
    assert list(table.columns) == ["step", "matrix", "index", "singular_value"]
    assert len(table) == 3 * (5 + 4)
    row = table.query("step == 2 and matrix == '1.weight' and index == 3")
    assert row["singular_value"].item() == recording.singular_values["1.weight"][1, 3]

    table = recording.to_dataframe("alignment")
    assert list(table.columns) == ["step", "previous", "next", "arrow", "index", "alignment", "chance"]
    row = table.query("step == 4 and index == 2")
    assert row["alignment"].item() == recording.alignments[PAIR][1, 2]
    assert row["chance"].item() == recording.alignment_chance(PAIR)
    assert (row["previous"].item(), row["next"].item(), row["arrow"].item()) == PAIR

    table = recording.to_dataframe("agreement")
    assert list(table.columns) == ["step", "matrix", "index", "agreement", "chance"]
    assert len(table) == 2 * (5 + 4)
    row = table.query("step == 0 and matrix == '0.weight' and index == 4")
    assert row["agreement"].item() == recording.agreements["0.weight"][0, 4]

    table = recording.to_dataframe("metrics")
    assert table.to_dict("list") == {"step": [0, 2, 4], "metric": 3 * ["loss"], "value": [1, 1 / 3, 1 / 5]}


def test_a_table_of_nothing_is_empty_and_an_unknown_one_refused(recording: sd.Recording) -> None:
    empty = replace(recording, alignments={}).to_dataframe("alignment")
    assert len(empty) == 0
    assert "alignment" in empty.columns
    with pytest.raises(ValueError, match="no table of 'vectors': choose one of singular_values, alignment, agreement"):
        recording.to_dataframe("vectors")


def test_the_first_format_is_still_read(tmp_path: Path) -> None:
    path = book_root() / "recordings" / "grokking_paper.npz"
    old = sd.Recording.load(path)
    with np.load(path) as plain:
        assert int(plain["format"]) == 1
        diagonal = plain["alignment/embedding.weight -> attention.in_proj_weight"]
        for name in old.matrices:
            np.testing.assert_array_equal(old.singular_values[name], plain[f"singular_values/{name}"])
    pair = ("embedding.weight", "attention.in_proj_weight")
    np.testing.assert_allclose(old.alignment(pair), diagonal[:, :10].mean(axis=1), rtol=1e-5)
    assert old.alignment_chance(pair) == sd.alignment_chance(128)
    assert old.vector_steps.tolist() == old.steps.tolist() == list(range(0, 40_001, 200))
    assert old.effective_rank()[0] > 0.8 > 0.5 > old.effective_rank()[-1]
    assert len(old.to_dataframe("alignment")) == diagonal.size
    old.save(tmp_path / "new.npz")
    assert same(sd.Recording.load(tmp_path / "new.npz"), old)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "another archive", "array", "empty", "text", "old"])
def test_a_damaged_or_foreign_file_is_refused_by_name(recording: sd.Recording, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run.npz"
    recording.save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        np.savez(path, something=np.ones(3))
    elif damage == "another archive":
        np.savez(path, format=np.ones(3), steps=np.ones(3))
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif damage == "old":
        np.savez(path, format=np.array(0))
    else:
        path.write_bytes(b"" if damage == "empty" else b"step,loss\n0,1\n")
    with pytest.raises(ValueError, match=r"run\.npz is damaged or no recording.*record it again"):
        sd.Recording.load(path)


def test_a_file_of_a_newer_format_is_not_called_damaged(recording: sd.Recording, tmp_path: Path) -> None:
    np.savez(tmp_path / "run.npz", **{**recording.to_arrays(), "format": np.array(99)})
    with pytest.raises(ValueError, match=r"run\.npz: format 99 is newer than the 2 this library reads: update specdyn"):
        sd.Recording.load(tmp_path / "run.npz")


def test_a_file_cut_anywhere_is_refused(recording: sd.Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "run.npz")
    whole = (tmp_path / "run.npz").read_bytes()
    for end in range(0, len(whole), 29):
        (tmp_path / "cut.npz").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"cut\.npz is damaged"):
            sd.Recording.load(tmp_path / "cut.npz")


def test_a_flipped_bit_in_an_array_is_found(recording: sd.Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "run.npz")
    whole = (tmp_path / "run.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "run.npz") as archive:
        arrays = archive.infolist()
    for array in arrays:
        damaged = bytearray(whole)
        data = array.header_offset + 30 + len(array.filename)  # what follows the local header
        damaged[data + array.compress_size // 2] ^= 1
        (tmp_path / "flipped.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"flipped\.npz is damaged"):
            sd.Recording.load(tmp_path / "flipped.npz")


class _Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("kind", ["an array of the archive", "a bare array", "a bare pickle"])
def test_a_pickle_that_would_execute_code_is_refused_and_not_run(
    recording: sd.Recording, tmp_path: Path, kind: str
) -> None:
    path, sprung = tmp_path / "run.npz", tmp_path / "sprung"
    trap = np.array([_Trap(sprung)], dtype=object)
    with path.open("wb") as file:
        if kind == "an array of the archive":
            np.savez(file, allow_pickle=True, **{**recording.to_arrays(), "metric/loss": trap})
        elif kind == "a bare array":
            np.save(file, trap, allow_pickle=True)
        else:
            pickle.dump(trap, file)
    with pytest.raises(ValueError, match=r"run\.npz is damaged or no recording"):
        sd.Recording.load(path)
    assert not sprung.exists()
    loaded = np.load(io.BytesIO(path.read_bytes()), allow_pickle=True)  # it would have
    _ = loaded["metric/loss"] if kind == "an array of the archive" else loaded
    assert sprung.exists()


AGREEMENTS = ("agreement", "agreement_block", "subspace_agreement")
VGG = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


def vgg(share: int = 1) -> nn.Sequential:
    """The matrices of VGG-16 for CIFAR-10, as narrow as a share of its channels."""
    widths = [max(3, width // share) for width in VGG]
    layers = [nn.Conv2d(a, b, 3) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def sizes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """By hand: the matrices as (rows, columns)."""
    return {name: (p.shape[0], p[0].numel()) for name, p in model.named_parameters() if p.ndim > 1}


def by_hand(shapes: dict[str, tuple[int, int]], snapshots: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all measurements in a recording with vectors at every snapshot, and of the vectors held."""
    expected: dict[str, tuple[int, ...]] = {}
    for name, (rows, columns) in shapes.items():
        kept = min(10, rows, columns)
        expected |= {f"singular_values/{name}": (snapshots, min(rows, columns))}
        expected |= {f"agreement/{name}": (snapshots, kept), f"agreement_block/{name}": (snapshots, kept, kept)}
        expected |= {f"subspace_agreement/{name}": (snapshots,)}
        expected |= {f"left/{name}": (snapshots, rows, kept), f"right/{name}": (snapshots, kept, columns)}
    for one, two in itertools.pairwise(shapes):
        r, s = min(shapes[one]), min(shapes[two])
        expected[f"alignment/{one} -> {two}"] = (snapshots, min(r, s))
        expected[f"alignment_block/{one} -> {two}"] = (snapshots, min(10, r), min(10, s))
    return expected


def entries(expected: dict[str, tuple[int, ...]], *without: str) -> int:
    """Return the float32 numbers of a snapshot."""
    return sum(math.prod(shape[1:]) for key, shape in expected.items() if key.partition("/")[0] not in without)


def test_vgg_16_over_169_snapshots_takes_less_than_20_mb_and_the_memory_that_is_stated(tmp_path: Path) -> None:
    narrow = vgg(8)
    recorder = sd.Recorder(narrow, steps=[0, 1], pairs=itertools.pairwise(sizes(narrow)))
    recorder(1)
    taken = {**recorder.finish().to_arrays(), **recorder.state()}
    expected = by_hand(sizes(narrow), 2)
    assert {key: taken[key].shape for key in expected} == expected
    assert {taken[key].dtype for key in expected} == {np.dtype(np.float32)}
    cost = recorder.cost()
    assert cost.memory_with_vectors == 4 * entries(expected, *AGREEMENTS)
    assert cost.file_with_vectors == 4 * entries(expected, "left", "right")

    full = by_hand(sizes(vgg()), 169)  # at full size the same arrays, of noise, which cannot be compressed
    noise = np.random.default_rng(0)
    kept = {k: noise.random(s, np.float32) for k, s in full.items() if k.partition("/")[0] not in ("left", "right")}
    rest = {key: value for key, value in recorder.finish().to_arrays().items() if key not in expected}
    sd.Recording.from_arrays({**rest, **kept}).save(tmp_path / "vgg.npz")
    assert (tmp_path / "vgg.npz").stat().st_size < 20e6
    assert 4 * 169 * entries(full, *AGREEMENTS) < 300e6


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


def test_a_folder_that_is_not_there_is_named(recording: sd.Recording, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to write run\.npz to: make it first"):
        recording.save(tmp_path / "nowhere" / "run.npz")
