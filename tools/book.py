"""Where the parts of a book lie, and what can be asked of a build."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TIERS = ("smoke", "laptop", "gpu", "paper")


class BuildError(Exception):
    """The book is wrong somewhere; the message names the place."""


class UsageError(Exception):
    """The build was asked for something that cannot be; the message names the cure."""


@dataclass(frozen=True)
class Settings:
    """The parameters every chapter is executed with."""

    tier: str
    seeds: tuple[int, ...]
    device: str = "auto"

    def parameters(self) -> dict[str, Any]:
        """Return what is put into the cell after the one tagged ``parameters``."""
        return {"tier": self.tier, "seeds": list(self.seeds), "device": self.device}


SMOKE = Settings(tier="smoke", seeds=(10,))
"""What the references under tests/ are executed with."""


@dataclass(frozen=True)
class Chapter:
    """One executable page: ``page`` is its place in the book, such as ``phenomena/grokking``."""

    root: Path
    page: str

    @property
    def name(self) -> str:
        return self.page.rsplit("/", 1)[-1]

    @property
    def source(self) -> Path:
        return self.root / "book" / f"{self.page}.py"

    @property
    def notebook(self) -> Path:
        return self.root / "_build" / "notebooks" / f"{self.page}.ipynb"

    @property
    def reference(self) -> Path:
        return self.root / "tests" / "references" / f"{self.name}.ipynb"


@dataclass(frozen=True)
class Book:
    """A folder with ``_toc.yml``, ``_config.yml`` and ``book/``."""

    root: Path

    @property
    def build(self) -> Path:
        return self.root / "_build"

    @property
    def stage(self) -> Path:
        return self.build / "stage"

    @property
    def ledger(self) -> Path:
        return self.build / "claims.json"

    def toc(self) -> dict[str, Any]:
        """Return the table of contents as Jupyter Book reads it."""
        file = self.root / "_toc.yml"
        try:
            contents = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise UsageError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(contents, dict) or "root" not in contents:
            raise UsageError(f"{file} names no pages: it needs a root and parts, as in Jupyter Book")
        return contents

    def chapters(self) -> list[Chapter]:
        """Return the executable pages, in reading order."""
        pages = [Chapter(self.root, page) for page in _files(self.toc())]
        return [page for page in pages if page.source.exists()]

    def chosen(self, name: str | None) -> list[Chapter]:
        """Return the chapter of that name, or all of them where none is named."""
        chapters = self.chapters()
        if name is None:
            return chapters
        found = [chapter for chapter in chapters if name in (chapter.name, chapter.page)]
        if not found:
            known = ", ".join(chapter.name for chapter in chapters)
            raise UsageError(f"there is no chapter {name!r}: the book has {known}")
        return found


def _files(entry: Any) -> Iterator[str]:
    if isinstance(entry, dict):
        for key, value in entry.items():
            if key in ("root", "file"):
                yield value
            else:
                yield from _files(value)
    elif isinstance(entry, list):
        for item in entry:
            yield from _files(item)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write that takes the place of ``path`` once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
