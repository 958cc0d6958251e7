"""The references that nbval compares are there, belong to their chapters and are not vacuous."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.book import Book, Chapter
from tools.notebook import has_tag, read, write
from tools.references import COMPARED, disagreement

ROOT = Path(__file__).parents[2]
CHAPTERS = Book(ROOT).chapters()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_every_chapter_has_a_reference_that_compares_something(chapter: Chapter) -> None:
    assert disagreement(chapter) is None


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_a_reference_keeps_words_only(chapter: Chapter) -> None:
    notebook = read(chapter.reference)
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        assert not outputs or has_tag(cell, COMPARED)
        assert not any(output.get("metadata") for output in outputs)
    assert str(ROOT) not in chapter.reference.read_text(), "a path of the machine it was made on"
    assert chapter.reference.stat().st_size < 200_000


@pytest.fixture
def reference(small: Path) -> Path:
    """The reference of the small book's first chapter, made as every reference is."""
    return small / "tests" / "references" / "small.ipynb"


def nbval(notebook: Path) -> subprocess.CompletedProcess[str]:
    options = ["--nbval-lax", "-p", "no:cacheprovider", "-c", "/dev/null"]
    return subprocess.run([sys.executable, "-m", "pytest", *options, str(notebook)], capture_output=True, text=True)


def test_nbval_passes_what_is_so_and_fails_what_was_tampered_with(reference: Path) -> None:
    done = nbval(reference)
    assert done.returncode == 0, done.stdout
    notebook = read(reference)
    (compared,) = [cell for cell in notebook.cells if has_tag(cell, COMPARED)]
    assert compared.outputs[0].data["text/plain"] == "C0.1 holds"
    compared.outputs[0].data["text/plain"] = "C0.1 does not hold here"
    write(notebook, reference)
    done = nbval(reference)
    assert done.returncode == 1
    assert "C0.1 does not hold here" in done.stdout


def test_a_fresh_reference_agrees(small: Path, reference: Path) -> None:
    assert disagreement(Chapter(small, "part/small")) is None


def test_a_missing_reference_is_seen(small: Path) -> None:
    words = "part/other has no reference: run make references CHAPTER=other"
    assert disagreement(Chapter(small, "part/other")) == words


def test_a_reference_is_stale_when_code_changed_and_not_when_prose_did(
    small: Path, reference: Path, edit: Callable[[str, str, str], None]
) -> None:
    edit("book/part/small.py", "# What falls?", "# What on earth falls?")
    assert disagreement(Chapter(small, "part/small")) is None
    edit("book/part/small.py", '"chance": 0.5', '"chance": 0.4')
    assert "is stale: run make references CHAPTER=small" in str(disagreement(Chapter(small, "part/small")))


def test_a_reference_that_was_not_executed_is_seen(small: Path, reference: Path) -> None:
    notebook = read(reference)
    next(cell for cell in notebook.cells if cell.cell_type == "code").execution_count = None
    write(notebook, reference)
    assert "was not executed" in str(disagreement(Chapter(small, "part/small")))


def test_a_reference_that_compares_nothing_is_seen(small: Path, reference: Path) -> None:
    notebook = read(reference)
    for cell in notebook.cells:
        cell.metadata.tags = [tag for tag in cell.metadata.tags if tag != COMPARED]
    write(notebook, reference)
    assert "compares nothing" in str(disagreement(Chapter(small, "part/small")))
