"""Spoken digits are read from any container of the published recordings, split as officially, and refused otherwise."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from specdyn.tasks import datasets
from specdyn.tasks.datasets import WrongFile
from specdyn.tasks.datasets.spoken_digits import read_spoken_digits, waveform
from tests.tasks.datasets.published import folder, tar, wav

SAMPLES = {
    f"{digit}_{speaker}_{index}.wav": np.array([digit, index, -(2**15), 2**15 - 1])
    for digit in range(2)
    for speaker in ("theo", "george")
    for index in (0, 4, 5, 10)
}
FILES = {name: wav(samples) for name, samples in SAMPLES.items()}


def listing(files: dict[str, bytes]) -> str:
    """What sha256sum prints, hashed."""
    lines = sorted((name, f"{hashlib.sha256(content).hexdigest()}  {name}\n") for name, content in files.items())
    return "sha256:" + hashlib.sha256("".join(line for _, line in lines).encode()).hexdigest()


@pytest.fixture(params=["official", "tar", "folder"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        return folder(tmp_path / "recordings", FILES)
    prefix = "free-spoken-digit-dataset-1.0.10/" if request.param == "official" else ""
    beside = {f"{prefix}README.md": b"words", f"{prefix}acquire_data/0_x.wav.txt": b""}
    packed = beside | {f"{prefix}recordings/{name}": content for name, content in FILES.items()}
    return tar(tmp_path / "fsdd", packed, mode="w:gz" if request.param == "official" else "w")


def test_recordings_are_split_by_their_index_and_in_order(container: Path) -> None:
    found = read_spoken_digits(container, listing(FILES))
    assert len(found.train) == len(found.test) == 8
    assert found.test.digits.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.test.speakers[:4] == ("george", "george", "theo", "theo")
    assert found.test.indices.tolist() == [0, 4] * 4
    assert found.train.indices.tolist() == [5, 10] * 4
    assert found.train.waveforms[4].tolist() == [1 / 2**15, 5 / 2**15, -1.0, 1 - 1 / 2**15]
    assert found.train.waveforms[0].dtype == torch.float32


def test_a_changed_recording_is_refused(tmp_path: Path) -> None:
    changed = FILES | {"0_theo_5.wav": wav(np.array([1, 5, 0, 0]))}
    with pytest.raises(WrongFile, match="the 16 recordings in it are not those of the publisher"):
        read_spoken_digits(folder(tmp_path / "recordings", changed), listing(FILES))


def test_a_missing_recording_is_refused(tmp_path: Path) -> None:
    fewer = {name: content for name, content in FILES.items() if name != "0_theo_5.wav"}
    with pytest.raises(WrongFile, match="the 15 recordings"):
        read_spoken_digits(folder(tmp_path / "recordings", fewer), listing(FILES))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (wav(np.zeros(8), rate=16_000), "16000 Hz, 1 channels"),
        (wav(np.zeros(8), channels=2), "8000 Hz, 2 channels"),
        (wav(np.zeros(0)), "holds 0 of 0 samples"),
        (wav(np.zeros(8))[:-3], "holds 6 of 8 samples"),
        (b"RIFF", "is no wav file"),
        (b"fLaC" + bytes(60), "is no wav file"),
    ],
)
def test_other_sounds_are_refused(content: bytes, fault: str) -> None:
    with pytest.raises(WrongFile, match=f"^a.wav.*{fault}"):
        waveform("a.wav", content)


@pytest.mark.skipif("SPECDYN_DATA" not in os.environ, reason="needs the published files: set SPECDYN_DATA")
def test_the_published_recordings() -> None:
    found = datasets.spoken_digits()
    assert (len(found.train), len(found.test)) == (2_700, 300)
    assert found.test.digits.bincount().tolist() == [30] * 10
    assert len(set(found.train.speakers)) == 6
    seconds = sum(map(len, found.train.waveforms + found.test.waveforms)) / found.train.rate
    assert seconds == pytest.approx(1_312, abs=1)
