"""CIFAR-10 in its Python version, whose batches are pickles: read only if they are the publisher's, and then fenced."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specdyn.tasks.datasets.archives import members
from specdyn.tasks.datasets.fetch import WrongFile, reading
from specdyn.tasks.datasets.labelled_images import LabelledImages
from specdyn.tasks.datasets.registry import describe

LIMIT = 32 * 2**20
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))


def cifar10() -> LabelledImages:
    """Return 50,000 and 10,000 photographs, (N, 3, 32, 32), in ten classes (Krizhevsky 2009)."""
    with reading("cifar10") as files:
        (path,) = files.values()
        return read_cifar10(path, describe("cifar10").contents)


def read_cifar10(path: Path, md5: Mapping[str, str]) -> LabelledImages:
    """Read the official archive, any other tar of the same files, or the unpacked folder.

    ``md5``: of each file inside, as ``md5:...``; they are checked before anything is unpickled. Raises
    `WrongFile` where one is missing or another.
    """
    found = {name.rpartition("/")[2]: content for name, content in members(path, _any_of(md5), LIMIT)}
    for name, known in md5.items():
        if name not in found:
            raise WrongFile(f"{name} is not in it")
        if "md5:" + hashlib.md5(found[name], usedforsecurity=False).hexdigest() != known:
            raise WrongFile(f"{name} in it is not the publisher's: its MD5 is another")
    try:
        images, labels = zip(*(_batch(unpickle(found[name])) for name in TRAIN), strict=True)
        test, test_labels = _batch(unpickle(found["test_batch"]))
        classes = tuple(label.decode() for label in unpickle(found["batches.meta"])[b"label_names"])
        return LabelledImages(torch.cat(images), torch.cat(labels), test, test_labels, classes)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise WrongFile(f"its batches are not those of CIFAR-10 ({error})") from error


def _any_of(names: Mapping[str, str]) -> str:
    return r"(.*/)?(" + "|".join(name.replace(".", r"\.") for name in names) + ")"


def _batch(entries: Mapping[bytes, Any]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) and labels (N,): a row is the red, the green, then the blue plane."""
    pixels = np.array(entries[b"data"], dtype=np.uint8)
    return torch.from_numpy(pixels).reshape(-1, 3, 32, 32), torch.tensor(entries[b"labels"], dtype=torch.int64)


class _Fenced(pickle.Unpickler):
    """Builds arrays of numbers beside Python's own containers, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise WrongFile(f"it asks to run {module}.{name}, which the batches of CIFAR-10 never do")
        return allowed[module, name]


def unpickle(content: bytes) -> dict[bytes, Any]:
    """Return the dictionary of a pickle that holds numbers, strings, lists and arrays; refuse any other."""
    try:
        loaded = _Fenced(io.BytesIO(content), encoding="bytes").load()
    except WrongFile:
        raise
    except Exception as error:  # a broken pickle can fail in any way
        raise WrongFile(f"a batch in it cannot be read ({error})") from error
    if not isinstance(loaded, dict):
        raise WrongFile(f"a batch in it is a {type(loaded).__name__}, not a dictionary")
    return loaded
