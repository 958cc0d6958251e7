"""The text that ships with CPython, against its pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pydoc_data.topics import topics

import pytest

from specdyn.tasks.datasets import python_text as module
from specdyn.tasks.datasets.python_text import python_text, python_text_hash


@pytest.fixture
def fresh() -> Iterator[None]:
    python_text.cache_clear()
    yield
    python_text.cache_clear()


def paragraphs() -> set[str]:
    """All distinct paragraphs of all pages, as words."""
    every = (paragraph for page in topics.values() for paragraph in page.split("\n\n"))
    return {" ".join(re.findall("[a-z0-9]+", paragraph.lower())) for paragraph in every}


def test_the_parts_hold_the_words_of_every_paragraph_once() -> None:
    parts = [python_text().train, python_text().validation, python_text().test]
    assert all(re.fullmatch("[a-z0-9]+( [a-z0-9]+)*", part) for part in parts)
    assert Counter(" ".join(parts).split()) == Counter(" ".join(paragraphs()).split())


def test_no_long_paragraph_is_on_two_sides() -> None:
    parts = [python_text().train, python_text().validation, python_text().test]
    long = [paragraph for paragraph in paragraphs() if len(paragraph) > 600]
    assert len(long) > 30
    assert [sum(part.count(paragraph) for part in parts) for paragraph in long] == [1] * len(long)


def test_a_tenth_is_held_out_in_equal_halves() -> None:
    train, validation, test = (
        len(part) for part in (python_text().train, python_text().validation, python_text().test)
    )
    assert 0.85 < train / (train + validation + test) < 0.95
    assert 0.5 < validation / test < 2


@pytest.mark.usefixtures("fresh")
def test_the_hash_changes_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = python_text_hash()
    assert re.fullmatch("[0-9a-f]{12}", before)
    monkeypatch.setattr(module, "topics", topics | {"assert": topics["assert"] + "\n\nOne more paragraph."})
    python_text.cache_clear()
    assert python_text_hash() != before
