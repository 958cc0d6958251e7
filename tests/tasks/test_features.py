"""Features against the closed form of a pure tone, SciPy's transform and filters worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from specdyn.tasks.features import averaged, log_mel, mel_filters, power_mel, standardised


def tone(frequency: float, rate: int, samples: int, amplitude: float = 1.0) -> Tensor:
    return amplitude * torch.cos(2 * math.pi * frequency * torch.arange(samples, dtype=torch.float64) / rate).float()


def mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)


@pytest.mark.parametrize(("bins", "window", "rate"), [(40, 400, 16_000), (40, 256, 8_000), (5, 64, 1_000)])
def test_filters_are_triangles_of_area_one_between_frequencies_even_in_mel(bins: int, window: int, rate: int) -> None:
    filters = mel_filters(bins, window, rate)
    step = mel(rate / 2) / (bins + 1)
    for band in range(bins):
        low, centre, high = (700 * (10 ** ((band + k) * step / 2595) - 1) for k in range(3))
        height = 2 / (high - low)  # of a triangle of area 1
        for index in range(window // 2 + 1):
            frequency = index * rate / window
            if frequency <= centre:
                expected = max(0.0, height * (frequency - low) / (centre - low))
            else:
                expected = max(0.0, height * (high - frequency) / (high - centre))
            assert float(filters[index, band]) == pytest.approx(expected, abs=1e-7)


def test_neighbouring_filters_share_every_frequency_between_their_centres() -> None:
    filters = mel_filters(10, 2048, 8_000).double()
    edges = [700 * (10 ** (k * mel(4_000) / 11 / 2595) - 1) for k in range(12)]
    unscaled = filters * torch.tensor([(high - low) / 2 for low, high in zip(edges, edges[2:], strict=False)])
    frequency = torch.linspace(0, 4_000, 1025)
    inside = (frequency > edges[1]) & (frequency < edges[-2])
    assert torch.allclose(unscaled.sum(1)[inside], torch.ones(int(inside.sum()), dtype=torch.float64), atol=1e-6)


def test_a_band_without_a_frequency_is_refused() -> None:
    with pytest.raises(ValueError, match="of 128 bands hold no frequency of a window of 256 samples: take fewer"):
        mel_filters(128, 256, 8_000)


def test_a_pure_tone_has_the_power_of_its_closed_form() -> None:
    # On the k-th frequency of the transform a Hann window leaves N / 4 of a unit cosine there, N / 8 beside it.
    window, k = 400, 50
    found = power_mel(tone(k * 40, 16_000, 16_000), 16_000, window=window, hop=160, bins=40)
    filters = mel_filters(40, window, 16_000)
    expected = (window / 4) ** 2 * filters[k] + (window / 8) ** 2 * (filters[k - 1] + filters[k + 1])
    assert found.shape == (101, 40)
    assert torch.allclose(found[2:-2], expected.expand(97, 40), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("window", "hop", "rate"), [(400, 160, 16_000), (256, 160, 8_000)])
def test_same_energies_as_with_scipys_transform(window: int, hop: int, rate: int) -> None:
    waveform = torch.randn(3_217, generator=torch.Generator().manual_seed(0))
    frames = len(waveform) // hop + 1
    transform = signal.ShortTimeFFT(signal.get_window("hann", window), hop, rate)
    power = np.abs(transform.stft(waveform.double().numpy(), p0=0, p1=frames, padding="even").T) ** 2
    found = power_mel(waveform, rate, window=window, hop=hop, bins=40).double().numpy()
    expected = power @ mel_filters(40, window, rate).double().numpy()
    assert found.shape == expected.shape == (frames, 40)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_waveforms_are_read_apart() -> None:
    waveforms = torch.randn(3, 4_000, generator=torch.Generator().manual_seed(1))
    together = log_mel(waveforms, 8_000, window=256, hop=160, bins=20)
    for one, row in zip(waveforms, together, strict=True):
        assert torch.allclose(log_mel(one, 8_000, window=256, hop=160, bins=20), row, atol=1e-5)


def test_a_louder_waveform_differs_by_a_constant() -> None:
    waveform = torch.randn(4_000, generator=torch.Generator().manual_seed(1)) * tone(2, 8_000, 4_000)
    soft, loud = (log_mel(a * waveform, 8_000, window=256, hop=160, bins=20) for a in (0.01, 1.0))
    assert torch.allclose(loud - soft, torch.full_like(loud, math.log(1e4)), atol=1e-3)


def test_quiet_bands_are_cut_off_and_silence_stays_finite() -> None:
    half = torch.cat([tone(1_000, 8_000, 4_000), torch.zeros(4_000)])
    found = log_mel(half, 8_000, window=256, hop=160, bins=40)
    assert float(found.max() - found.min()) == pytest.approx(math.log(1e8), abs=1e-3)
    silence = standardised(log_mel(torch.zeros(2, 8_000), 8_000, window=256, hop=160, bins=40))
    assert torch.equal(silence, torch.zeros(2, 51, 40))


def test_a_waveform_shorter_than_half_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="200 samples does not fill half a window of 400: leave it out, or lengthen"):
        power_mel(torch.zeros(200), 16_000, window=400, hop=160, bins=40)


def test_standardising_is_by_utterance_and_bin_and_leaves_its_input_alone() -> None:
    features = torch.randn(3, 70, 5, generator=torch.Generator().manual_seed(2)) * 100 + torch.arange(5.0)
    before = features.clone()
    found = standardised(features)
    assert torch.equal(features, before)
    expected = (features.numpy() - features.numpy().mean(1, keepdims=True)) / features.numpy().std(1, keepdims=True)
    assert found.numpy() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("frames", [1, 2])
def test_few_frames_and_bins_that_never_change_stay_finite(frames: int) -> None:
    found = standardised(torch.full((frames, 4), 0.1))
    assert found.isfinite().all()
    assert found.abs().max() <= 1


def test_averaging_drops_the_incomplete_rest() -> None:
    features = torch.arange(22.0).view(11, 2)
    assert averaged(features, 3).tolist() == [[2.0, 3.0], [8.0, 9.0], [14.0, 15.0]]
    assert averaged(features.expand(4, 11, 2), 3).shape == (4, 3, 2)
