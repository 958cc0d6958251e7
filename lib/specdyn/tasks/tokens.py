"""From text to tokens and back: characters, words, or the pieces of words that a tokenizer file lists."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from specdyn.tasks.datasets import WrongFile

_MARKS = re.compile(r"[^\w\s]|_")
_UNKNOWN, _END_OF_LINE = "<unk>", "<eos>"


class Vocabulary(Protocol):
    """A way to write text as numbers below ``size``."""

    @property
    def size(self) -> int:
        """One more than the largest number there is: the rows an embedding needs."""

    def encode(self, text: str) -> Tensor:
        """Return the numbers (tokens,) of a text, int32."""

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of numbers."""


@dataclass(frozen=True)
class Characters:
    """Lower-case letters, digits and the space; whatever else stands between them is one space.

    >>> characters = Characters()
    >>> characters.decode(characters.encode("For x in (1, 2):").tolist())
    'for x in 1 2 '
    """

    alphabet: str = " " + string.ascii_lowercase + string.digits

    @property
    def size(self) -> int:
        """The number of characters."""
        return len(self.alphabet)

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text."""
        plain = re.sub(r"[^a-z0-9]+", " ", text.lower())
        return torch.tensor([self._numbers[character] for character in plain], dtype=torch.int32)

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the characters."""
        return "".join(self.alphabet[number] for number in numbers)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: number for number, character in enumerate(self.alphabet)}


@dataclass(frozen=True)
class Words:
    """Words as they stand between spaces, from a closed list; the end of a line is one of them.

    >>> words = Words.of("a tree <unk> a house\\n")
    >>> words.size, words.encode("a strange tree").tolist()
    (5, [0, 2, 1])
    """

    types: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Words:
        """Return the words that occur in a text, in the order of their first occurrence."""
        return cls(tuple(dict.fromkeys(_words(text))))

    @property
    def size(self) -> int:
        """The number of types."""
        return len(self.types)

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text; a word not on the list is ``<unk>``.

        Raises ``ValueError`` naming the word where ``<unk>`` is not on the list either.
        """
        unknown = self._numbers.get(_UNKNOWN)
        numbers = [self._numbers.get(word, unknown) for word in _words(text)]
        if None in numbers:
            word = next(word for word in _words(text) if word not in self._numbers)
            raise ValueError(f"{word!r} is none of the {self.size:,} words, and {_UNKNOWN} is not among them either")
        return torch.tensor(numbers, dtype=torch.int32)

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the words with a space between them, and lines where they end."""
        return " ".join(self.types[number] for number in numbers).replace(_END_OF_LINE, "\n")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.types)}


@dataclass(frozen=True)
class Pieces:
    """Pieces of words as a file of the ``tokenizers`` library lists them; the text keeps no mark but ``<unk>``.

    As in the paper, text is lower-cased and loses all but letters, digits and white space. ``<unk>``, which
    stands in the text for a rare word, becomes the token ``unknown``. (In the official code it does not: the
    result of the replacement is dropped, and ``unk`` is read as a word.)
    """

    tokenizer: Tokenizer
    unknown: str = "<|endoftext|>"

    @classmethod
    def read(cls, path: str | Path) -> Pieces:
        """Return the pieces of a ``tokenizer.json``; raise `WrongFile` where it is none or lacks the unknown token."""
        try:
            pieces = cls(Tokenizer.from_buffer(Path(path).read_bytes()))
        except ValueError as error:
            raise WrongFile(f"{path} is no tokenizer file, or not all of one ({error})") from error
        if pieces.tokenizer.token_to_id(pieces.unknown) is None:
            raise WrongFile(f"{path} has no token {pieces.unknown!r} for unknown words: is it GPT-NeoX's tokenizer?")
        return pieces

    @property
    def size(self) -> int:
        """One more than the largest number, that of tokens added to the file's own vocabulary included."""
        return int(max(self.tokenizer.get_vocab(with_added_tokens=True).values())) + 1

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text."""
        lines = self._plain(text).splitlines(keepends=True)
        numbers = [torch.empty(0, dtype=torch.int32)]
        for at in range(0, len(lines), 4096):  # all at once would keep some hundred bytes a token beside the numbers
            encodings = self.tokenizer.encode_batch_fast(lines[at : at + 4096], add_special_tokens=False)
            numbers.append(torch.tensor([number for line in encodings for number in line.ids], dtype=torch.int32))
        return torch.cat(numbers)

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text, with the unknown token for what was unknown."""
        return str(self.tokenizer.decode(list(numbers), skip_special_tokens=False))

    def _plain(self, text: str) -> str:
        return self.unknown.join(_MARKS.sub("", part) for part in text.lower().split(_UNKNOWN))


def _words(text: str) -> list[str]:
    return text.replace("\n", f" {_END_OF_LINE} ").split()
