"""Read files out of a folder, a tar or a zip, in memory: nothing is ever written where an archive says."""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from specdyn.tasks.datasets.fetch import WrongFile

BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


def members(path: Path, pattern: str, limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the regular files whose name in the container matches the whole pattern.

    Folders, links and devices are passed over. Raises `WrongFile` for what is no such container, is broken, or
    holds a matching file of more than ``limit`` bytes.
    """
    try:
        for name, size, stream in _opened(path):
            if re.fullmatch(pattern, name):
                if size > limit:
                    raise WrongFile(f"{name} in it would take {size:,} bytes, more than the {limit:,} that it can have")
                yield name, stream.read()
    except BROKEN as error:
        raise WrongFile(f"it cannot be unpacked ({error})") from error


def _opened(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    if path.is_dir():
        return _in_folder(path)
    return _in_zip(path) if zipfile.is_zipfile(path) else _in_tar(path)


def _in_folder(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    for file in sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                yield file.relative_to(path.parent).as_posix(), file.stat().st_size, stream


def _in_zip(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as stream:
                    yield info.filename, info.file_size, stream


def _in_tar(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and (stream := archive.extractfile(member)):
                with stream:
                    yield member.name, member.size, stream


def decoded(name: str, content: bytes) -> str:
    """Return the text of a file; raise `WrongFile` naming it where it is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WrongFile(f"{name} is no UTF-8 text ({error})") from error
