"""WikiText and Tiny Shakespeare: texts split into training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from specdyn.tasks.datasets.archives import decoded, members
from specdyn.tasks.datasets.fetch import WrongFile, present, reading

LIMIT = 2**30
SHUFFLED = (
    "The training text has the articles of the official WikiText-2 (36,718 lines, 2,088,628 words and line ends) in "
    "another order, so a perplexity from it is near, not equal, to one from the official file."
)
INSTEAD = (
    "Its articles in another order are on this machine: dataset='wikitext-2-shuffled' learns from them, in runs of "
    "another name."
)
HELD_OUT = ("valid.txt", "test.txt")


@dataclass(frozen=True)
class Texts:
    """A corpus."""

    train: str
    validation: str
    test: str
    note: str = ""
    """What has to be said wherever a number from it is printed; empty where there is nothing to say."""


def wikitext2() -> Texts:
    """Return WikiText-2, words apart by spaces and rare ones as ``<unk>`` (Merity and others 2016)."""
    try:
        with reading("wikitext-2") as files:
            return read_wikitext(files["wikitext-2-v1.zip"], "wikitext-2")
    except (FileNotFoundError, PermissionError) as error:
        if not present("wikitext-2-shuffled"):
            raise
        raise type(error)(f"{error}\n{INSTEAD}") from error


def wikitext2_shuffled() -> Texts:
    """Return WikiText-2 with the articles to train on in another order, of which its note tells."""
    with reading("wikitext-2-shuffled") as files:
        train, validation, test = (_text(files[name]) for name in ("train.articles-shuffled.txt", *HELD_OUT))
    return Texts(train, validation, test, note=SHUFFLED)


def wikitext103() -> Texts:
    """Return WikiText-103, words apart by spaces and rare ones as ``<unk>`` (Merity and others 2016)."""
    with reading("wikitext-103") as files:
        return read_wikitext(files["wikitext-103-v1.zip"], "wikitext-103")


def read_wikitext(path: Path, folder: str) -> Texts:
    """Read the official zip; raise `WrongFile` where a part is missing or not UTF-8."""
    found = {name: content for name, content in members(path, rf"{folder}/wiki\.(train|valid|test)\.tokens", LIMIT)}
    names = [f"{folder}/wiki.{part}.tokens" for part in ("train", "valid", "test")]
    if absent := [name for name in names if name not in found]:
        raise WrongFile(f"{', '.join(absent)} is not in it")
    train, validation, test = (decoded(name, found[name]) for name in names)
    return Texts(train, validation, test)


def tiny_shakespeare() -> Texts:
    """Return Tiny Shakespeare: the first 90 % to train, 5 % to validate, 5 % to test (the split of char-rnn)."""
    with reading("tinyshakespeare") as files:
        text = _text(files["input.txt"])
    first, second = int(0.9 * len(text)), int(0.95 * len(text))
    return Texts(text[:first], text[first:second], text[second:])


def _text(path: Path) -> str:
    return decoded(path.name, path.read_bytes())
