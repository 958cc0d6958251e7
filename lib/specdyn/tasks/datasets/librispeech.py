"""LibriSpeech: FLAC files by speaker and chapter, with a file of transcripts for each chapter."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import torch
from filelock import FileLock
from torch import Tensor

from specdyn.tasks.datasets.archives import decoded, members
from specdyn.tasks.datasets.fetch import WrongFile, cache_folder, reading, writable
from specdyn.tasks.datasets.registry import describe

LIMIT = 16 * 2**20
RATE = 16_000
LINE = re.compile(r"(?P<name>\d+-\d+-\d+) (?P<words>.*\S)")

Part = Literal["train-clean-100", "dev-clean"]


@dataclass(frozen=True)
class Utterances:
    """Sentences read aloud, in the order of speaker, chapter and sentence; a waveform is read when it is asked for."""

    paths: tuple[Path, ...]
    transcripts: tuple[str, ...]
    """In capitals, without punctuation but for apostrophes."""
    rate: int = RATE
    """Samples a second."""

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.paths)

    def read(self, index: int) -> tuple[Tensor, str]:
        """Return a waveform (samples,) of float32 in [-1, 1] and what is said.

        Raises `WrongFile` where the FLAC file is broken, or not of 16 kHz and one channel.
        """
        soundfile, path = _soundfile(), self.paths[index]
        cure = f"Delete {path.parents[2]} and run this again: it is unpacked anew"
        try:
            samples, rate = soundfile.read(path, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise WrongFile(f"{path} is no FLAC file that can be read ({error}). {cure}") from error
        if rate != RATE or samples.ndim != 1 or len(samples) == 0:
            raise WrongFile(f"{path} has {rate} Hz and samples {samples.shape}, not {RATE} Hz and one channel. {cure}")
        return torch.from_numpy(samples), self.transcripts[index]


def librispeech(part: Part) -> Utterances:
    """Return the utterances of a part of LibriSpeech (Panayotov and others 2015).

    The archive is unpacked into the user's cache the first time. Raises ``ValueError`` for another part.
    """
    if part not in get_args(Part):
        raise ValueError(f"LibriSpeech has no part {part!r} here: choose one of {', '.join(get_args(Part))}")
    with reading(f"librispeech-{part}") as files:
        (path,) = files.values()
        folder = path if path.is_dir() else unpacked(path, part)
        return read_librispeech(folder, describe(f"librispeech-{part}").contents["utterances"])


def unpacked(archive: Path, part: str) -> Path:
    """Return the folder of an archive's FLAC files and transcripts in the cache; it appears whole or not at all."""
    home = writable(cache_folder() / "librispeech")
    target = home / "LibriSpeech" / part
    with FileLock(home / f".{part}.lock"), tempfile.TemporaryDirectory(dir=home) as scratch:
        if not target.exists():
            for name, content in members(archive, rf"LibriSpeech/{part}/\d+/\d+/[\d-]+(\.flac|\.trans\.txt)", LIMIT):
                file = Path(scratch, name)  # the pattern leaves no way out of the folder
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            made = Path(scratch, "LibriSpeech", part)
            if not made.exists():
                raise WrongFile(f"it holds no LibriSpeech/{part}")
            target.parent.mkdir(exist_ok=True)
            shutil.move(made, target)
    return target


def read_librispeech(folder: Path, count: int) -> Utterances:
    """Read the transcripts below ``folder/speaker/chapter``; raise `WrongFile` where there are not ``count``.

    Speakers and chapters are numbers; folders of other names are passed over, as those of an archive are.
    """
    found = [
        utterance
        for speaker in _numbered(folder)
        for chapter in _numbered(speaker)
        for transcripts in sorted(chapter.glob("*.trans.txt"))
        for utterance in _chapter(transcripts)
    ]
    if len(found) != count:
        raise WrongFile(f"{folder} holds {len(found):,} of {count:,} utterances")
    return Utterances(tuple(path for path, _ in found), tuple(words for _, words in found))


def _numbered(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


def _chapter(transcripts: Path) -> Iterator[tuple[Path, str]]:
    for number, line in enumerate(decoded(str(transcripts), transcripts.read_bytes()).splitlines(), start=1):
        found = LINE.fullmatch(line)
        if not found:
            raise WrongFile(f"{transcripts}, line {number}, is not an utterance and its words: {line[:40]!r}")
        path = transcripts.with_name(f"{found['name']}.flac")
        if not path.exists():
            raise WrongFile(f"{transcripts}, line {number}: there is no {path.name} beside it")
        yield path, found["words"]


def _soundfile() -> ModuleType:
    """Import what reads FLAC only here: the rest of the book needs no sound library."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise ImportError(
            f"FLAC files need soundfile and its libsndfile ({error}): pip install soundfile, "
            "and where that brings no libsndfile, install the system's"
        ) from error
    return soundfile  # type: ignore[no-any-return]
