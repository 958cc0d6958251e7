"""Free Spoken Digit Dataset: wav files named digit_speaker_index."""

from __future__ import annotations

import hashlib
import io
import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from specdyn.tasks.datasets.archives import members
from specdyn.tasks.datasets.fetch import WrongFile, reading
from specdyn.tasks.datasets.registry import describe

LIMIT = 2**20
RATE = 8_000
NAME = r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<index>\d+)\.wav"
TEST_INDICES = range(5)


@dataclass(frozen=True)
class Clips:
    """Recordings of one spoken digit each, in the order of digit, speaker and index."""

    waveforms: list[Tensor]
    """Each (samples,), float32 in [-1, 1)."""
    digits: Tensor
    """What is said, (N,), int64."""
    speakers: tuple[str, ...]
    indices: Tensor
    """The how-manieth of its speaker and digit each is, (N,), int64."""
    rate: int = RATE
    """Samples a second."""

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.waveforms)


@dataclass(frozen=True)
class SpokenDigits:
    """Training and test recordings by the official split: the first five of each speaker and digit are for the test."""

    train: Clips
    test: Clips


def spoken_digits() -> SpokenDigits:
    """Return 2,700 and 300 recordings of digits, 8 kHz (Jackson and others, version 1.0.10)."""
    with reading("fsdd") as files:
        (path,) = files.values()
        return read_spoken_digits(path, describe("fsdd").contents["recordings"])


def read_spoken_digits(path: Path, listing: str) -> SpokenDigits:
    """Read the wav files of an archive or a folder; raise `WrongFile` where one is missing, broken or another.

    ``listing``: the sha256 of what ``sha256sum *.wav`` prints in their folder, as ``sha256:...``.
    """
    found = {name.rpartition("/")[2]: content for name, content in members(path, rf"(.*/)?{NAME}", LIMIT)}
    lines = (f"{hashlib.sha256(found[name]).hexdigest()}  {name}\n" for name in sorted(found))
    if "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest() != listing:
        raise WrongFile(f"the {len(found):,} recordings in it are not those of the publisher: their sha256 is another")
    clips = sorted((_said(name), waveform(name, content)) for name, content in found.items())
    test = [clip for clip in clips if clip[0][2] in TEST_INDICES]
    return SpokenDigits(_clips([clip for clip in clips if clip[0][2] not in TEST_INDICES]), _clips(test))


def _said(name: str) -> tuple[int, str, int]:
    digit, speaker, index = re.fullmatch(NAME, name).groups()  # type: ignore[union-attr]
    return int(digit), speaker, int(index)


def _clips(clips: Sequence[tuple[tuple[int, str, int], Tensor]]) -> Clips:
    digits, speakers, indices = zip(*(said for said, _ in clips), strict=True)
    return Clips([sound for _, sound in clips], torch.tensor(digits), tuple(speakers), torch.tensor(indices))


def waveform(name: str, content: bytes) -> Tensor:
    """Return the samples (N,) of a wav file of 8 kHz, one channel and 16 bits, as float32 in [-1, 1).

    Raises `WrongFile` for a wav of another kind, a broken one or an empty one.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            kind = file.getframerate(), file.getnchannels(), file.getsampwidth()
            samples, promised = file.readframes(file.getnframes()), file.getnframes()
    except (wave.Error, EOFError) as error:
        raise WrongFile(f"{name} is no wav file ({error})") from error
    if kind != (RATE, 1, 2):
        raise WrongFile(f"{name} has {kind[0]} Hz, {kind[1]} channels and {8 * kind[2]} bits, not {RATE} Hz, 1 and 16")
    if promised == 0 or len(samples) != 2 * promised:
        raise WrongFile(f"{name} holds {len(samples) // 2} of {promised} samples")
    return torch.from_numpy(np.frombuffer(samples, dtype="<i2").astype(np.float32) / 2**15)
