"""What a page was made from, and whether that is still so."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.book import Book, BuildError, Chapter, Settings, UsageError
from tools.notebook import Notebook, fingerprint, reads_claims

PROBE = """
import json, os, platform, sys
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
facts = {"python": platform.python_version(), "cores": cores, "device": sys.argv[1]}
try:
    import torch
except ImportError:
    facts |= {"torch": None, "threads": None}
else:
    facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if facts["device"] == "auto":
        facts["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    if facts["device"].startswith("cuda"):
        if not torch.cuda.is_available():
            sys.exit("CUDA was asked for and PyTorch finds none: choose the device cpu or auto")
        facts["device"] += f" ({torch.cuda.get_device_name(facts['device'])})"
print(json.dumps(facts))
"""


class StaleError(BuildError):
    """A notebook was executed from something that has changed since."""


def inputs(chapter: Chapter, settings: Settings) -> dict[str, Any]:
    """Return everything a chapter's outputs follow from: hashes of files, and parameters."""
    hashes = {
        "source": _hash(chapter.source),
        "library": _hash(chapter.root / "lib" / "specdyn", "*.py", "*.js", "*.toml"),
        "recordings": _hash(chapter.root / "recordings"),
        "lock": _hash(chapter.root / "requirements.lock"),
    }
    if reads_claims(chapter):
        hashes["claims"] = _hash(Book(chapter.root).ledger)
    return hashes | settings.parameters()


def environment(device: str) -> dict[str, Any]:
    """Return what a chapter is executed on, as its own Python sees it; raise where the device is not there."""
    found = subprocess.run([sys.executable, "-c", PROBE, device], capture_output=True, text=True)
    if found.returncode:
        raise UsageError(found.stderr.strip())
    facts: dict[str, Any] = json.loads(found.stdout)
    return facts


def stamp(notebook: Notebook, made_from: dict[str, Any], machine: dict[str, Any], measured: dict[str, Any]) -> None:
    """Write into an executed notebook what it was made from, where, and what it cost."""
    notebook.metadata["provenance"] = {
        "inputs": made_from,
        "environment": machine,
        "measured": measured,
        "cells": fingerprint(notebook),
    }


def check(notebook: Notebook, chapter: Chapter, settings: Settings) -> None:
    """Raise where a notebook is not what this source, library, lock and parameters gave."""
    found = notebook.metadata.get("provenance")
    if found is None:
        raise StaleError(f"{chapter.page}: the notebook does not say what it was made from: execute it again")
    if found.get("cells") != fingerprint(notebook):
        raise BuildError(
            f"{chapter.page}: {_relative(chapter)} was edited after it was executed. Edit the source instead "
            f"({chapter.source.relative_to(chapter.root)}), or delete the notebook and build again"
        )
    now = inputs(chapter, settings)
    changed = [name for name, value in now.items() if found["inputs"].get(name) != value]
    if changed:
        raise StaleError(f"{chapter.page}: {', '.join(changed)} changed since the notebook was executed")
    unrun = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count is None]
    if any(cell.source.strip() for cell in unrun) or not _outputs(notebook):
        raise BuildError(f"{chapter.page}: {_relative(chapter)} is a notebook without outputs")


def _outputs(notebook: Notebook) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def _relative(chapter: Chapter) -> Path:
    return chapter.notebook.relative_to(chapter.root)


def _hash(place: Path, *patterns: str) -> str:
    """Hash a file, or those files of a folder, together with where they lie in it."""
    if place.is_file():
        return hashlib.sha256(place.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    files = {file for pattern in patterns or ("*",) for file in place.rglob(pattern) if file.is_file()}
    for file in sorted(files):
        digest.update(file.relative_to(place).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
