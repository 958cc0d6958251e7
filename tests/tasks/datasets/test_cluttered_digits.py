"""Cluttered digits against the digits they are made of."""

import time
from itertools import combinations

import pytest
import torch
from sklearn.datasets import load_digits

from specdyn.tasks.datasets.cluttered_digits import SHARES, _sources, cluttered_digits


def test_parts_share_no_digit_and_leave_none_out() -> None:
    digits = {part: {tuple(image.flatten().tolist()) for image in _sources(part)[0]} for part in SHARES}
    assert [len(_sources(part)[0]) for part in SHARES] == [1_197, 300, 300]
    assert sum(len(found) for found in digits.values()) == 1_797  # scikit-learn has no digit twice
    assert not any(digits[one] & digits[other] for one, other in combinations(SHARES, 2))


def test_every_image_shows_a_digit_of_its_label_whole_up_to_brighter_pieces() -> None:
    images, labels = cluttered_digits("validation", 40)
    digits, classes = _sources("validation")
    for image, label in zip(images[:, 0], labels, strict=True):
        windows = image.unfold(0, 8, 1).unfold(1, 8, 1).reshape(-1, 1, 8, 8)
        covered = (windows >= digits[classes == label]).all(-1).all(-1)
        assert covered.any()


def test_pieces_come_from_other_places_than_the_digit() -> None:
    images, _ = cluttered_digits("train", 500)
    ink = (images > 0).float().sum((1, 2, 3))
    plain = (torch.from_numpy(load_digits().images) > 0).float().sum((1, 2))
    assert float(ink.mean()) > 1.4 * float(plain.mean())
    assert images.amax() == 255
    assert (images[:, 0] > 0).any(0).all()  # no corner of the canvas stays empty


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_same_call_gives_the_same_images_and_the_global_random_state_has_no_say(part: str) -> None:
    torch.manual_seed(1)
    one = cluttered_digits(part, 30)  # type: ignore[arg-type]
    torch.manual_seed(2)
    two = cluttered_digits(part, 30)  # type: ignore[arg-type]
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_every_digit_occurs_about_as_often() -> None:
    _, labels = cluttered_digits("train", 4_096)
    shares = torch.bincount(labels, minlength=10) / 4_096
    assert labels.dtype == torch.int64
    assert shares.min() > 0.07
    assert shares.max() < 0.13


def test_they_are_made_in_less_than_a_second() -> None:
    began = time.process_time()
    for part, count in (("train", 4_096), ("validation", 1_024), ("test", 1_000)):
        cluttered_digits(part, count)  # type: ignore[arg-type]
    assert time.process_time() - began < 1


def test_an_unknown_part_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown part 'dev': choose one of train, validation, test"):
        cluttered_digits("dev", 1)  # type: ignore[arg-type]
