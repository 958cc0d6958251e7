"""`python -m tools book` makes the site, `python -m tools references` what the tests compare."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tools import provenance, references
from tools.book import TIERS, Book, BuildError, Chapter, Settings, UsageError, replacing
from tools.execute import execute
from tools.notebook import Notebook, read, reads_claims, write
from tools.provenance import StaleError
from tools.site import build_site
from tools.stage import stage, write_ledger


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; return 1 where the book is wrong and 2 where the question is."""
    options = _parser().parse_args(arguments)
    book = Book(Path.cwd())
    try:
        _check_writable(book)
        with FileLock(book.build / ".lock", timeout=0):
            _obey(options, book)
    except Timeout:
        print("error: another build is at work in this folder: wait until it is done", file=sys.stderr)
        return 2
    except (UsageError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("stopped: finished chapters and runs are kept, and the next build goes on from there", file=sys.stderr)
        return 130
    return 0


def _obey(options: argparse.Namespace, book: Book) -> None:
    chapters = book.chosen(options.chapter)
    if options.command == "book":
        with _reading_data_from(options.data_dir):
            make(book, chapters, _settings(options), force=options.force)
        return
    for chapter in chapters:
        references.renew(chapter)
        print(chapter.reference.relative_to(book.root))


def make(book: Book, chapters: Sequence[Chapter], settings: Settings, *, force: bool = False) -> None:
    """Execute chapters whose notebooks are not current, and build the site from all that are."""
    made: dict[Chapter, Notebook] = {}
    absent: dict[Chapter, str] = {}
    for chapter in book.chapters():
        if reads_claims(chapter):
            write_ledger(book, made)
        if chapter in chapters and (force or not current(chapter, settings)):
            write(execute(chapter, settings), chapter.notebook)
        try:
            if not chapter.notebook.exists():
                raise StaleError(f"{chapter.page}: not executed yet")
            notebook = read(chapter.notebook)
            provenance.check(notebook, chapter, settings)
            made[chapter] = notebook
        except StaleError as error:
            if chapter in chapters:
                raise
            absent[chapter] = str(error).removeprefix(f"{chapter.page}: ")
            print(f"left out: {error}")
    stage(book, made, absent, settings)
    print("building the site", flush=True)
    site = build_site(book, made)
    for chapter, notebook in made.items():
        measured = notebook.metadata["provenance"]["measured"]
        print(f"{chapter.name:<24} {measured['seconds']:>7.1f} s, executed {measured['date']}")
    print(f"claims: {book.ledger.relative_to(book.root)}")
    print(f"site:   {site / 'index.html'}")


def current(chapter: Chapter, settings: Settings) -> bool:
    """Return whether a chapter's notebook is what executing it again would give."""
    if not chapter.notebook.exists():
        return False
    try:
        provenance.check(read(chapter.notebook), chapter, settings)
    except StaleError:
        return False
    return True


@contextmanager
def _reading_data_from(folder: Path | None) -> Iterator[None]:
    """Let the chapters look for datasets in a folder, and afterwards where they looked before."""
    if folder is None:
        yield
        return
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r} to read data from: name the one that holds the datasets")
    before = os.environ.get("SPECDYN_DATA")
    os.environ["SPECDYN_DATA"] = str(folder.resolve())
    try:
        yield
    finally:
        del os.environ["SPECDYN_DATA"]
        os.environ |= {} if before is None else {"SPECDYN_DATA": before}


def _settings(options: argparse.Namespace) -> Settings:
    if options.tier not in TIERS:
        raise UsageError(f"there is no tier {options.tier!r}: choose {', '.join(TIERS)}")
    default = "10" if options.tier == "smoke" else "10,11,12"
    text = default if options.seeds is None else options.seeds
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"seeds are whole numbers with commas between, such as 10,11,12, not {text!r}") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"seeds are different numbers from 0 on, such as 10,11,12, not {text!r}")
    if options.device not in ("auto", "cpu") and not options.device.startswith("cuda"):
        raise UsageError(f"there is no device {options.device!r}: choose auto, cpu or cuda")
    return Settings(tier=options.tier, seeds=seeds, device=options.device)


def _check_writable(book: Book) -> None:
    for file in ("_toc.yml", "_config.yml"):
        if not (book.root / file).exists():
            raise UsageError(f"there is no {file} here: run this in the folder of the book")
    try:
        with replacing(book.build / ".writable"):
            pass
        (book.build / ".writable").unlink()
    except OSError as error:
        raise UsageError(f"{book.build} cannot be written ({error.strerror}): make it writable") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    book = commands.add_parser("book", help="execute chapters and build the site")
    book.add_argument("--tier", default="laptop", help=", ".join(TIERS))
    book.add_argument("--seeds", help="whole numbers with commas between (default 10,11,12; smoke: 10)")
    book.add_argument("--device", default="auto", help="auto, cpu or cuda")
    book.add_argument("--force", action="store_true", help="execute even what is current")
    book.add_argument(
        "--data-dir", type=Path, help="a folder of datasets, laid out as the page 'Data and licences' says"
    )
    again = commands.add_parser("references", help="renew the notebooks that the tests compare")
    for command in (book, again):
        command.add_argument("--chapter", help="one chapter by its name (default: all)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
