"""The texts are read from the official containers; a local WikiText-2 in another order says so."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from specdyn.tasks import datasets
from specdyn.tasks.datasets import WrongFile, describe
from specdyn.tasks.datasets.fetch import present
from specdyn.tasks.datasets.texts import read_wikitext

PARTS = {"train": " \n = Title = \n caf\u00e9 <unk> \n", "valid": " valid \n", "test": " test \n"}
WORDS = 'title = "W"\nversion = "1"\nlicence = "none"\ncopyright = "nobody"\nhome = "https://example.org"\nnote = "N"\n'


def official(path: Path, folder: str, parts: dict[str, str] = PARTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/", b"")
        for part, text in parts.items():
            archive.writestr(f"{folder}/wiki.{part}.tokens", text.encode())
    return path


@pytest.mark.parametrize("version", ["2", "103"])
def test_wikitext_is_read_from_its_official_zip(registered, mirror: Path, version: str) -> None:
    name = f"wikitext-{version}"
    registered(f'[{name}]\n{WORDS}[[{name}.forms]]\nfiles = [{{ name = "{name}/{name}-v1.zip" }}]\n')
    official(mirror / name / f"{name}-v1.zip", name)
    found = datasets.wikitext2() if version == "2" else datasets.wikitext103()
    assert (found.train, found.validation, found.test) == tuple(PARTS.values())
    assert found.note == ""


@pytest.fixture
def shuffled(registered, mirror: Path) -> None:
    """The files in another order in the mirror, and the official zip nowhere."""
    files = ", ".join(f'{{ name = "{file.name}" }}' for file in describe("wikitext-2-shuffled").canonical)
    registered(
        f'[wikitext-2]\n{WORDS}[[wikitext-2.forms]]\nfiles = [{{ name = "wikitext-2/wikitext-2-v1.zip" }}]\n'
        f"[wikitext-2-shuffled]\n{WORDS}[[wikitext-2-shuffled.forms]]\nfiles = [{files}]\n"
    )
    (mirror / "wikitext-2").mkdir()
    for name, part in (("train.articles-shuffled", "train"), ("valid", "valid"), ("test", "test")):
        (mirror / "wikitext-2" / f"{name}.txt").write_text(PARTS[part], encoding="utf-8")


@pytest.mark.usefixtures("shuffled")
def test_articles_in_another_order_say_so() -> None:
    found = datasets.wikitext2_shuffled()
    assert (found.train, found.validation, found.test) == tuple(PARTS.values())
    assert "another order" in found.note


@pytest.mark.usefixtures("shuffled")
def test_articles_in_another_order_do_not_stand_in_for_the_official_ones_and_are_named(mirror: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"wikitext-2-v1\.zip.*(.|\n)*dataset='wikitext-2-shuffled'"):
        datasets.wikitext2()
    (mirror / "wikitext-2" / "valid.txt").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        datasets.wikitext2()
    assert "shuffled" not in str(caught.value)


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    path = official(tmp_path / "w.zip", "wikitext-103", {"train": "a"})
    with pytest.raises(WrongFile, match=r"wiki\.valid\.tokens, wikitext-103/wiki\.test\.tokens is not in it"):
        read_wikitext(path, "wikitext-103")


def test_the_zip_of_the_other_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongFile, match=r"wikitext-103/wiki\.train\.tokens, .* is not in it"):
        read_wikitext(official(tmp_path / "w.zip", "wikitext-2"), "wikitext-103")


@pytest.mark.parametrize("cut", [200, 0])
def test_a_truncated_zip_is_refused(tmp_path: Path, cut: int) -> None:
    path = official(tmp_path / "w.zip", "wikitext-2")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WrongFile, match="cannot be unpacked"):
        read_wikitext(path, "wikitext-2")


def test_one_changed_byte_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part in PARTS:
            archive.writestr(f"wikitext-2/wiki.{part}.tokens", "words")
    path.write_bytes(path.read_bytes().replace(b"words", b"wards", 1))
    with pytest.raises(WrongFile, match=r"cannot be unpacked.*CRC"):
        read_wikitext(path, "wikitext-2")


def test_a_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in PARTS:
            archive.writestr(f"wikitext-2/wiki.{part}.tokens", b"caf\xe9")
    with pytest.raises(WrongFile, match=r"wiki\.train\.tokens is no UTF-8 text"):
        read_wikitext(path, "wikitext-2")


def test_tiny_shakespeare_is_split_without_loss(registered, mirror: Path) -> None:
    registered(
        f'[tinyshakespeare]\n{WORDS}[[tinyshakespeare.forms]]\nfiles = [{{ name = "tinyshakespeare/input.txt" }}]\n'
    )
    text = "".join(chr(33 + at % 90) for at in range(1_000))
    (mirror / "tinyshakespeare").mkdir()
    (mirror / "tinyshakespeare" / "input.txt").write_text(text)
    found = datasets.tiny_shakespeare()
    assert found.train + found.validation + found.test == text
    assert [len(found.train), len(found.validation), len(found.test)] == [900, 50, 50]


@pytest.mark.skipif("SPECDYN_DATA" not in os.environ, reason="needs the published files: set SPECDYN_DATA")
@pytest.mark.parametrize(
    ("name", "read"), [("wikitext-2", datasets.wikitext2), ("wikitext-2-shuffled", datasets.wikitext2_shuffled)]
)
def test_the_published_texts_of_wikipedia(name: str, read: Callable[[], datasets.Texts]) -> None:
    if not present(name):
        pytest.skip(f"SPECDYN_DATA and the cache have no {name}")
    found = read()
    lines = [text.count("\n") for text in (found.train, found.validation, found.test)]
    words = [len(text.split()) for text in (found.train, found.validation, found.test)]
    assert lines == [36_718, 3_760, 4_358]
    assert [a + b for a, b in zip(words, lines, strict=True)] == [2_088_628, 217_646, 245_569]


@pytest.mark.skipif("SPECDYN_DATA" not in os.environ, reason="needs the published files: set SPECDYN_DATA")
def test_the_published_plays() -> None:
    plays = datasets.tiny_shakespeare()
    assert len(set(plays.train + plays.validation + plays.test)) == 65
