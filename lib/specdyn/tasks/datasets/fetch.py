"""Where a dataset's files come from: a local mirror, the user's cache or the network; checked in each case."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pooch
from filelock import FileLock
from tqdm import tqdm

from specdyn.tasks.datasets.registry import Dataset, File, describe

# Some mirrors turn away the agent that libraries send, and of what is compressed on the way nobody knows the size.
HEADERS = {"User-Agent": "specdyn (Python; pooch)", "Accept-Encoding": "identity"}


class WrongFile(ValueError):
    """A file is there and is not what its publisher ships."""


@contextmanager
def reading(name: str) -> Iterator[dict[str, Path]]:
    """Yield the checked files of a dataset, by the last part of their names, to a reader.

    They are looked for in ``$SPECDYN_DATA``, a folder laid out like the registry, which is only read; then in the
    user's cache; what is in neither is downloaded to the cache. `WrongFile` raised inside removes what was downloaded
    from the cache, so that a bad file is never met again, and names it. Raises ``FileNotFoundError`` where a file is
    nowhere to be had and ``PermissionError`` where the cache cannot be written, both with the cure.
    """
    entry = describe(name)
    paths = _located(entry)
    _note_use(entry)
    try:
        yield {path.name: path for path in paths.values()}
    except WrongFile as error:
        cure = _refuse(entry, paths)
        raise WrongFile(f"{name}, from {', '.join(map(str, paths.values()))}: {error}. {cure}") from error


def cache_folder() -> Path:
    """Return the folder that downloads are kept in, the operating system's own for such things."""
    return Path(pooch.os_cache("specdyn"))


def mirror() -> Path | None:
    """Return the folder that ``$SPECDYN_DATA`` names; raise ``NotADirectoryError`` where it is none."""
    chosen = os.environ.get("SPECDYN_DATA")
    if not chosen:
        return None
    if not Path(chosen).is_dir():
        raise NotADirectoryError(f"SPECDYN_DATA is {chosen!r}, which is no folder: name one, or unset it")
    return Path(chosen)


def present(name: str) -> bool:
    """Return whether the files of a dataset are on this machine, in any one form."""
    return any(all(_present(file) for file in form) for form in describe(name).forms)


def writable(folder: Path) -> Path:
    """Make a folder of the cache if need be and return it; raise ``PermissionError`` with the cure where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise PermissionError(
            f"cannot write data to {folder} ({error.strerror}): make it writable, or put the files into a folder "
            "of your own, laid out as the page 'Data and licences' shows, and set SPECDYN_DATA to it"
        ) from error


def _located(entry: Dataset) -> dict[File, Path]:
    """Find the first form that is there, or else download the canonical one."""
    for form in entry.forms:
        found = {file: path for file in form if (path := _present(file))}
        if len(found) == len(form):
            return {file: _checked(entry, file, path) for file, path in found.items()}
    with _downloading(entry):
        return {file: _checked(entry, file, _present(file) or _downloaded(entry, file)) for file in entry.canonical}


def _present(file: File) -> Path | None:
    return next((root / file.name for root in (mirror(), cache_folder()) if root and (root / file.name).exists()), None)


def _checked(entry: Dataset, file: File, path: Path) -> Path:
    """Return the path of a file that is what it should be; raise `WrongFile` and drop it from the cache if not."""
    if wrong := _fault(file, path):
        raise WrongFile(f"{path} {wrong}. {_refuse(entry, {file: path})}")
    return path


def _fault(file: File, path: Path) -> str | None:
    if file.bytes is not None and path.stat().st_size != file.bytes:
        return f"has {path.stat().st_size:,} bytes and should have {file.bytes:,}"
    if file.hash is not None and not pooch.hashes.hash_matches(path, file.hash):
        return f"is not the publisher's file: its {file.hash.partition(':')[0]} is another"
    return None


def _refuse(entry: Dataset, paths: Mapping[File, Path]) -> str:
    """Remove what was downloaded to the cache and return the cure."""
    downloaded = [path for file, path in paths.items() if _was_downloaded(file, path)]
    for path in downloaded:
        path.unlink(missing_ok=True)
    if len(downloaded) == len(paths):
        return "It was removed from the cache: run this again to download it anew"
    if all(file.urls for file in entry.canonical):
        return "Put the publisher's there, or remove it to have it downloaded"
    return f"Put that of {entry.home} there"


def _was_downloaded(file: File, path: Path) -> bool:
    """Tell a file that this library put there from one of the user's, whose folder may lie about the cache."""
    real, own = path.resolve(), mirror()
    in_cache = real.is_relative_to(cache_folder().resolve()) and not real.is_dir()
    return bool(file.urls) and in_cache and not (own and real.is_relative_to(own.resolve()))


