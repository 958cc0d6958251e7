"""Lay out what Jupyter Book reads: prose, executed chapters, and the pages the build writes itself."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

from tools import claims, pages
from tools.book import Book, Chapter, Settings, replacing
from tools.data import data_page
from tools.figures import figure_cells, stand_ins
from tools.notebook import Cell, Notebook, has_tag, markdown, place, read_source, write

SOURCES = ("*.py", "*.ipynb", "__pycache__", ".ipynb_checkpoints")


def stage(book: Book, made: dict[Chapter, Notebook], absent: dict[Chapter, str], settings: Settings) -> None:
    """Fill the stage folder from the prose, the executed notebooks and the ledger of their claims.

    ``absent`` gives for each chapter that is not part of this build the reason; its page says so.
    """
    shutil.rmtree(book.stage, ignore_errors=True)
    shutil.copytree(book.root / "book", book.stage, ignore=shutil.ignore_patterns(*SOURCES))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(book.root / name, book.stage)
    ledger = write_ledger(book, made)
    for chapter, notebook in made.items():
        write(page(book, chapter, notebook), book.stage / f"{chapter.page}.ipynb")
    for chapter, reason in absent.items():
        source = chapter.source.read_text()
        text = pages.placeholder(pages.title(read_source(chapter)), chapter, reason)
        figures = stand_ins(source, _figures(book, chapter), chapter.page)
        _write(book, chapter.page, "\n\n".join([text, *figures, *pages.stand_ins(source)]))
    titles = {chapter.page: pages.title(notebook) for chapter, notebook in made.items()}
    notebooks = {chapter.page: notebook for chapter, notebook in made.items()}
    reasons = {chapter.page: reason for chapter, reason in absent.items()}
    _write(book, "claims", pages.claims_page(ledger, titles))
    _write(book, "status", pages.status_page(notebooks, ledger, reasons, settings))
    _write(book, "data", data_page(book))


def write_ledger(book: Book, made: dict[Chapter, Notebook]) -> dict[str, list[claims.Claim]]:
    """Write the claims of executed notebooks, and return them by page."""
    ledger = {chapter.page: claims.claims(chapter, notebook) for chapter, notebook in made.items()}
    with replacing(book.ledger) as part:
        part.write_text(json.dumps([claim for found in ledger.values() for claim in found], indent=1) + "\n")
    return ledger


def page(book: Book, chapter: Chapter, notebook: Notebook) -> Notebook:
    """Return a chapter's notebook as the site shows it; its figures become files on the stage."""
    shown = copy.deepcopy(notebook)
    claims.show_numbers(shown, notebook.metadata["provenance"]["inputs"]["seeds"])
    cells: list[Cell] = []
    for index, cell in enumerate(shown.cells):
        where = place(chapter, notebook, index)
        added = figure_cells(cell, _figures(book, chapter), where) if cell.cell_type == "code" else []
        for part in (_folded(cell), *added):
            part.metadata["place"] = where  # Sphinx's warnings are traced back by it
            cells.append(part)
    # below the headline figure: at the next prose after the hook
    prose = (
        i for i, cell in enumerate(cells) if i and cell.cell_type == "markdown" and "twin-figure" not in cell.source
    )
    cells.insert(next(prose, 1), markdown(pages.cost(notebook)))
    cells.append(markdown(pages.provenance(notebook)))
    shown.cells = cells
    return shown


def _figures(book: Book, chapter: Chapter) -> Path:
    return (book.stage / chapter.page).parent / "figures"


def _folded(cell: Cell) -> Cell:
    """Leave out the cell that papermill put in: the provenance says which parameters were used."""
    if has_tag(cell, "injected-parameters"):
        cell.metadata["tags"] = ["remove-cell"]
    return cell


def _write(book: Book, name: str, text: str) -> None:
    file = book.stage / f"{name}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
