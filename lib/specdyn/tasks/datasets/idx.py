"""MNIST and Fashion-MNIST: gzipped idx files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from specdyn.tasks.datasets.fetch import WrongFile, reading
from specdyn.tasks.datasets.labelled_images import LabelledImages

LIMIT = 64 * 2**20
CLOTHES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "trainer", "bag", "ankle boot")


def mnist() -> LabelledImages:
    """Return 60,000 and 10,000 handwritten digits, (N, 1, 28, 28) (LeCun and others 1998)."""
    return _labelled_images("mnist", tuple("0123456789"))


def fashion_mnist() -> LabelledImages:
    """Return 60,000 and 10,000 pieces of clothing, (N, 1, 28, 28) (Xiao and others 2017)."""
    return _labelled_images("fashion-mnist", CLOTHES)


def _labelled_images(name: str, classes: tuple[str, ...]) -> LabelledImages:
    with reading(name) as files:
        parts = [
            read_idx(files[f"{part}-{kind}-ubyte.gz"])
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ]
        train, train_labels, test, test_labels = parts
        try:
            return LabelledImages(
                train.unsqueeze(1), train_labels.long(), test.unsqueeze(1), test_labels.long(), classes
            )
        except (ValueError, IndexError) as error:
            raise WrongFile(str(error)) from error


def read_idx(path: Path) -> Tensor:
    """Return the array of unsigned bytes in a gzipped idx file.

    The format: two zeros, the type (8: unsigned byte), the number of dimensions; each size as a big-endian
    32-bit number; the data, row by row. Raises `WrongFile` for anything else.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read(LIMIT)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise WrongFile(f"{path.name} cannot be unpacked ({error})") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise WrongFile(f"{path.name} begins with {content[:4].hex(' ')}: it is no idx file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise WrongFile(f"{path.name} has {len(content):,} bytes, not the {start:,} + {math.prod(shape):,} it promises")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)
