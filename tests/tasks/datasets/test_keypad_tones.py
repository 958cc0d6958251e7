"""Keypad tones are heard by Goertzel's method, which knows when to listen and nothing of how they were made."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from specdyn.tasks.datasets.keypad_tones import KeypadTones, keypad_tones

RATE = 8_000
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)
LAYOUT = ("123", "456", "789", "*0#")


@pytest.fixture(scope="module")
def clips() -> KeypadTones:
    return keypad_tones("test", 150)


def energy(sound: Tensor, frequency: float) -> float:
    """The largest share of a unit tone within 1.8 % of a frequency that a sound holds."""
    tried = frequency * torch.linspace(0.982, 1.018, 7, dtype=torch.float64).unsqueeze(1)
    angle = 2 * math.pi * tried * torch.arange(len(sound), dtype=torch.float64) / RATE
    return float(torch.hypot(angle.cos() @ sound.double(), angle.sin() @ sound.double()).max()) * 2 / len(sound)


def heard(sound: Tensor) -> str:
    row, column = (max(range(len(tones)), key=lambda k: energy(sound, tones[k])) for tones in (ROWS, COLUMNS))
    return LAYOUT[row][column]


def test_each_key_sounds_its_two_tones_at_its_time(clips: KeypadTones) -> None:
    total = right = 0
    for waveform, keys, times in zip(clips.waveforms[:30], clips.keys, clips.times.tolist(), strict=False):
        for key, (begin, end) in zip(keys, times, strict=False):
            total += 1
            right += heard(waveform[math.ceil(begin * RATE) : math.floor(end * RATE)]) == key
    assert total > 100
    assert right / total > 0.95  # a tone of 40 ms at -5 dB is not always understood


def test_no_key_sounds_between_and_after_the_tones(clips: KeypadTones) -> None:
    tones, gaps = [], []
    for waveform, keys, times in zip(clips.waveforms[:30], clips.keys, clips.times.tolist(), strict=False):
        for k, key in enumerate(keys[:-1]):
            place = next(c for row in LAYOUT for c, other in enumerate(row) if other == key)
            (begin, end), (following, _) = times[k], times[k + 1]
            tones.append(energy(waveform[round(begin * RATE) : round(end * RATE)], COLUMNS[place]))
            gaps.append(energy(waveform[math.ceil(end * RATE) : math.floor(following * RATE)], COLUMNS[place]))
    assert sum(tones) / len(tones) == pytest.approx(1.0, abs=0.1)
    assert sum(gaps) / len(gaps) < 0.25  # noise alone


def test_times_and_numbers_are_as_promised(clips: KeypadTones) -> None:
    assert clips.waveforms.shape == (150, 8_000)
    assert clips.waveforms.isfinite().all()
    assert {len(keys) for keys in clips.keys} == {3, 4, 5, 6}
    assert set("".join(clips.keys)) == set("".join(LAYOUT))
    begins, ends = clips.times.unbind(-1)
    length, gaps = ends - begins, begins[:, 1:] - ends[:, :-1]
    for row, keys in enumerate(clips.keys):
        assert (length[row, len(keys) :] == 0).all()
        spoken = torch.cat([length[row, : len(keys)], gaps[row, : len(keys) - 1]])
        assert 0.02 < float(spoken.min()) < float(spoken.max()) < 0.2
    assert float(begins.min()) >= 0
    assert float(ends.max()) <= 1


def test_half_of_the_clips_have_a_dial_tone(clips: KeypadTones) -> None:
    cycles = torch.arange(8_000, dtype=torch.float64) / RATE
    found = [torch.exp(-2j * math.pi * f * cycles) @ clips.waveforms.T.to(torch.complex128) for f in (350, 440)]
    both = torch.minimum(found[0].abs(), found[1].abs()) * 2 / 8_000
    assert 0.4 < float((both > 10 ** (-13 / 20)).double().mean()) < 0.6


def test_the_same_clips_every_time_and_others_for_another_part(clips: KeypadTones) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again, other = keypad_tones("test", 150), keypad_tones("train", 150)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(clips.waveforms, again.waveforms)
    assert clips.keys == again.keys
    assert clips.keys != other.keys
