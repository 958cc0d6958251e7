"""Functions of singular vectors against plain NumPy, SciPy, cases worked out by hand, and their chance levels."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import subspace_angles
from torch import Tensor, nn

from specdyn.spectra import (
    SVD,
    agreement,
    agreement_block,
    agreement_chance,
    alignment,
    alignment_block,
    alignment_chance,
    decompose,
    principal_angles,
    sampled_chance,
    subspace_agreement,
    subspace_agreement_chance,
    top_score,
)

Array = NDArray[np.float64]


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# A second implementation, one number at a time, on NumPy's own decomposition.
def plain_svd(matrix: Tensor) -> tuple[Array, Array]:
    U, _, Vh = np.linalg.svd(matrix.numpy(), full_matrices=False)
    return U, Vh.T


def plain_agreement(a: Tensor, b: Tensor, i: int, j: int) -> float:
    (U, V), (P, Q) = plain_svd(a), plain_svd(b)
    return abs(float((np.outer(U[:, i], V[:, i]) * np.outer(P[:, j], Q[:, j])).sum()))


def plain_alignment(
    prev: Tensor, next: Tensor, i: int, j: int, blocks: int, block: int | None, positions: int, position: int | None
) -> float:
    u, v = plain_svd(prev)[0][:, i], plain_svd(next)[1][:, j]
    d = len(u) // blocks
    squares = 0.0
    for b in range(blocks) if block is None else [block]:
        for p in range(positions) if position is None else [position]:
            squares += sum(u[b * d + f] * v[f * positions + p] for f in range(d)) ** 2
    return float(np.sqrt(squares))


@pytest.mark.parametrize(("m", "n"), [(4, 6), (6, 4), (5, 5), (1, 4)])
def test_agreement_is_the_inner_product_of_components(m: int, n: int) -> None:
    a, b = gaussian(m, n, seed=0), gaussian(m, n, seed=1)
    r = min(m, n)
    every = np.array([[plain_agreement(a, b, i, j) for j in range(r)] for i in range(r)])
    first, second = decompose(a), decompose(b)
    np.testing.assert_allclose(agreement(first, second), every.diagonal(), atol=1e-9)
    np.testing.assert_allclose(agreement_block(first, second), every, atol=1e-9)
    np.testing.assert_allclose(agreement_block(first, second, k=2), every[:2, :2], atol=1e-9)


RULES = [
    (1, None, 1, None),
    (4, None, 1, None),
    (4, 2, 1, None),
    (1, None, 9, None),
    (1, None, 9, 4),
    (4, 2, 9, 4),
    (4, 2, 9, None),
    (3, None, 4, 1),
    (3, None, 4, None),
]
rules = pytest.mark.parametrize(("blocks", "block", "positions", "position"), RULES)


@rules
def test_alignment_agrees_with_plain_numpy(blocks: int, block: int, positions: int, position: int) -> None:
    rule = {"blocks": blocks, "block": block, "positions": positions, "position": position}
    prev, next = gaussian(3 * blocks, 5, seed=0), gaussian(4, 3 * positions, seed=1)
    r, s = min(prev.shape), min(next.shape)
    every = np.array([[plain_alignment(prev, next, i, j, **rule) for j in range(s)] for i in range(r)])
    first, second = decompose(prev), decompose(next)
    np.testing.assert_allclose(alignment(first, second, **rule), every.diagonal(), atol=1e-9)
    np.testing.assert_allclose(alignment_block(first, second, **rule), every, atol=1e-9)
    np.testing.assert_allclose(alignment_block(first, second, **rule, k=2), every[:2, :2], atol=1e-9)


def test_the_columns_of_a_flattened_kernel_are_features_then_positions() -> None:
    torch.manual_seed(0)
    before, after = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
    kernel = after.weight.detach()
    first, second = decompose(before.weight.flatten(1)), decompose(kernel.flatten(1))
    v = second.Vh[0].reshape(kernel.shape[1:])
    centre = alignment(first, second, positions=9, position=4)
    assert float(centre[0]) == pytest.approx(abs(float(first.U[:, 0] @ v[:, 1, 1])))


def test_query_and_key_meet_with_their_output_vectors() -> None:
    q, k = decompose(gaussian(3, 4, 9, seed=0)), decompose(gaussian(3, 4, 9, seed=1))
    expected = [[abs(float(q.U[h, :, j] @ k.U[h, :, j])) for j in range(4)] for h in range(3)]
    np.testing.assert_allclose(alignment(q, k.mT), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_principal_angles_are_those_of_scipy(k: int) -> None:
    a, b = gaussian(6, 8, seed=0), gaussian(6, 8, seed=1)
    (U, V), (P, Q) = plain_svd(a), plain_svd(b)
    left, right = principal_angles(decompose(a), decompose(b), k)
    np.testing.assert_allclose(left, np.sort(np.cos(subspace_angles(U[:, :k], P[:, :k])))[::-1], atol=1e-9)
    np.testing.assert_allclose(right, np.sort(np.cos(subspace_angles(V[:, :k], Q[:, :k])))[::-1], atol=1e-9)
    shared = float(subspace_agreement(decompose(a), decompose(b), k))
    assert shared == pytest.approx(float(left.square().mean() * right.square().mean()))
    projectors = [x[:, :k] @ x[:, :k].T for x in (U, P, V, Q)]
    overlap = np.trace(projectors[0] @ projectors[1]) * np.trace(projectors[2] @ projectors[3])
    assert shared == pytest.approx(overlap / k**2)


def test_cases_worked_out_by_hand() -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    turn = torch.tensor([[c, -s], [s, c]])
    D = torch.diag(torch.tensor([2.0, 1.0])).double()
    a = decompose(D)
    assert agreement(a, decompose(turn @ D)).tolist() == pytest.approx([c, c])
    assert agreement(a, decompose(turn @ D @ turn.T)).tolist() == pytest.approx([c**2, c**2])
    assert agreement_block(a, decompose(turn @ D)).flatten().tolist() == pytest.approx([c, 0, 0, c], abs=1e-12)
    assert alignment(a, decompose(D @ turn.T)).tolist() == pytest.approx([c, c])
    assert alignment_block(a, decompose(D @ turn.T)).flatten().tolist() == pytest.approx([c, s, s, c])
    assert float(subspace_agreement(a, decompose(turn @ D), 1)) == pytest.approx(c**2)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    assert alignment(a, decompose(D @ swap)).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_components_that_change_places_keep_their_subspace() -> None:
    U, V = (torch.linalg.qr(gaussian(n, 5, seed=n)).Q for n in (5, 9))
    before, after = torch.tensor([5.0, 4, 3, 2, 1]).double(), torch.tensor([4.0, 5, 3, 1, 2]).double()
    a, b = decompose(U * before @ V.mT), decompose(U * after @ V.mT)
    assert agreement(a, b).tolist() == pytest.approx([0, 0, 1, 0, 0], abs=1e-9)
    assert [float(subspace_agreement(a, b, k)) for k in range(1, 6)] == pytest.approx([0, 1, 1, 9 / 16, 1], abs=1e-9)
    assert agreement_block(a, b)[0, 1] == pytest.approx(1)


def test_as_many_are_paired_as_both_have() -> None:
    narrow, wide = decompose(gaussian(8, 3, seed=0)), decompose(gaussian(5, 8, seed=1))
    assert alignment(narrow, wide).shape == (3,)
    assert alignment_block(narrow, wide).shape == (3, 5)
    other = decompose(gaussian(8, 3, seed=2))
    assert torch.equal(agreement(narrow.top(2), other), agreement(narrow, other)[:2])
    assert agreement_block(narrow.top(2), other).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a, b: alignment(a, a), r"\(8, 3\) writes 8 numbers and one of shape \(8, 3\) reads 3 numbers"),
        (lambda a, b: alignment(a, b, blocks=2), "writes 8 numbers in 2 blocks"),
        (lambda a, b: alignment_block(a, b, positions=3), "reads 8 numbers in 3 positions"),
        (lambda a, b: alignment(a, b, blocks=8, block=8), "block=8 of 8: choose from 0 to 7, or None"),
        (lambda a, b: alignment(a, b, position=-1), "position=-1 of 1"),
        (lambda a, b: alignment(a, b, blocks=0), "blocks=0 must be at least 1"),
        (lambda a, b: agreement(a, b), r"not \(8, 3\) with \(5, 8\)"),
        (lambda a, b: agreement_block(a, b), r"not \(8, 3\) with \(5, 8\)"),
        (lambda a, b: subspace_agreement(a, b), r"not \(8, 3\) with \(5, 8\)"),
        (lambda a, b: subspace_agreement(a, a), "k=10 directions of matrices that have 3: choose k from 1 to 3"),
        (lambda a, b: principal_angles(a, a, 0), "k=0 directions"),
        (lambda a, b: agreement_block(a, a, 0), "k=0 must be at least 1"),
        (lambda a, b: alignment_block(a, b, k=0), "k=0 must be at least 1"),
        (lambda a, b: top_score(a.S, k=0), "k=0 must be at least 1"),
        (lambda a, b: alignment_chance(0), "d=0"),
        (lambda a, b: alignment_chance(3, blocks=4, block=4), "block=4 of 4"),
        (lambda a, b: subspace_agreement_chance(8, 3, 4), r"k=4 directions of a matrix of shape \(8, 3\)"),
        (lambda a, b: sampled_chance(agreement, (2, 2), (2, 2), generator=torch.Generator(), draws=1), "draws=1"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: Callable[[SVD, SVD], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(decompose(gaussian(8, 3, seed=0)), decompose(gaussian(5, 8, seed=1)))


def test_a_direction_that_does_not_exist_is_nan_and_enters_no_mean() -> None:
    one, full = decompose(torch.ones(4, 4)), decompose(torch.eye(4))
    diagonal = agreement(one, one)
    assert diagonal[0] == pytest.approx(1)
    assert diagonal[1:].isnan().all()
    assert top_score(diagonal) == diagonal[0]
    assert alignment(full, one).isnan().tolist() == [False, True, True, True]
    assert agreement_block(full, one).isnan().tolist() == [[False, True, True, True]] * 4
    assert alignment_block(one, full).isnan().tolist() == [[False] * 4] + [[True] * 4] * 3
    assert subspace_agreement(one, full, 2).isnan()
    assert not subspace_agreement(one, full, 1).isnan()
    assert all(side.isnan().all() for side in principal_angles(one, full, 2))
    assert top_score(agreement(decompose(torch.zeros(4, 4)), full)).isnan()


def test_top_score_is_the_mean_of_the_first_ten() -> None:
    diagonal = torch.arange(20.0)
    assert top_score(diagonal) == 4.5
    assert top_score(torch.stack([diagonal, diagonal + 1]), k=2).tolist() == [0.5, 1.5]
    assert top_score(torch.tensor([1.0, 2.0])) == 1.5


def narrowest(a: SVD, b: SVD) -> Tensor:
    return torch.stack(principal_angles(a, b, 2), dim=-1)


STATISTICS: dict[str, tuple[Callable[[SVD, SVD], Tensor], tuple[int, int], tuple[int, int]]] = {
    "agreement": (agreement, (6, 8), (6, 8)),
    "agreement_block": (agreement_block, (6, 8), (6, 8)),
    "principal_angles": (narrowest, (6, 8), (6, 8)),
    "subspace_agreement": (lambda a, b: subspace_agreement(a, b, 3), (6, 8), (6, 8)),
    "alignment": (lambda a, b: alignment(a, b, blocks=2, positions=4), (6, 8), (5, 12)),
    "alignment of one block": (
        lambda a, b: alignment(a, b, blocks=2, block=1, positions=4, position=0),
        (6, 8),
        (5, 12),
    ),
    "alignment_block": (lambda a, b: alignment_block(a, b, blocks=2, positions=4), (6, 8), (5, 12)),
    "top_score": (lambda a, b: top_score(agreement(a, b)), (6, 8), (6, 8)),
}
statistics = pytest.mark.parametrize(("statistic", "a", "b"), STATISTICS.values(), ids=STATISTICS)


@statistics
def test_batches_equal_their_members(
    statistic: Callable[[SVD, SVD], Tensor], a: tuple[int, int], b: tuple[int, int]
) -> None:
    first, second = decompose(gaussian(3, 2, *a, seed=0)), decompose(gaussian(3, 2, *b, seed=1))
    whole = statistic(first, second)
    for i in range(3):
        for j in range(2):
            member = statistic(SVD(*(x[i, j] for x in first)), SVD(*(x[i, j] for x in second)))
            assert torch.allclose(whole[i, j], member, atol=1e-12)
    one = SVD(*(x[0, 0] for x in second))
    assert torch.allclose(statistic(first, one)[0, 0], whole[0, 0], atol=1e-12)


@statistics
def test_scores_lie_between_0_and_1_and_inputs_stay(
    statistic: Callable[[SVD, SVD], Tensor], a: tuple[int, int], b: tuple[int, int]
) -> None:
    first, second = decompose(gaussian(*a, seed=0)), decompose(gaussian(*b, seed=1))
    before = [x.clone() for x in (*first, *second)]
    scores = statistic(first, second)
    assert bool(((scores >= 0) & (scores <= 1 + 1e-12)).all())
    assert all(torch.equal(x, kept) for x, kept in zip((*first, *second), before, strict=True))
    half = SVD(*(x.float() for x in second))
    assert torch.allclose(statistic(first, half), scores, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@statistics
def test_two_devices_meet_on_the_first(
    statistic: Callable[[SVD, SVD], Tensor], a: tuple[int, int], b: tuple[int, int]
) -> None:
    first, second = decompose(gaussian(*a, seed=0)), decompose(gaussian(*b, seed=1))
    far = SVD(*(x.cuda() for x in second))
    assert torch.allclose(statistic(first, far), statistic(first, second), atol=1e-12)
    assert statistic(far, far).is_cuda if a == b else True


# Chance levels: against the mean over vectors that point anywhere, within five standard errors.
def directions(draws: int, size: int, seed: int) -> Array:
    drawn = np.random.default_rng(seed).normal(size=(draws, size))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@rules
@pytest.mark.parametrize("d", [1, 2, 3, 16])
def test_alignment_chance_is_the_mean_over_random_vectors(
    d: int, blocks: int, block: int | None, positions: int, position: int | None
) -> None:
    u = directions(40_000, blocks * d, seed=d).reshape(-1, blocks, d)
    v = directions(40_000, d * positions, seed=d + 100).reshape(-1, d, positions)
    u = u if block is None else u[:, [block]]
    v = v if position is None else v[..., [position]]
    scores = np.linalg.norm(u @ v, axis=(1, 2))
    chance = alignment_chance(d, blocks=blocks, block=block, positions=positions, position=position)
    assert chance == pytest.approx(scores.mean(), abs=5 * scores.std() / 200 + 1e-12)


def test_chance_levels_have_their_closed_forms() -> None:
    assert alignment_chance(1) == 1
    assert alignment_chance(2) == pytest.approx(2 / np.pi)
    assert alignment_chance(3) == pytest.approx(1 / 2)
    assert alignment_chance(10_000) == pytest.approx(np.sqrt(2 / (np.pi * 10_000)), rel=1e-4)
    assert agreement_chance(512, 4608) == pytest.approx(2 / np.pi / np.sqrt(512 * 4608), rel=1e-3)
    assert all(a > b for a, b in pairwise(map(alignment_chance, range(1, 50))))
    assert subspace_agreement_chance(7, 5, 5) == pytest.approx(5 / 7)
    # The centre of a 3 x 3 kernel holds a third of a vector; all gates of an LSTM hold all of it.
    assert alignment_chance(512, positions=9, position=4) == pytest.approx(alignment_chance(512) / 3, rel=1e-3)
    assert alignment_chance(512, blocks=4, block=2) == pytest.approx(alignment_chance(512) / 2, rel=1e-3)
    assert alignment_chance(512, blocks=4) == pytest.approx(np.sqrt(1 / 512), rel=0.1)


@pytest.mark.parametrize("q", [1, 2, 5])
def test_a_part_of_a_random_circle_has_the_mean_of_a_cosine(q: int) -> None:
    """Over ``q`` blocks of one feature each, a single one is a coordinate of a random unit vector."""
    assert alignment_chance(1, blocks=q, block=0) == pytest.approx(alignment_chance(q))
    assert alignment_chance(1, blocks=q) == 1


def test_unrelated_matrices_score_at_chance() -> None:
    draws = 400
    a, b = decompose(gaussian(draws, 12, 20, seed=0)), decompose(gaussian(draws, 12, 20, seed=1))
    after = decompose(gaussian(draws, 9, 12, seed=2))
    kernel = decompose(gaussian(draws, 9, 12 * 4, seed=3))
    gates = decompose(gaussian(draws, 3 * 12, 5, seed=4))
    for measured, chance in [
        (agreement(a, b), agreement_chance(12, 20)),
        (agreement_block(a, b), agreement_chance(12, 20)),
        (subspace_agreement(a, b, 4), subspace_agreement_chance(12, 20, 4)),
        (alignment(a, after), alignment_chance(12)),
        (alignment_block(a, after), alignment_chance(12)),
        (alignment(a, kernel, positions=4), alignment_chance(12, positions=4)),
        (alignment(gates, kernel, blocks=3, positions=4), alignment_chance(12, blocks=3, positions=4)),
        (
            alignment(gates, kernel, blocks=3, block=2, positions=4, position=1),
            alignment_chance(12, blocks=3, block=2, positions=4, position=1),
        ),
    ]:
        runs = measured.reshape(draws, -1).mean(-1)
        assert float(runs.mean()) == pytest.approx(chance, abs=5 * float(runs.std()) / np.sqrt(draws))


def test_fresh_layers_of_pytorch_score_at_chance() -> None:
    torch.manual_seed(0)
    convolutions = [decompose(nn.Conv2d(n, m, 3).weight.flatten(1)) for n, m in ((64, 128), (128, 160))]
    lstm = nn.LSTM(96, 128)
    gates, following = decompose(lstm.weight_ih_l0), decompose(nn.Linear(128, 200).weight)
    for measured, chance in [
        (
            alignment_block(*convolutions, positions=9, position=4, k=128),
            alignment_chance(128, positions=9, position=4),
        ),
        (alignment_block(gates, following, blocks=4, block=2, k=96), alignment_chance(128, blocks=4, block=2)),
    ]:
        assert float(measured.mean()) == pytest.approx(chance, rel=0.03)


def test_sampled_chance_finds_the_closed_forms_and_repeats_itself() -> None:
    def sampled(seed: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        return sampled_chance(agreement, (6, 9), (6, 9), generator=draw, draws=200)

    state = torch.get_rng_state()
    mean, error = sampled(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert mean.shape == error.shape == (6,)
    assert bool(((mean - agreement_chance(6, 9)).abs() < 5 * error).all())
    assert torch.equal(sampled(0)[0], mean)
    assert not torch.equal(sampled(1)[0], mean)
