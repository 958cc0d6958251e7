"""Telephone numbers keyed on a noisy line: audio to transcribe, made in a second without a download."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from specdyn.tasks.task import generator

KEYS = "123456789*0#"
"""The keypad, row by row."""
ROWS = (697.0, 770.0, 852.0, 941.0)
COLUMNS = (1209.0, 1336.0, 1477.0)
DIAL_TONE = (350.0, 440.0)
RATE = 8_000
SECONDS = 1.0
FEWEST, MOST = 3, 6
_CHUNK = 256  # clips made at a time, which bounds the memory


@dataclass(frozen=True)
class KeypadTones:
    """Clips (N, 8000) of one second, the keys pressed in each, and from when to when each of them sounds."""

    waveforms: Tensor
    keys: tuple[str, ...]
    times: Tensor
    """Seconds (N, 6, 2); after the last key of a clip both are the same."""
    rate: int = RATE


def keypad_tones(part: str, count: int) -> KeypadTones:
    """Return so many clips of 3 to 6 keys; other parts, such as "train" and "test", are drawn apart.

    A key sounds two tones at once, that of its row and that of its column (ITU-T Recommendation Q.23). They
    last 60 to 120 ms and the gaps 50 to 100 ms, times a tempo of 0.6 to 1.6 that is lowered where a number
    would not fit. Either tone is up to 1.8 % off and one up to 4 dB above the other; under them lies noise
    of any colour from white to brown, at -5 to 12 dB, and in half of the clips a dial tone.

    >>> clips = keypad_tones("train", 4)
    >>> clips.waveforms.shape, clips.keys
    (torch.Size([4, 8000]), ('#713#2', '139', '365', '5776'))
    """
    draws = generator("keypad tones", part)
    numbers = torch.randint(FEWEST, MOST + 1, (count, 1), generator=draws)
    keys = torch.randint(len(KEYS), (count, MOST), generator=draws)
    times = _times(torch.arange(MOST) < numbers, draws)
    rows, columns = torch.tensor(ROWS)[keys // len(COLUMNS)], torch.tensor(COLUMNS)[keys % len(COLUMNS)]
    tones = torch.stack([rows, columns]) * _uniform(0.982, 1.018, (2, count, MOST), draws)
    parts = torch.split(times, _CHUNK), torch.split(tones, _CHUNK, dim=1)
    chunks = [_line(t, f, draws) for t, f in zip(*parts, strict=True)]
    pressed = zip(keys.tolist(), numbers.flatten().tolist(), strict=True)
    return KeypadTones(torch.cat(chunks), tuple("".join(KEYS[k] for k in row[:n]) for row, n in pressed), times)


def _times(pressed: Tensor, draws: torch.Generator) -> Tensor:
    """Return when (N, 6, 2) each key that is pressed (N, 6) begins and ceases to sound."""
    tones = _uniform(0.06, 0.12, pressed.shape, draws) * pressed
    gaps = _uniform(0.05, 0.10, pressed.shape, draws) * pressed
    length = (tones + gaps).sum(1, keepdim=True)
    tempo = torch.minimum(_uniform(0.6, 1.6, length.shape, draws), SECONDS / length)
    start = _uniform(0.0, 1.0, length.shape, draws) * (SECONDS - tempo * length).clamp_min(0)  # rounding can exceed
    begins = start + tempo * F.pad((tones + gaps).cumsum(1)[:, :-1], (1, 0))
    return torch.stack([begins, begins + tempo * tones], dim=-1)


def _line(times: Tensor, tones: Tensor, draws: torch.Generator) -> Tensor:
    """Return what is heard (N, samples) where pairs of tones (2, N, 6), in Hz, sound at times (N, 6, 2)."""
    each = (len(times), 1)
    second = torch.arange(round(SECONDS * RATE)) / RATE
    twist = _gain(_uniform(-2.0, 2.0, each, draws))
    dialling = _gain(_uniform(-12.0, -3.0, each, draws)) * (torch.rand(each, generator=draws) < 0.5)
    noise = _noise(_uniform(0.0, 2.0, each, draws), len(second), draws)
    loudness = _gain(_uniform(-12.0, 5.0, each, draws))

    begins, ends = times.mT.unbind(1)  # the key that was pressed last, silent or not, decides each sample
    key = torch.searchsorted(begins.contiguous(), second.repeat(each), right=True).sub(1).clamp_min(0)
    sounding = (begins.gather(1, key) <= second) & (second < ends.gather(1, key))
    row, column = (_sine(of.gather(1, key) * second) for of in tones)
    dial = sum(_sine(frequency * second) for frequency in DIAL_TONE)
    return sounding * (row * twist + column / twist) + dialling * dial + loudness * noise


def _noise(colour: Tensor, samples: int, draws: torch.Generator) -> Tensor:
    """Return noise of power 1 whose density falls as 1 / f^colour: 0 is white, 1 pink, 2 brown."""
    white = torch.randn(len(colour), samples, generator=draws)
    frequency = torch.fft.rfftfreq(samples, 1 / RATE).clamp_min(50.0)
    noise: Tensor = torch.fft.irfft(torch.fft.rfft(white) * frequency ** (-colour / 2), samples)
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def _sine(cycles: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * cycles)


def _gain(decibels: Tensor) -> Tensor:
    gain: Tensor = 10 ** (decibels / 20)
    return gain


def _uniform(low: float, high: float, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=draws)
