"""Which datasets there are: names, files, checksums, licences and addresses, read from ``registry.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class File:
    """A file or folder of a dataset, named relative to a mirror, such as ``mnist/train-images-idx3-ubyte.gz``."""

    name: str
    bytes: int | None
    """None where the publisher's container may differ, or for a folder."""
    hash: str | None
    """``sha256:...`` or the publisher's ``md5:...``; None where what the container holds decides."""
    about: int | None
    """Roughly how many bytes to expect, where that is all one can say."""
    urls: tuple[str, ...]
    """Addresses to try in order; empty where a file is placed by hand."""


@dataclass(frozen=True)
class Dataset:
    """One row of the registry."""

    name: str
    title: str
    version: str
    licence: str
    copyright: str
    home: str
    note: str
    forms: tuple[tuple[File, ...], ...]
    """The files of each form it is known in; any one will do."""
    contents: Mapping[str, Any]
    """What a container without a checksum has to hold, as the reader of the dataset understands it."""

    @property
    def canonical(self) -> tuple[File, ...]:
        """The files that are downloaded; of a dataset that cannot be, those to place by hand."""
        return next((form for form in self.forms if all(file.urls for file in form)), self.forms[0])


def available() -> list[str]:
    """Return the names of all datasets.

    >>> available()[:3]
    ['mnist', 'fashion-mnist', 'cifar10']
    """
    return list(registry())


def describe(name: str) -> Dataset:
    """Return what the registry says of a dataset; raise ``ValueError`` with the choices where it is not there.

    >>> describe("fashion-mnist").licence
    'MIT'
    """
    if name not in registry():
        raise ValueError(f"there is no dataset {name!r}: choose one of {', '.join(registry())}")
    return registry()[name]


@cache
def registry() -> dict[str, Dataset]:
    """Return all rows by name."""
    return parsed(resources.files(__package__).joinpath("registry.toml").read_text(encoding="utf-8"))


def parsed(text: str) -> dict[str, Dataset]:
    """Return the rows of a registry written as TOML."""
    return {name: _dataset(name, **row) for name, row in tomllib.loads(text).items()}


def _dataset(name: str, forms: list[Any], contents: Mapping[str, Any] | None = None, **words: str) -> Dataset:
    files = tuple(tuple(_file(**file) for file in form["files"]) for form in forms)
    return Dataset(name=name, forms=files, contents=contents or {}, **words)


def _file(name: str, urls: Sequence[str] = (), **known: Any) -> File:
    return File(name, known.get("bytes"), known.get("hash"), known.get("about"), tuple(urls))
