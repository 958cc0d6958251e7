"""Build the site from the stage with Jupyter Book; every warning of Sphinx is an error with a place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.book import Book, BuildError, Chapter
from tools.check import problems
from tools.notebook import read

WARNING = re.compile(
    r"^(?:(?P<file>/\S+?)?:?(?P<docstring>docstring of [\w.]+)?(?::(?P<line>\d*))?: )?"
    r"(?:WARNING|ERROR|CRITICAL): (?P<message>.+)$",
    re.MULTILINE,
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LINES_A_CELL = 10_000
"""MyST-NB counts a notebook's lines so: cell 6, line 4 is line 60004."""


def build_site(book: Book, chapters: Iterable[Chapter]) -> Path:
    """Return the folder of the finished site; it takes the place of the last one only when nothing is wrong.

    What readers download are the chapters' notebooks as executed, not as staged for Sphinx.
    """
    fresh, finished = book.build / "site", book.build / "html"
    shutil.rmtree(fresh, ignore_errors=True)
    command = ["-n", "-W", "--keep-going", "--path-output", str(fresh), str(book.stage)]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("jupyter-book")), "build", *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = COLOUR.sub("", done.stdout)
    found = [_placed(book, match) for match in WARNING.finditer(log)]
    if done.returncode:
        raise BuildError("\n".join(found) or f"jupyter-book failed:\n{log[-3000:]}")
    html = fresh / "_build" / "html"
    if wrong := problems(html):
        raise BuildError("\n".join(wrong))
    for chapter in chapters:
        shutil.copy(chapter.notebook, html / "_sources" / f"{chapter.page}.ipynb")
    shutil.rmtree(finished, ignore_errors=True)
    html.rename(finished)
    shutil.rmtree(fresh)
    return finished


def _placed(book: Book, warning: re.Match[str]) -> str:
    """Say where in the book's own files, or in which docstring, a warning belongs."""
    if warning["docstring"]:
        return f"{warning['docstring']}, line {warning['line']}: {warning['message']}"
    if warning["file"] is None:
        return str(warning["message"])
    file, line = Path(warning["file"]), int(warning["line"] or 0)
    name = file.relative_to(book.stage) if file.is_relative_to(book.stage) else file
    where = f"{name}, line {line}" if line else str(name)
    if file.suffix == ".ipynb" and line >= LINES_A_CELL:
        cells = read(file).cells
        index = line // LINES_A_CELL - 1
        where = cells[index].metadata.get("place", str(name)) if index < len(cells) else str(name)
    return f"{where}: {warning['message']}"
