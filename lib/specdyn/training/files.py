"""Where runs live, and how their files come to be: whole or not at all."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def book_root() -> Path:
    """Return the folder of the book this is called in (it holds ``_toc.yml``), else the current folder."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "_toc.yml").exists()), here)


def runs_folder() -> Path:
    """Return ``$SPECDYN_RUNS``, or ``_build/runs`` of the book."""
    chosen = os.environ.get("SPECDYN_RUNS")
    return Path(chosen) if chosen else book_root() / "_build" / "runs"


def writable(folder: Path) -> Path:
    """Make a folder if need be and return it; raise ``PermissionError`` with the cure where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise PermissionError(
            f"cannot write runs to {folder} ({error.strerror}): "
            "make it writable, or set SPECDYN_RUNS to a folder that is"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when, and only when, all went well."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to: make it first")
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
