"""Text that ships with CPython: the help pages of the language, every paragraph once."""

from __future__ import annotations

import hashlib
import platform
import re
from functools import cache
from pydoc_data.topics import topics

from specdyn.tasks.datasets.texts import Texts


@cache
def python_text() -> Texts:
    """Return the help pages of this Python in lower-case letters, digits and single spaces.

    Every tenth paragraph is held out, in turn for validation and for the test. The pages quote one another,
    so a paragraph is taken where it stands first and no other time: none is on two sides. The pages change a
    little with the version of Python; `python_text_hash` tells them apart.

    >>> python_text().train[:30]
    'the assert statement assert st'
    """
    pages = "\n\n".join(topics[name] for name in sorted(topics))
    paragraphs = list(dict.fromkeys(filter(None, map(_plain, pages.split("\n\n")))))
    kept = (paragraph for at, paragraph in enumerate(paragraphs) if at % 10 != 9)
    train, validation, test = map(" ".join, (kept, paragraphs[9::20], paragraphs[19::20]))
    return Texts(train, validation, test, note=f"The help pages of Python {platform.python_version()}: others differ.")


def python_text_hash() -> str:
    """Return twelve hexadecimal digits that change with the text of `python_text`.

    >>> len(python_text_hash())
    12
    """
    text = python_text()
    return hashlib.sha256("\n".join((text.train, text.validation, text.test)).encode()).hexdigest()[:12]


def _plain(paragraph: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", paragraph.lower()).strip()
