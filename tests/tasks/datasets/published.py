"""Small files in the exact formats of the publishers, written without the code that reads them."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes as idx, not gzipped."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def python2_pickle(value: Any) -> bytes:
    """Return what Python 2 and NumPy of 2009 wrote: byte strings as keys, arrays by way of numpy.core.multiarray."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_pickled(key) + _pickled(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_pickled, value.shape)) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _pickled(value.tobytes()) + b"tb"


CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar_batches(seed: int = 0, images: int = 4) -> dict[str, bytes]:
    """Return the seven files of CIFAR-10's Python version, with a few random images."""
    draw = np.random.default_rng(seed)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    files = {
        name: python2_pickle(
            {
                b"batch_label": name.encode(),
                b"labels": draw.integers(0, 10, images).tolist(),
                b"data": draw.integers(0, 256, (images, 3072), dtype=np.uint8),
                b"filenames": [b"a.png"] * images,
            }
        )
        for name in names
    }
    classes = [name.encode() for name in CLASSES]
    files["batches.meta"] = python2_pickle({b"num_cases_per_batch": images, b"label_names": classes, b"num_vis": 3072})
    return files


def md5(files: dict[str, bytes]) -> dict[str, str]:
    return {name: "md5:" + hashlib.md5(content).hexdigest() for name, content in files.items()}


def tar(path: Path, files: dict[str, bytes], *, mode: str = "w", links: dict[str, str] | None = None) -> Path:
    """Write a tar of files, and of symbolic links where there are any."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def wav(samples: np.ndarray, rate: int = 8_000, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return stream.getvalue()


def flac(samples: np.ndarray, rate: int = 16_000) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()
