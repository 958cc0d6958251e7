"""What a speech network hears: energies of a waveform in bands, spaced as the ear spaces them, frame by frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def mel_filters(bins: int, window: int, rate: int) -> Tensor:
    """Return triangles (window // 2 + 1, bins) that sum a power spectrum into bands of equal width in mel.

    The mel scale is HTK's, 2595 log10(1 + f / 700); each triangle has area 1 over Hz (Slaney's norm), from
    0 to half the sampling rate. Raises ``ValueError`` where a band is too narrow to hold a frequency.

    >>> mel_filters(4, 64, 8000).shape
    torch.Size([33, 4])
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bins + 2, dtype=torch.float64) / 2595) - 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    frequency = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64).unsqueeze(1)
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    filters = torch.minimum(rising, falling).clamp_min(0) * 2 / (high - low)
    if empty := int((filters.amax(0) == 0).sum()):
        raise ValueError(f"{empty} of {bins} bands hold no frequency of a window of {window} samples: take fewer bands")
    return filters.float()


def power_mel(waveforms: Tensor, rate: int, *, window: int, hop: int, bins: int) -> Tensor:
    """Return the energies (..., frames, bins) of waveforms (..., samples) in mel bands, one frame every ``hop``.

    Frames are centred on multiples of ``hop``, seen through a Hann window and reflected at the ends, so
    that there are samples // hop + 1 of them. Raises ``ValueError`` for a waveform too short to reflect.

    >>> power_mel(torch.zeros(2, 8000), 8000, window=256, hop=160, bins=40).shape
    torch.Size([2, 51, 40])
    """
    if waveforms.shape[-1] <= window // 2:
        raise ValueError(
            f"a waveform of {waveforms.shape[-1]} samples does not fill half a window of {window}: "
            "leave it out, or lengthen it with silence"
        )
    spectrum = torch.stft(
        waveforms, window, hop, window=torch.hann_window(window, device=waveforms.device), return_complex=True
    )
    return spectrum.abs().square().mT @ mel_filters(bins, window, rate).to(waveforms.device)


def log_mel(waveforms: Tensor, rate: int, *, window: int, hop: int, bins: int) -> Tensor:
    """Return the logarithm of `power_mel`, cut off 80 dB below the loudest band of each waveform.

    >>> tone = torch.sin(torch.arange(8000) * 2 * math.pi * 1000 / 8000)
    >>> heard = log_mel(tone, 8000, window=256, hop=160, bins=40)
    >>> bool((log_mel(0.1 * tone, 8000, window=256, hop=160, bins=40) - heard).std() < 1e-4)
    True
    """
    power = power_mel(waveforms, rate, window=window, hop=hop, bins=bins)
    floor = (1e-8 * power.amax((-2, -1), keepdim=True)).clamp_min(torch.finfo(power.dtype).tiny)
    return power.maximum(floor).log()


def standardised(features: Tensor) -> Tensor:
    """Return features (..., frames, bins) with mean 0 and variance 1 over the frames of each bin.

    A bin that never changes becomes 0.

    >>> standardised(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """
    deviation, mean = torch.std_mean(features, dim=-2, correction=0, keepdim=True)
    return (features - mean) / deviation.where(deviation > 0, 1.0)


def averaged(features: Tensor, frames: int) -> Tensor:
    """Return the means (..., T // frames, bins) of every so many frames; what is left over at the end is dropped.

    >>> averaged(torch.tensor([[1.0], [3.0], [4.0], [6.0], [9.0]]), 2)
    tensor([[2.],
            [5.]])
    """
    return F.avg_pool1d(features.mT, frames).mT
