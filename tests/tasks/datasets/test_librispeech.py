"""LibriSpeech is read from small archives and folders in exactly its format."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from specdyn.tasks import datasets
from specdyn.tasks.datasets import WrongFile
from specdyn.tasks.datasets.librispeech import read_librispeech
from tests.tasks.datasets.published import flac, folder, tar

PART = "LibriSpeech/dev-clean"
SOUND = np.sin(np.arange(1_600) / 7) / 2
TRANSCRIPTS = {
    "84/121123/84-121123.trans.txt": "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 IT'S LESS THAN FIVE MINUTES\n",
    "84/121550/84-121550.trans.txt": "84-121550-0000 BUT WITH FULL RAVISHMENT\n",
    "251/118436/251-118436.trans.txt": "251-118436-0000 A MAN SAID TO THE UNIVERSE\n",
}
NAMES = ["84-121123-0000", "84-121123-0001", "84-121550-0000", "251-118436-0000"]
FILES = {name: text.encode() for name, text in TRANSCRIPTS.items()} | {
    f"{name.split('-')[0]}/{name.split('-')[1]}/{name}.flac": flac(SOUND * (at + 1) / 4)
    for at, name in enumerate(NAMES)
}
WORDS = 'title = "L"\nversion = "1"\nlicence = "none"\ncopyright = "nobody"\nhome = "https://example.org"\nnote = "N"\n'
ROW = f"""
[librispeech-dev-clean]
{WORDS}
contents = {{ utterances = 4 }}
[[librispeech-dev-clean.forms]]
files = [{{ name = "{"librispeech/" + PART}" }}]
[[librispeech-dev-clean.forms]]
files = [{{ name = "librispeech/dev-clean.tar.gz" }}]
"""


def packed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {"LibriSpeech/README.TXT": b"words"} | {f"{PART}/{name}": content for name, content in files.items()}


@pytest.fixture(params=["archive", "folder"])
def published(request: pytest.FixtureRequest, registered, mirror: Path) -> Path:
    registered(ROW)
    home = mirror / "librispeech"
    home.mkdir()
    if request.param == "folder":
        return folder(home, packed(FILES))
    tar(home / "dev-clean.tar.gz", packed(FILES), mode="w:gz")
    return home


def test_utterances_stand_in_order_with_their_words(published: Path) -> None:
    before = sorted(published.rglob("*"))
    found = datasets.librispeech("dev-clean")
    assert [path.stem for path in found.paths] == NAMES
    assert found.transcripts[1] == "IT'S LESS THAN FIVE MINUTES"
    assert len(found) == 4
    assert found.rate == 16_000
    assert sorted(published.rglob("*")) == before


def test_a_waveform_is_read_when_asked_for(published: Path) -> None:
    found = datasets.librispeech("dev-clean")
    for at in range(4):
        samples, words = found.read(at)
        assert words == found.transcripts[at]
        assert np.abs(samples.numpy() - SOUND * (at + 1) / 4).max() <= 0.5001 / 2**15  # 16 bits


def test_an_archive_is_unpacked_once_into_the_cache(registered, mirror: Path, cache: Path) -> None:
    registered(ROW)
    (mirror / "librispeech").mkdir()
    archive = tar(mirror / "librispeech" / "dev-clean.tar.gz", packed(FILES), mode="w:gz")
    first = datasets.librispeech("dev-clean")
    archive.unlink()
    assert datasets.librispeech("dev-clean") == first
    assert {path.name for path in (cache / "librispeech").glob("[!.]*")} == {"LibriSpeech"}
    assert first.paths[0].is_relative_to(cache)


def test_nothing_is_unpacked_outside_its_folder(registered, mirror: Path, cache: Path, tmp_path: Path) -> None:
    registered(ROW)
    (mirror / "librispeech").mkdir()
    evil = {
        "../evil.flac": b"",
        f"{PART}/1/2/../../../../../evil.flac": b"",
        f"{PART}/../../../evil/2/1.flac": b"",
        str(tmp_path / "evil.flac"): b"",
    }
    links = {f"{PART}/84/121123/1-1-1.flac": "/etc/passwd"}
    tar(mirror / "librispeech" / "dev-clean.tar.gz", packed(FILES) | evil, mode="w:gz", links=links)
    assert len(datasets.librispeech("dev-clean")) == 4
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or path.is_symlink()]


def test_a_truncated_archive_leaves_nothing_behind(registered, mirror: Path, cache: Path) -> None:
    registered(ROW)
    (mirror / "librispeech").mkdir()
    archive = tar(mirror / "librispeech" / "dev-clean.tar.gz", packed(FILES), mode="w:gz")
    archive.write_bytes(archive.read_bytes()[:-500])
    with pytest.raises(WrongFile, match="cannot be unpacked"):
        datasets.librispeech("dev-clean")
    assert not list((cache / "librispeech").glob("[!.]*"))


def test_an_archive_of_something_else_is_refused(registered, mirror: Path) -> None:
    registered(ROW)
    (mirror / "librispeech").mkdir()
    tar(mirror / "librispeech" / "dev-clean.tar.gz", {"LibriSpeech/test-clean/1/2/1-2-0.flac": b""}, mode="w:gz")
    with pytest.raises(WrongFile, match="it holds no LibriSpeech/dev-clean"):
        datasets.librispeech("dev-clean")


def test_an_unknown_part_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="'test-clean' here: choose one of train-clean-100, dev-clean"):
        datasets.librispeech("test-clean")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"84/121550/84-121550.trans.txt": b""}, "holds 3 of 4 utterances"),
        ({"84/121550/84-121550.trans.txt": b"84-121550-0000\n"}, r"84-121550\.trans\.txt, line 1, is not an utterance"),
        ({"84/121550/84-121550.trans.txt": b"84-121550-0009 WORDS\n"}, r"line 1: there is no 84-121550-0009\.flac"),
        ({"84/121550/84-121550.trans.txt": b"84-121550-0000 CAF\xc9\n"}, r"84-121550\.trans\.txt is no UTF-8 text"),
    ],
)
def test_transcripts_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, bytes], fault: str) -> None:
    with pytest.raises(WrongFile, match=fault):
        read_librispeech(folder(tmp_path, FILES | changes), 4)


def test_folders_that_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    stray = dict.fromkeys(["x/2/x-2.trans.txt", "84/copy/84-copy.trans.txt", "84/._121123", "notes.trans.txt"], b"\xff")
    found = read_librispeech(folder(tmp_path, FILES | stray), 4)
    assert [path.stem for path in found.paths] == NAMES


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (flac(SOUND, rate=8_000), "8000 Hz"),
        (flac(np.stack([SOUND, SOUND], axis=1)), r"samples \(1600, 2\)"),
        (b"fLaC", "no FLAC file that can be read"),
        (b"", "no FLAC file that can be read"),
    ],
)
def test_a_sound_of_another_kind_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    found = read_librispeech(folder(tmp_path, FILES | {"84/121550/84-121550-0000.flac": content}), 4)
    found.read(0)
    with pytest.raises(WrongFile, match=rf"84-121550-0000\.flac .*{fault}.* Delete {tmp_path} and run this again"):
        found.read(2)


def test_the_cure_for_a_broken_sound_cures(registered, mirror: Path) -> None:
    registered(ROW)
    (mirror / "librispeech").mkdir()
    tar(mirror / "librispeech" / "dev-clean.tar.gz", packed(FILES), mode="w:gz")
    datasets.librispeech("dev-clean").paths[2].write_bytes(b"fLaC")
    with pytest.raises(WrongFile) as caught:
        datasets.librispeech("dev-clean").read(2)
    shutil.rmtree(str(caught.value).partition("Delete ")[2].partition(" and run")[0])
    assert datasets.librispeech("dev-clean").read(2)[1] == "BUT WITH FULL RAVISHMENT"
