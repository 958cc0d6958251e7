"""The metrics against closed forms and against a second implementation in plain NumPy."""

from itertools import pairwise
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
    SVD,
    agreement,
    agreement_chance,
    alignment,
    alignment_chance,
    count_rank,
    decompose,
    effective_rank,
    frobenius_norm,
    gini,
    singular_values,
    spectral_entropy,
    stable_rank,
    top_score,
)

Spectrum = NDArray[np.float64]
spectra = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1e3, allow_subnormal=False))
sizes = st.integers(1, 7)


def matrix_of(m: int, n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(m, n)))


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(matrix_of(n, n, seed)).Q


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
@settings(deadline=None)
def test_metrics_agree_with_plain_numpy(s: Spectrum) -> None:
    assert spectral_entropy(s) == pytest.approx(plain_entropy(s), abs=1e-9)
    assert effective_rank(s) == pytest.approx(plain_effective_rank(s), abs=1e-9)
    assert stable_rank(s) == pytest.approx(plain_stable(s), rel=1e-9)
    assert gini(s) == pytest.approx(plain_gini(s), abs=1e-9)
    assert frobenius_norm(s) == pytest.approx(float(np.linalg.norm(s)), rel=1e-9)
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
    for metric in (effective_rank, spectral_entropy, stable_rank, count_rank, gini):
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
    for metric in (effective_rank, stable_rank, gini, count_rank, frobenius_norm, spectral_entropy):
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