@contextmanager
def _downloading(entry: Dataset) -> Iterator[None]:
    """Let one process at a time download a dataset; the others then find it there."""
    if not any(file.urls for file in entry.canonical):
        yield
        return
    with FileLock(_room(entry, cache_folder()) / f".{entry.name}.lock"):
        yield


def _room(entry: Dataset, folder: Path) -> Path:
    """Return a folder of the cache, writable; where it is not, the error says what was to come there."""
    try:
        return writable(folder)
    except PermissionError as error:
        files = "".join(f"\n  {file.name}{_size(file)} from {' or '.join(file.urls)}" for file in entry.canonical)
        wanted = f"{entry.title} is not on this machine and has to be downloaded:{files}"
        raise PermissionError(f"{wanted}\n{error}") from error


def _downloaded(entry: Dataset, file: File) -> Path:
    """Try each address in turn; what is not the publisher's file is not kept."""
    target, failures = cache_folder() / file.name, []
    for url in file.urls:
        _room(entry, target.parent)
        try:
            with _quiet(), _progress(file) as bar:
                get = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**18, headers=HEADERS, timeout=30)
                pooch.retrieve(url, file.hash, target.name, target.parent, downloader=get)
        except (OSError, ValueError) as error:  # requests' own errors are OSErrors; a wrong checksum is a ValueError
            failures.append(f"{url}: {_reason(error)}")
        else:
            return target
    raise FileNotFoundError(_absent(entry, file, failures))


def _absent(entry: Dataset, file: File, failures: list[str]) -> str:
    """Say which file is missing, how large it is, where it is from and where to put it."""
    why = (
        "could not be downloaded:\n  " + "\n  ".join(failures)
        if failures
        else f"has to be fetched by hand from {entry.home}"
    )
    places = [str(root / file.name) for root in (mirror(), cache_folder()) if root]
    also = "" if mirror() else f", or as {file.name} in a folder of yours that SPECDYN_DATA names"
    missing = f"{entry.title}: {file.name}{_size(file)} is not on this machine"
    return f"{missing} and {why}\nPut it at {' or '.join(places)}{also}"


def _size(file: File) -> str:
    return f" ({megabytes(file.bytes)})" if file.bytes else f" (about {megabytes(file.about)})" if file.about else ""


def _reason(error: Exception) -> str:
    """Return one short line; those of connections fill a screen."""
    from requests import exceptions  # it takes as long as the rest of this room, and most readers download nothing

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, exceptions.ConnectionError):
        return "no connection"
    return "not the publisher's file: its checksum is another" if isinstance(error, ValueError) else str(error)


def megabytes(count: int) -> str:
    """Return a number of bytes as people read it.

    >>> megabytes(28_881), megabytes(170_498_071)
    ('0.029 MB', '170 MB')
    """
    return f"{count / 1e6:,.0f} MB" if count >= 10e6 else f"{count / 1e6:.2g} MB"


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the progress bar speak instead of pooch's log."""
    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _progress(file: File) -> Iterator[Any]:
    """Yield a bar on standard error, or in the file named by ``$SPECDYN_PROGRESS``."""
    total = file.bytes or 1  # pooch asks whether a bar is true, and without a total it cannot say
    path = os.environ.get("SPECDYN_PROGRESS")
    with (
        Path(path).open("w") if path else nullcontext(sys.stderr) as stream,
        tqdm(desc=file.name, total=total, unit="B", unit_scale=True, file=stream, leave=False) as bar,
    ):
        yield bar


def _note_use(entry: Dataset) -> None:
    """Add what a dataset costs to download to the file named by ``$SPECDYN_DOWNLOADS``: a page says it to readers."""
    if log := os.environ.get("SPECDYN_DOWNLOADS"):
        with Path(log).open("a") as stream:
            stream.write(f"{entry.name} {sum(file.bytes or file.about or 0 for file in entry.canonical)}\n")
