"""Functions of a spectrum against closed forms and against a second implementation in plain NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from specdyn.spectra import (
    count_rank,
    effective_rank,
    frobenius_norm,
    gini,
    nuclear_norm,
    singular_values,
    spectral_entropy,
    spectral_norm,
    stable_rank,
)

Spectrum = NDArray[np.float64]
spectra = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1e3, allow_subnormal=False))
sizes = st.integers(1, 7)
METRICS = (
    count_rank,
    effective_rank,
    frobenius_norm,
    gini,
    nuclear_norm,
    spectral_entropy,
    spectral_norm,
    stable_rank,
)


def matrix_of(m: int, n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(m, n)))


# A second implementation, one number at a time, sharing nothing with the library.
def plain_entropy(s: Spectrum) -> float:
    return -sum(x * np.log(x) for x in s / s.sum() if x > 0) if s.any() else 0.0


def plain_effective_rank(s: Spectrum) -> float:
    return float(np.exp(plain_entropy(s))) / len(s) if s.any() else 0.0


def plain_count(s: Spectrum) -> float:
    if not s.any():
        return 0.0
    p = np.sort(s / s.max())[::-1]
    return next(k for k in range(1, len(p) + 1) if p[:k].sum() > 0.9 * p.sum()) / len(p)


def plain_gini(s: Spectrum) -> float:
    pairs = sum(abs(a - b) for a in s for b in s)
    return float(pairs / (2 * len(s) ** 2 * s.mean())) if s.any() else 0.0


def plain_stable(s: Spectrum) -> float:
    return float(((s / s.max()) ** 2).sum()) if s.any() else 0.0


@given(spectra)
@settings(deadline=None, derandomize=True)
def test_metrics_agree_with_plain_numpy(s: Spectrum) -> None:
    assert spectral_entropy(s) == pytest.approx(plain_entropy(s), abs=1e-9)
    assert effective_rank(s) == pytest.approx(plain_effective_rank(s), abs=1e-9)
    assert stable_rank(s) == pytest.approx(plain_stable(s), rel=1e-9)
    assert gini(s) == pytest.approx(plain_gini(s), abs=1e-9)
    diagonal = np.diag(s)
    assert frobenius_norm(s) == pytest.approx(np.linalg.norm(diagonal), rel=1e-9)
    assert spectral_norm(s) == pytest.approx(np.linalg.norm(diagonal, 2), rel=1e-9)
    assert nuclear_norm(s) == pytest.approx(np.linalg.norm(diagonal, "nuc"), rel=1e-9)
    p = np.sort(s / max(s.sum(), 1e-300))[::-1].cumsum()
    if np.abs(p - 0.9).min() > 1e-9:  # at exactly 0.9 rounding decides
        assert count_rank(s) == plain_count(s)


@pytest.mark.parametrize("R", [1, 2, 10, 64])
def test_flat_and_rank_one_spectra_have_closed_forms(R: int) -> None:
    flat, single = np.ones(R), np.eye(R)[0]
    assert effective_rank(flat) == pytest.approx(1)
    assert effective_rank(single) == pytest.approx(1 / R)
    assert spectral_entropy(flat) == pytest.approx(np.log(R))
    assert spectral_entropy(flat, normalized=True) == pytest.approx(float(R > 1))
    assert stable_rank(flat) == pytest.approx(R)
    assert stable_rank(single) == 1
    assert gini(flat) == pytest.approx(0, abs=1e-15)
    assert gini(single) == pytest.approx(1 - 1 / R)
    assert count_rank(single) == pytest.approx(1 / R)


def test_a_geometric_spectrum_has_the_entropy_of_its_series() -> None:
    q = 0.5  # p_i = (1 - q) q^i over infinitely many i: H = -log(1 - q) - q log(q) / (1 - q)
    s = q ** np.arange(200)
    assert spectral_entropy(s) == pytest.approx(-np.log(1 - q) - q * np.log(q) / (1 - q))


def test_count_rank_needs_more_than_the_mass() -> None:
    s = np.array([9.0, 1.0, 0.0, 0.0])
    assert count_rank(s, mass=0.9) == 0.5  # the first holds exactly 90 %, which is not more
    assert count_rank(s, mass=0.89) == 0.25
    with pytest.raises(ValueError, match="mass=90"):
        count_rank(s, mass=90)


def test_a_zero_matrix_has_rank_zero() -> None:
    zero = np.zeros(5)
    for metric in METRICS:
        assert metric(zero) == 0


def test_reversed_read_only_and_whole_numbers_are_spectra_too() -> None:
    s = np.array([3.0, 2.0, 1.0])
    frozen = s.copy()
    frozen.flags.writeable = False
    for same in (s[::-1], frozen, s.astype(int), np.stack([s, s])[:, ::-1][1]):
        assert effective_rank(same) == pytest.approx(plain_effective_rank(s))


def test_kind_shape_and_input_are_kept() -> None:
    stack = np.abs(np.random.default_rng(0).normal(size=(2, 3, 4))).astype(np.float32)
    before = stack.copy()
    for metric in METRICS:
        array, tensor = metric(stack), metric(torch.from_numpy(stack))
        assert isinstance(array, np.ndarray)
        assert isinstance(tensor, Tensor)
        assert array.shape == tuple(tensor.shape) == (2, 3)
        assert array.dtype == np.float64
        assert np.array_equal(array, tensor.numpy())
        assert array[1, 2] == metric(stack[1, 2])
    assert np.array_equal(stack, before)


@pytest.mark.parametrize(
    ("s", "says"),
    [
        (np.array([1.0, np.nan]), "1 of 2 singular values"),
        (np.array([1.0, -0.5, -0.1]), "2 of 3 singular values"),
        (np.array([np.inf]), "1 of 1 singular values"),
        (np.zeros((3, 0)), "holds no singular values"),
        (np.float64(3.0), "holds no singular values"),
    ],
)
def test_what_is_no_spectrum_is_refused(s: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        effective_rank(s)


@given(m=sizes, n=sizes, seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, derandomize=True)
def test_ranks_stay_in_their_range(m: int, n: int, seed: int) -> None:
    s = singular_values(matrix_of(m, n, seed))
    R = min(m, n)
    assert 1 / R - 1e-12 <= effective_rank(s) <= 1
    assert 1 - 1e-12 <= stable_rank(s) <= R + 1e-12
    assert plain_effective_rank(s.numpy()) == pytest.approx(float(effective_rank(s)), abs=1e-9)
