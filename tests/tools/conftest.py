"""A small book of two chapters, built once, and copies of it that tests break."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.__main__ import main
from tools.book import SMOKE, Book
from tools.data import REGISTRY
from tools.site import build_site
from tools.stage import stage

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).parent / "fixtures" / "small"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small book with its site and a reference, as the tools leave it. Not to be changed."""
    root = tmp_path_factory.mktemp("built") / "book"
    shutil.copytree(SMALL, root)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "requirements.lock").write_text("numpy==2.4.6\n")
    (root / "lib" / "specdyn").mkdir(parents=True)
    (root / "lib" / "specdyn" / "module.py").write_text("x = 1\n")
    (root / REGISTRY).parent.mkdir(parents=True)
    shutil.copy(ROOT / REGISTRY, root / REGISTRY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["book", "--tier", "smoke"]) == 0
        assert main(["references", "--chapter", "small"]) == 0
    return root


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This book with its reference pages, its chapters left out. Not to be changed."""
    root = tmp_path_factory.mktemp("reference") / "book"
    shutil.copytree(ROOT / "book", root / "book")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, root)
    (root / REGISTRY).parent.mkdir(parents=True)
    shutil.copy(ROOT / REGISTRY, root / REGISTRY)
    book = Book(root)
    stage(book, {}, dict.fromkeys(book.chapters(), "it is not needed here"), SMOKE)
    build_site(book, [])
    return root


@pytest.fixture
def small(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built book to break, with its notebooks but without its site."""
    root = tmp_path / "book"
    shutil.copytree(built, root, ignore=shutil.ignore_patterns("html", "stage", "site"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def edit(small: Path) -> Callable[[str, str, str], None]:
    """Return a function that replaces a text in a file of the book."""

    def replace(file: str, old: str, new: str) -> None:
        path = small / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new))

    return replace
