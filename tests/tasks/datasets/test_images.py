"""MNIST, Fashion-MNIST and CIFAR-10 are read as published, and refused when they are not."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from specdyn.tasks import datasets
from specdyn.tasks.datasets import LabelledImages, WrongFile
from specdyn.tasks.datasets.cifar import read_cifar10, unpickle
from specdyn.tasks.datasets.idx import read_idx
from tests.tasks.datasets.published import cifar_batches, folder, idx, md5, python2_pickle, tar

needs_data = pytest.mark.skipif(
    "SPECDYN_DATA" not in os.environ, reason="needs the published files: set SPECDYN_DATA to a folder of them"
)
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_idx_holds_any_array_of_bytes(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "array.gz"
    path.write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(read_idx(path).numpy(), array)


GOOD = idx(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "begins with"),
        (b"\0\0\x0d\x01\0\0\0\0", "no idx file of unsigned bytes"),
        (gzip.compress(GOOD), "no idx file"),  # gzipped twice
        (GOOD[:-1], r"has 17 bytes, not the 12 \+ 6"),
        (GOOD + b"x", "has 19 bytes, not the"),
        (GOOD[:9], "has 9 bytes, not the"),
    ],
)
def test_a_broken_idx_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(WrongFile, match=fault):
        read_idx(path)


@pytest.mark.parametrize("cut", [slice(0, -9), slice(0, 5), slice(3, None)])
def test_a_broken_gzip_is_refused(tmp_path: Path, cut: slice) -> None:
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(GOOD)[cut])
    with pytest.raises(WrongFile, match=r"array\.gz cannot be unpacked"):
        read_idx(path)


MNIST = "".join(
    f'[[mnist.forms.files]]\nname = "mnist/{part}-{kind}-ubyte.gz"\n'
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
WORDS = 'title = "M"\nversion = "1"\nlicence = "none"\ncopyright = "nobody"\nhome = "https://example.org"\nnote = "N"\n'


@pytest.fixture
def small_mnist(registered, mirror: Path) -> Path:
    """Three training and two test images of 2 x 2 pixels, without checksums."""
    registered(f"[mnist]\n{WORDS}[[mnist.forms]]\n{MNIST}")
    for part, count in (("train", 3), ("t10k", 2)):
        pixels = np.arange(4 * count, dtype=np.uint8).reshape(count, 2, 2)
        files = {"images-idx3": pixels, "labels-idx1": np.arange(count, dtype=np.uint8)}
        named = {f"{part}-{kind}-ubyte.gz": gzip.compress(idx(array)) for kind, array in files.items()}
        folder(mirror / "mnist", named)
    return mirror / "mnist"


def test_mnist_is_read_from_its_four_files(small_mnist: Path) -> None:
    found = datasets.mnist()
    assert found.train.tolist() == [[[[0, 1], [2, 3]]], [[[4, 5], [6, 7]]], [[[8, 9], [10, 11]]]]
    assert found.train_labels.tolist() == [0, 1, 2]
    assert found.test.shape == (2, 1, 2, 2)
    assert found.classes == tuple("0123456789")


def test_a_label_out_of_range_is_refused(small_mnist: Path) -> None:
    path = small_mnist / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.array([3, 10, 1], np.uint8))))
    with pytest.raises(WrongFile, match="training label 10 of image 1 is outside 0 to 9"):
        datasets.mnist()


def test_images_without_a_label_each_are_refused(small_mnist: Path) -> None:
    path = small_mnist / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(3, np.uint8))))
    with pytest.raises(WrongFile, match="2 test images have 3 labels"):
        datasets.mnist()


def test_labels_in_the_place_of_images_are_refused(small_mnist: Path) -> None:
    path = small_mnist / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(2, np.uint8))))
    with pytest.raises(WrongFile, match="test images have to be"):
        datasets.mnist()


def test_images_of_two_sizes_are_refused() -> None:
    pixels, labels = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="training images are 1 x 2 x 2 and test images 1 x 3 x 2"):
        LabelledImages(pixels, labels, torch.zeros(1, 1, 3, 2, dtype=torch.uint8), labels, ("a",))


FILES = cifar_batches()
PREFIX = "cifar-10-batches-py/"
PACKED = {PREFIX + name: content for name, content in {**FILES, "readme.html": b"<p>"}.items()}


@pytest.fixture(params=["tar.gz", "tar.xz", "tar", "folder"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        return folder(tmp_path / "cifar-10-batches-py", {**FILES, "readme.html": b"<p>"})
    return tar(tmp_path / f"cifar.{request.param}", PACKED, mode=f"w:{request.param[4:]}")


def test_cifar_is_read_from_any_container(container: Path) -> None:
    found = read_cifar10(container, md5(FILES))
    assert found.train.shape == (20, 3, 32, 32)
    assert found.test.shape == (4, 3, 32, 32)
    assert found.classes[:2] == ("airplane", "automobile")
    draw = np.random.default_rng(0)  # the draws that the files were made from
    labels, pixels = draw.integers(0, 10, 4), draw.integers(0, 256, (4, 3072), dtype=np.uint8)
    assert found.train_labels[:4].tolist() == labels.tolist()
    assert found.train[1, 2, 5, 7] == pixels[1, 2 * 1024 + 5 * 32 + 7]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_in_cifar_is_refused(tmp_path: Path, name: str) -> None:
    content = bytearray(FILES[name])
    content[len(content) // 2] ^= 1
    path = tar(tmp_path / "cifar.tar", PACKED | {PREFIX + name: bytes(content)})
    with pytest.raises(WrongFile, match=f"{name} in it is not the publisher's"):
        read_cifar10(path, md5(FILES))


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "cifar.tar", {name: content for name, content in PACKED.items() if "batch_3" not in name})
    with pytest.raises(WrongFile, match="data_batch_3 is not in it"):
        read_cifar10(path, md5(FILES))


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_truncated_archive_is_refused(tmp_path: Path, mode: str) -> None:
    path = tar(tmp_path / "cifar.tar", PACKED, mode=mode)
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(WrongFile, match="cannot be unpacked"):
        read_cifar10(path, md5(FILES))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(b"<html>Not found</html>")
    with pytest.raises(WrongFile, match="cannot be unpacked"):
        read_cifar10(path, {})


def test_a_link_in_the_place_of_a_batch_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(FILES["test_batch"])
    files = {name: content for name, content in PACKED.items() if "test_batch" not in name}
    path = tar(tmp_path / "cifar.tar", files, links={PREFIX + "test_batch": str(secret)})
    with pytest.raises(WrongFile, match="test_batch is not in it"):
        read_cifar10(path, md5(FILES))


def test_a_batch_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "cifar.tar.gz", PACKED | {PREFIX + "test_batch": bytes(33 * 2**20)}, mode="w:gz")
    with pytest.raises(WrongFile, match="test_batch in it would take 34,603,008 bytes"):
        read_cifar10(path, md5(FILES))


def test_a_label_outside_the_ten_classes_is_refused(tmp_path: Path) -> None:
    batch = {b"labels": [10], b"data": np.zeros((1, 3072), np.uint8)}
    files = FILES | {"test_batch": python2_pickle(batch)}
    with pytest.raises(WrongFile, match="test label 10 of image 0 is outside 0 to 9"):
        read_cifar10(folder(tmp_path / "cifar", files), md5(files))


@pytest.mark.parametrize("batch", [{}, {b"labels": [1], b"data": np.zeros((1, 3071), np.uint8)}, {b"labels": [b"x"]}])
def test_a_batch_of_another_make_is_refused(tmp_path: Path, batch: dict[bytes, object]) -> None:
    files = FILES | {"data_batch_1": python2_pickle(batch)}
    with pytest.raises(WrongFile, match="its batches are not those of CIFAR-10"):
        read_cifar10(folder(tmp_path / "cifar", files), md5(files))


class Attack:
    """Unpickled by Python's own unpickler, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    evil = pickle.dumps({1: Attack(made)}, protocol)
    with pytest.raises(WrongFile, match=r"asks to run (posix|nt)\.mkdir"):
        unpickle(evil)
    assert not made.exists()
    pickle.loads(evil)
    assert made.exists()  # the attack is a real one


@pytest.mark.parametrize(
    "evil",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"(S'ls'\nios\nsystem\n.",
        b"Pid\n.",
        b"\x80\x02]q\x00.",
        b"",
        b"\x80\x02}",
    ],
)
def test_other_pickles_are_refused(evil: bytes) -> None:
    with pytest.raises(WrongFile):
        unpickle(evil)


@needs_data
def test_the_published_digits_and_clothes() -> None:
    digits, clothes = datasets.mnist(), datasets.fashion_mnist()
    for found in (digits, clothes):
        assert found.train.shape == (60_000, 1, 28, 28)
        assert found.test.shape == (10_000, 1, 28, 28)
    assert clothes.train_labels.bincount().tolist() == [6_000] * 10
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert float(digits.train.float().mean() / 255) == pytest.approx(0.1307, abs=5e-5)
    assert float(clothes.train.float().mean() / 255) == pytest.approx(0.2860, abs=5e-5)


@needs_data
def test_the_published_photographs() -> None:
    found = datasets.cifar10()
    assert found.train_labels.bincount().tolist() == [5_000] * 10
    assert found.test_labels.bincount().tolist() == [1_000] * 10
    means = found.train.float().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
