"""Small questions asked of notebooks all over the build."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from tools.book import BuildError, Chapter, replacing

Notebook = Any
Cell = Any


def read_source(chapter: Chapter) -> Notebook:
    """Return a chapter's source as a notebook; it has one cell tagged ``parameters``."""
    notebook = jupytext.read(chapter.source, fmt="py:percent")
    tagged = [cell for cell in notebook.cells if has_tag(cell, "parameters")]
    if len(tagged) != 1:
        raise BuildError(f"{chapter.page}: {len(tagged)} cells are tagged 'parameters', one is needed")
    return notebook


def reads_claims(chapter: Chapter) -> bool:
    """Return whether a chapter is about the claims of the pages before it: its header says ``reads: claims``."""
    return bool(jupytext.read(chapter.source, fmt="py:percent").metadata.get("reads") == "claims")


def read(path: Path) -> Notebook:
    """Return an executed notebook; raise ``BuildError`` naming a file that is no whole one."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, ValueError, AttributeError, KeyError) as error:
        raise BuildError(f"{path}: no whole notebook ({type(error).__name__}): delete it and build again") from error
    return notebook


def write(notebook: Notebook, path: Path) -> None:
    """Write a notebook, whole or not at all."""
    with replacing(path) as part:
        nbformat.write(notebook, part)


def markdown(text: str) -> Cell:
    """Return a markdown cell."""
    return nbformat.v4.new_markdown_cell(text)


def has_tag(cell: Cell, tag: str) -> bool:
    """Return whether a cell is tagged so."""
    return tag in cell.metadata.get("tags", [])


def headings(notebook: Notebook) -> list[str]:
    """Return for every cell the heading it stands under."""
    current, found = "", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE):
                current = title
        found.append(current)
    return found


def place(chapter: Chapter, notebook: Notebook, index: int) -> str:
    """Return the words that lead an author to a cell: chapter, number in the source, first line."""
    before = [cell for cell in notebook.cells[: index + 1] if not has_tag(cell, "injected-parameters")]
    first = notebook.cells[index].source.strip().split("\n", 1)[0]
    return f"{chapter.page}, cell {len(before)} ({first!r})"


def fingerprint(notebook: Notebook) -> str:
    """Return a hash of what a notebook says: its cells and their outputs."""
    cells = [[cell.cell_type, cell.source, cell.get("outputs", [])] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()
