"""What the continuous check says last, and what it stops at."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLOSING = "=== 3 passed in 1.00s ==="


def check(folder: Path, make: str) -> subprocess.CompletedProcess[str]:
    """Run the check in a folder of its own, where ``make`` is this shell script."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
    script = folder / "bin" / "make"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{make}\n")
    script.chmod(0o755)
    surroundings = os.environ | {"PATH": f"{script.parent}:{os.environ['PATH']}", "CI": "", "SPECDYN_DATA": ""}
    return subprocess.run([folder / ".ci" / "run"], capture_output=True, text=True, env=surroundings)


def test_the_closing_line_of_the_tests_comes_last(tmp_path: Path) -> None:
    done = check(tmp_path, f'[ "$1" = test ] && echo "{CLOSING}" || echo "made $1"')
    assert done.returncode == 0
    assert done.stdout.splitlines() == [CLOSING, "made book", CLOSING]


def test_failing_tests_fail_the_check_before_the_book(tmp_path: Path) -> None:
    done = check(tmp_path, '[ "$1" = test ] && exit 1 || echo "made $1"')
    assert done.returncode != 0
    assert "made book" not in done.stdout


def test_a_copy_of_the_datasets_beside_the_book_is_used(tmp_path: Path) -> None:
    mirror, book = tmp_path / "shared" / "data", tmp_path / "book"
    mirror.mkdir(parents=True)
    book.mkdir()
    assert f"data in {mirror}" in check(book, 'echo "data in $SPECDYN_DATA"').stdout.splitlines()


def test_without_one_the_datasets_are_not_named(tmp_path: Path) -> None:
    assert "data in ." in check(tmp_path, 'echo "data in $SPECDYN_DATA."').stdout.splitlines()
