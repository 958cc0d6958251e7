"""What no measurement may see: signs, units, rotations, the order of units, the side a matrix is stored on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specdyn.spectra import (
    SVD,
    agreement,
    agreement_block,
    alignment,
    alignment_block,
    count_rank,
    decompose,
    effective_rank,
    frobenius_norm,
    gini,
    nuclear_norm,
    principal_angles,
    singular_values,
    spectral_entropy,
    spectral_norm,
    stable_rank,
    subspace_agreement,
    truncate,
)

RANKS = (count_rank, effective_rank, gini, spectral_entropy, stable_rank)
NORMS = (frobenius_norm, nuclear_norm, spectral_norm)

sides, counts = st.integers(1, 7), st.integers(1, 4)
seeds, scales = st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3)
quick = settings(deadline=None, derandomize=True, max_examples=30)


def gaussian(m: int, n: int, seed: int) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(n, n, seed)).Q.contiguous()


def permutation(n: int, seed: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]


def spread(m: int, n: int, seed: int) -> Tensor:
    """A matrix with random vectors and singular values far apart, so that each vector is its own."""
    r = min(m, n)
    U, V = rotation(m, seed)[:, :r], rotation(n, seed + 1)[:, :r]
    return U * torch.arange(r, 0, -1) @ V.mT


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-7, atol=1e-7)


@given(m=sides, n=sides, seed=seeds, scale=scales)
@quick
def test_spectra(m: int, n: int, seed: int, scale: float) -> None:
    matrix = gaussian(m, n, seed)
    s = singular_values(matrix)
    for turn in (rotation, permutation):
        assert close(singular_values(turn(m, seed + 1) @ matrix @ turn(n, seed + 2)), s)
    assert close(singular_values(-matrix), s)
    assert close(singular_values(matrix.mT), s)
    assert torch.allclose(singular_values(scale * matrix), scale * s, rtol=1e-6, atol=1e-7 * scale)


@given(m=sides, n=sides, seed=seeds, scale=scales)
@quick
def test_functions_of_a_spectrum(m: int, n: int, seed: int, scale: float) -> None:
    s = decompose(gaussian(m, n, seed)).S
    shuffled = s[torch.randperm(len(s), generator=torch.Generator().manual_seed(seed))]
    for rank in RANKS:
        assert float(rank(scale * s)) == pytest.approx(float(rank(s)), rel=1e-9, abs=1e-12)
    for norm in NORMS:
        assert float(norm(scale * s)) == pytest.approx(scale * float(norm(s)), rel=1e-9)
    for function in RANKS + NORMS:
        assert float(function(shuffled)) == pytest.approx(float(function(s)), rel=1e-9, abs=1e-12)


@given(m=sides, n=sides, seed=seeds, scale=scales)
@quick
def test_truncation(m: int, n: int, seed: int, scale: float) -> None:
    matrix = spread(m, n, seed)
    k = min(m, n) // 2
    kept = truncate(decompose(matrix), k)
    assert close(truncate(decompose(-matrix), k), -kept)
    assert close(truncate(decompose(matrix.mT), k), kept.mT)
    assert torch.allclose(truncate(decompose(scale * matrix), k), scale * kept, atol=1e-7 * scale)
    P, Q = rotation(m, seed + 2), rotation(n, seed + 3)
    assert close(truncate(decompose(P @ matrix @ Q), k), P @ kept @ Q)


def compared(a: SVD, b: SVD) -> Tensor:
    """Everything that is said of two matrices of one shape."""
    k = min(2, a.S.shape[-1])
    parts = [agreement(a, b), agreement_block(a, b), *principal_angles(a, b, k), subspace_agreement(a, b, k)]
    return torch.cat([part.flatten() for part in parts])


@given(m=sides, n=sides, seed=seeds, scale=scales)
@quick
def test_agreement(m: int, n: int, seed: int, scale: float) -> None:
    a, b = spread(m, n, seed), spread(m, n, seed + 2)
    first, second = decompose(a), decompose(b)
    scores = compared(first, second)
    assert close(compared(decompose(-a), decompose(scale * b)), scores)
    for turn in (rotation, permutation):
        P, Q = turn(m, seed + 4), turn(n, seed + 5)
        assert close(compared(decompose(P @ a @ Q), decompose(P @ b @ Q)), scores)
    assert close(agreement(second, first), agreement(first, second))
    assert close(agreement_block(second, first), agreement_block(first, second).mT)
    assert close(agreement(first.mT, second.mT), agreement(first, second))
    assert close(agreement(first, decompose(-scale * a)), torch.ones(min(m, n)).double())


@given(m=sides, d=sides, n=sides, blocks=counts, positions=counts, seed=seeds, scale=scales)
@quick
def test_alignment(m: int, d: int, n: int, blocks: int, positions: int, seed: int, scale: float) -> None:
    prev, next = spread(blocks * d, m, seed), spread(n, d * positions, seed + 2)
    every_block, every_position = torch.eye(blocks).double(), torch.eye(positions).double()
    for block, position in ((None, None), (blocks - 1, positions // 2)):
        rule = {"blocks": blocks, "block": block, "positions": positions, "position": position}

        def aligned(a: Tensor, b: Tensor, rule: dict[str, int | None] = rule) -> Tensor:
            first, second = decompose(a), decompose(b)
            return torch.cat([alignment(first, second, **rule), alignment_block(first, second, **rule).flatten()])

        scores = aligned(prev, next)
        assert close(aligned(-prev, scale * next), scores)
        for turn in (rotation, permutation):
            assert close(aligned(prev @ turn(m, seed + 4), turn(n, seed + 5) @ next), scores)
            hidden = turn(d, seed + 6)  # the same change of the features, wherever they are written or read
            written, read = torch.kron(every_block, hidden) @ prev, next @ torch.kron(hidden, every_position).mT
            assert close(aligned(written, read), scores)


@given(d=sides, blocks=counts, positions=counts, seed=seeds)
@quick
def test_alignment_over_all_blocks_and_positions_does_not_see_their_order(
    d: int, blocks: int, positions: int, seed: int
) -> None:
    prev, next = spread(blocks * d, 5, seed), spread(4, d * positions, seed + 2)
    shuffled = torch.kron(permutation(blocks, seed), torch.eye(d).double()) @ prev
    turned = next @ torch.kron(torch.eye(d).double(), rotation(positions, seed + 1))
    parts = {"blocks": blocks, "positions": positions}
    before = alignment(decompose(prev), decompose(next), **parts)
    assert close(alignment(decompose(shuffled), decompose(turned), **parts), before)


@given(m=sides, d=sides, n=sides, seed=seeds)
@quick
def test_alignment_reads_the_same_from_either_end(m: int, d: int, n: int, seed: int) -> None:
    first, second = decompose(spread(d, m, seed)), decompose(spread(n, d, seed + 2))
    assert close(alignment(second.mT, first.mT), alignment(first, second))
    assert close(alignment_block(second.mT, first.mT), alignment_block(first, second).mT)
