"""Ways to cut text into tokens, against texts worked out by hand and a tokenizer made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from specdyn.tasks.datasets import WrongFile
from specdyn.tasks.tokens import Characters, Pieces, Words


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """A file like GPT-NeoX's: bytes, one merge, a special token first, runs of spaces added after the vocabulary."""
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate(["<|endoftext|>", *alphabet, "th"])}
    tokenizer = Tokenizer(BPE(vocabulary, [("t", "h")]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("   ", normalized=False), AddedToken("  ", normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@given(st.text())
def test_characters_keep_letters_and_digits_and_nothing_else(text: str) -> None:
    characters = Characters()
    numbers = characters.encode(text)
    back = characters.decode(numbers.tolist())
    kept = [character for character in text.lower() if character.isascii() and character.isalnum()]
    assert back.replace(" ", "") == "".join(kept)
    assert "  " not in back
    assert torch.equal(characters.encode(back), numbers)
    assert all(0 <= number < characters.size for number in numbers.tolist())


def test_characters_by_hand() -> None:
    assert Characters().encode("A1-\n-z").tolist() == [1, 28, 0, 26]
    assert Characters().size == 37


def test_words_are_closed_and_what_is_not_among_them_is_unknown() -> None:
    words = Words.of("the <unk> sat\nthe cat <unk>\n")
    assert words.types == ("the", "<unk>", "sat", "<eos>", "cat")
    assert words.encode("the dog sat\n").tolist() == [0, 1, 2, 3]  # a dog is unknown, not dropped
    assert words.decode([0, 1, 2, 3, 4]) == "the <unk> sat \n cat"
    assert words.encode("the Cat").tolist() == [0, 1]


def test_an_unknown_word_without_a_token_for_it_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'dog' is none of the 2 words"):
        Words.of("the cat").encode("the dog")


def test_rare_words_reach_the_tokenizer_as_unknown_and_marks_do_not(tokenizer_file: Path) -> None:
    pieces = Pieces.read(tokenizer_file)
    numbers = pieces.encode("The <unk>, a_b!\n").tolist()
    assert pieces.decode(numbers) == "the <|endoftext|> ab\n"
    assert numbers.count(0) == 1
    assert numbers[0] == 257  # the merge of t and h
    assert pieces.encode("UNK unk").tolist().count(0) == 0


def test_the_size_counts_tokens_added_after_the_vocabulary(tokenizer_file: Path) -> None:
    pieces = Pieces.read(tokenizer_file)
    assert pieces.tokenizer.get_vocab_size(with_added_tokens=False) == 258
    assert pieces.size == 260
    assert int(pieces.encode("a   b").max()) == 258  # would read past an embedding of 258 rows


def test_many_lines_are_the_same_as_one_after_another(tokenizer_file: Path) -> None:
    pieces = Pieces.read(tokenizer_file)
    lines = [f"line {at} thé\n" for at in range(9_000)]
    alone = torch.cat([pieces.encode(line) for line in lines])
    assert torch.equal(pieces.encode("".join(lines)), alone)
    assert pieces.decode(pieces.encode("thé").tolist()) == "thé"
    assert pieces.encode("").shape == (0,)


def test_a_tokenizer_without_an_unknown_token_is_refused(tmp_path: Path) -> None:
    Tokenizer(BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(WrongFile, match=r"tokenizer\.json has no token '<\|endoftext\|>'"):
        Pieces.read(tmp_path / "tokenizer.json")


def test_what_is_no_tokenizer_file_is_named(tokenizer_file: Path) -> None:
    whole = tokenizer_file.read_bytes()
    for wrong in (whole[: len(whole) // 2], b"", b"\xff\xfe", b"{}"):
        tokenizer_file.write_bytes(wrong)
        with pytest.raises(WrongFile, match=r"tokenizer\.json is no tokenizer file, or not all of one"):
            Pieces.read(tokenizer_file)
