"""The Makefile says what it does, and which Pythons it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def pretend(folder: Path, version: str) -> Path:
    """Return a Python that takes itself for another version."""
    script = folder / "python"
    change = f"import sys; sys.version_info = ({version}, 0); exec(sys.argv[1])"
    answer = f'[ "$1" = -c ] && exec "{sys.executable}" -c "{change}" "$2"'
    script.write_text(f'#!/bin/sh\n{answer}\necho "asked: $*"; exit 9\n')
    script.chmod(0o755)
    return script


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(folder), *arguments], capture_output=True, text=True)


def test_help_is_what_make_alone_says(folder: Path) -> None:
    said = make(folder).stdout
    for words in ("make book", "TIER=smoke", "CHAPTER=", "make test", "make references", "make clean", "SPECDYN_DATA"):
        assert words in said


@pytest.mark.parametrize("version", ["3, 9", "3, 10", "3, 14"])
def test_other_pythons_are_refused_by_name(folder: Path, version: str) -> None:
    done = make(folder, "book", f"PYTHON={pretend(folder, version)}")
    assert done.returncode
    assert f"Python 3.11, 3.12 or 3.13 is needed and {folder}/python is {version.replace(', ', '.')}" in done.stderr
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("version", ["3, 11", "3, 12", "3, 13"])
def test_these_pythons_make_the_environment(folder: Path, version: str) -> None:
    done = make(folder, "book", f"PYTHON={pretend(folder, version)}")
    assert "asked: -m venv .venv" in done.stdout


def test_nothing_is_installed_again_until_a_dependency_file_changes(folder: Path) -> None:
    (folder / ".venv").mkdir()
    (folder / ".venv" / "installed").touch()
    assert "pip install" not in make(folder, "-n", "test").stdout
    os.utime(folder / "requirements.lock", (later := time.time() + 10, later))
    assert "pip install" in make(folder, "-n", "test").stdout
