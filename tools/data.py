"""The page of datasets and licences, made from the registry that the library fetches from."""

from __future__ import annotations

import tomllib
from typing import Any

from tools.book import Book
from tools.pages import table_of

REGISTRY = "lib/specdyn/tasks/datasets/registry.toml"

INTRODUCTION = """\
# Data and licences

At the tiers `smoke` and `laptop` nothing is downloaded. What is learned there ships with what is installed, or is
computed: the digits of scikit-learn (from the UCI repository, CC BY 4.0), the help texts of CPython (PSF licence), and
the tones of a telephone's keys.

The tiers `gpu` and `paper` learn from the datasets below. None of them is part of this book: each is downloaded from
its publisher or a mirror when it is first needed, except where "by hand" stands, compared with the checksum below, and
kept in your cache folder. What does not match is not kept. The licence of a dataset is between you and its publisher;
it covers the data, and not the code or the text of this book.

To use files that are on your machine already, lay them out in a folder under the names below and name the folder:
`SPECDYN_DATA=folder make book`, or `python -m tools book --data-dir folder`. The folder is only read. Where a dataset
is listed in several forms, any one will do.
"""


def data_page(book: Book) -> str:
    """Return the page; of a book that has no registry, one that says so."""
    file = book.root / REGISTRY
    if not file.exists():
        return "# Data and licences\n\nThis book reads no published data.\n"
    registry = tomllib.loads(file.read_text(encoding="utf-8"))
    rows = [_row(name, entry) for name, entry in registry.items()]
    table = table_of("dataset", "licence", "copyright", "download", rows=rows)
    sections = [_section(name, entry) for name, entry in registry.items()]
    return "\n\n".join([INTRODUCTION, table, *sections]) + "\n"


def _row(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    return f"[{entry['title']}](#{name})", entry["licence"], entry["copyright"], _download(entry)


def _download(entry: dict[str, Any]) -> str:
    """Return the size of the first form that has addresses."""
    form = next((form["files"] for form in entry["forms"] if all("urls" in file for file in form["files"])), None)
    if form is None:
        return "by hand"
    size = sum(file.get("bytes", file.get("about", 0)) for file in form)
    return f"{size / 1e6:,.1f} MB" if all("bytes" in file for file in form) else f"about {size / 1e6:,.0f} MB"


def _section(name: str, entry: dict[str, Any]) -> str:
    forms = ["\n".join(_file(file, entry) for file in form["files"]) for form in entry["forms"]]
    return (
        f"({name})=\n## {entry['title']}\n\n{entry['note']} Version: {entry['version']}. "
        f"Home: <{entry['home']}>\n\n" + "\n\nor\n\n".join(forms)
    )


def _file(file: dict[str, Any], entry: dict[str, Any]) -> str:
    """Return what is known of a file as an entry of a list, its addresses in the order tried."""
    size = f", {file['bytes']:,} bytes" if "bytes" in file else ""
    addresses = [f"<{url}>" for url in file.get("urls", [])]
    return "\n  - ".join([f"- `{file['name']}`{size}", f"checked by {_check(file, entry)}", *addresses])


def _check(file: dict[str, Any], entry: dict[str, Any]) -> str:
    if "hash" in file:
        kind, _, digest = file["hash"].partition(":")
        return f"{kind} `{digest}`"
    return "what it holds" if "contents" in entry else "whoever puts it there: no checksum is published"