@given(m=sizes, n=sizes, seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_spectra_do_not_see_sign_transpose_rotation_or_scale(m: int, n: int, seed: int, scale: float) -> None:
    matrix = matrix_of(m, n, seed)
    s = singular_values(matrix)
    turned = rotation(m, seed + 1) @ matrix @ rotation(n, seed + 2)
    for same in (-matrix, matrix.mT, turned):
        assert torch.allclose(singular_values(same), s, rtol=1e-7, atol=1e-7 * float(s[0]))
    assert torch.allclose(singular_values(scale * matrix), scale * s, rtol=1e-7, atol=1e-9 * scale)
    for metric in (effective_rank, stable_rank, gini, count_rank):
        assert float(metric(s)) == pytest.approx(float(metric(scale * s)), rel=1e-9)


@given(m=sizes, n=sizes, seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_ranks_stay_in_their_range(m: int, n: int, seed: int) -> None:
    s = singular_values(matrix_of(m, n, seed))
    R = min(m, n)
    assert 1 / R - 1e-12 <= effective_rank(s) <= 1
    assert 1 - 1e-12 <= stable_rank(s) <= R + 1e-12
    assert plain_effective_rank(s.numpy()) == pytest.approx(float(effective_rank(s)), abs=1e-9)


@given(n=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_agreement_ignores_sign_and_scale_and_turns_with_both(n: int, seed: int) -> None:
    matrix, other = matrix_of(n, n + 1, seed), matrix_of(n, n + 1, seed + 1)
    a, b = decompose(matrix), decompose(other)
    assert torch.allclose(agreement(a, decompose(-3 * matrix)), torch.ones(n).double(), atol=1e-5)
    left, right = rotation(n, seed + 2), rotation(n + 1, seed + 3)
    turned = agreement(decompose(left @ matrix @ right), decompose(left @ other @ right))
    assert torch.allclose(turned, agreement(a, b), atol=1e-4)
    assert torch.allclose(agreement(a, b), agreement(b, a))


def test_agreement_and_alignment_of_hand_made_matrices() -> None:
    angle = 0.3
    c, s = np.cos(angle), np.sin(angle)
    turn = torch.tensor([[c, -s], [s, c]])
    D = torch.diag(torch.tensor([2.0, 1.0])).double()
    a = decompose(D)
    assert agreement(a, decompose(turn @ D)).tolist() == pytest.approx([c, c])
    assert agreement(a, decompose(turn @ D @ turn.T)).tolist() == pytest.approx([c**2, c**2])
    assert alignment(a, decompose(D @ turn.T)).tolist() == pytest.approx([c, c])
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    assert alignment(a, decompose(D @ swap)).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_alignment_pairs_as_many_as_both_have() -> None:
    narrow, wide = decompose(matrix_of(8, 3, 0)), decompose(matrix_of(5, 8, 1))
    assert alignment(narrow, wide).shape == (3,)
    with pytest.raises(ValueError, match=r"\(8, 3\) writes 8 numbers and one of shape \(8, 3\)"):
        alignment(narrow, narrow)
    with pytest.raises(ValueError, match=r"not \(8, 3\) with \(5, 8\)"):
        agreement(narrow, wide)


def test_a_direction_that_does_not_exist_is_nan_and_enters_no_mean() -> None:
    one, full = decompose(torch.ones(4, 4)), decompose(torch.eye(4))
    diagonal = agreement(one, one)
    assert diagonal[0] == pytest.approx(1)
    assert diagonal[1:].isnan().all()
    assert top_score(diagonal) == diagonal[0]
    assert alignment(full, one).isnan().tolist() == [False, True, True, True]
    assert top_score(agreement(decompose(torch.zeros(4, 4)), full)).isnan()


def test_top_score_is_the_mean_of_the_first_ten() -> None:
    diagonal = torch.arange(20.0)
    assert top_score(diagonal) == 4.5
    assert top_score(torch.stack([diagonal, diagonal + 1]), k=2).tolist() == [0.5, 1.5]
    assert top_score(torch.tensor([1.0, 2.0])) == 1.5
    with pytest.raises(ValueError, match="k=0"):
        top_score(diagonal, k=0)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 128])
def test_alignment_chance_is_the_mean_over_random_vectors(d: int) -> None:
    draws = np.random.default_rng(d).normal(size=(200_000, d))
    cosines = np.abs(draws[:, 0]) / np.linalg.norm(draws, axis=1)
    error = cosines.std() / np.sqrt(len(cosines))
    assert alignment_chance(d) == pytest.approx(cosines.mean(), abs=5 * error + 1e-12)


def test_chance_levels_have_their_closed_forms() -> None:
    assert alignment_chance(1) == 1
    assert alignment_chance(2) == pytest.approx(2 / np.pi)
    assert alignment_chance(3) == pytest.approx(1 / 2)
    assert alignment_chance(10_000) == pytest.approx(np.sqrt(2 / (np.pi * 10_000)), rel=1e-4)
    assert agreement_chance(512, 4608) == pytest.approx(2 / np.pi / np.sqrt(512 * 4608), rel=1e-3)
    assert all(a > b for a, b in pairwise(map(alignment_chance, range(1, 50))))
    with pytest.raises(ValueError, match="d=0"):
        alignment_chance(0)


def test_unrelated_gaussian_matrices_score_at_chance() -> None:
    a, b = (
        decompose(batch_of_gaussians(400, 12, 20, 0)),
        decompose(batch_of_gaussians(400, 12, 20, 1)),
    )
    measured = agreement(a, b)
    error = float(measured.mean(-1).std()) / np.sqrt(400)
    assert float(measured.mean()) == pytest.approx(agreement_chance(12, 20), abs=5 * error)
    following = decompose(batch_of_gaussians(400, 9, 12, 2))
    measured = alignment(a, following)
    error = float(measured.mean(-1).std()) / np.sqrt(400)
    assert float(measured.mean()) == pytest.approx(alignment_chance(12), abs=5 * error)


def batch_of_gaussians(count: int, m: int, n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, m, n)))


def test_agreement_matches_the_inner_product_of_components() -> None:
    a, b = decompose(matrix_of(4, 6, 0)), decompose(matrix_of(4, 6, 1))

    def component(svd: SVD, j: int) -> Tensor:
        return torch.outer(svd.U[:, j], svd.Vh[j])

    inner = [float((component(a, j) * component(b, j)).sum().abs()) for j in range(4)]
    assert agreement(a, b).tolist() == pytest.approx(inner)
