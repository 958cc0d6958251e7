"""The comparison of a whole checkpoint is fair: both sides find the same numbers."""

import pytest
import torch
from torch import Tensor

from benchmarks import spectra as benchmark
from specdyn.spectra import SVD, decompose


def test_both_sides_of_a_checkpoint_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(4, 18), (6, 36), (6, 54), (5, 6)]
    weights, last = ([benchmark.gaussian(*shape, seed=seed) for shape in shapes] for seed in (0, 1))
    final, calls = [decompose(W) for W in last], []

    def counted(matrix: Tensor) -> SVD:
        calls.append(matrix)
        return SVD(*torch.linalg.svd(matrix.double(), full_matrices=False))

    monkeypatch.setattr(benchmark, "direct", counted)
    theirs = list(benchmark.a_decomposition_for_every_question(weights, final))
    assert len(calls) == 2 * 3 + 4 + 2 * 3
    ours = list(benchmark.one_decomposition_each(weights, final))
    pairs, seen = theirs[:3], theirs[3:11]
    assert [pair.shape for pair in pairs] == [(9, 6, 4), (9, 6, 6), (1, 5, 6)]
    expected = [
        *(number for rank, block in zip(seen[::2], seen[1::2], strict=True) for number in (rank, block.diagonal())),
        *(pair[len(pair) // 2].diagonal() for pair in pairs),
        *theirs[11:],
    ]
    assert len(ours) == len(expected) == 17

    def in_order(results: list[Tensor]) -> list[Tensor]:
        return sorted((x.double() for x in results), key=lambda x: (x.ndim, *x.shape, float(x.sum())))

    for a, b in zip(in_order(ours), in_order(expected), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_of_vgg_takes_66_decompositions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(matrix: Tensor) -> SVD:
        calls.append(matrix)
        m, n = matrix.shape
        return SVD(torch.zeros(m, min(m, n)), torch.ones(min(m, n)), torch.zeros(min(m, n), n))

    weights = [torch.zeros(max(1, m // 32), 9 * max(1, n // 288)) for m, n in benchmark.SHAPES]
    weights[-1] = torch.zeros(1, 16)
    monkeypatch.setattr(benchmark, "direct", counted)
    for _ in benchmark.a_decomposition_for_every_question(weights, [counted(W) for W in weights]):
        pass
    assert len(weights) == 14
    assert len(calls) - 14 == 66


def test_the_limit_lies_where_a_hundred_snapshots_take_a_minute() -> None:
    rows = [{"rows": m, "ms": {"full": m**3 / 1e6}} for m in (100, 400, 1600)]  # 600 ms at the cube root of 6e8
    assert benchmark.limit(rows, "full") == pytest.approx(6e8 ** (1 / 3))
    assert benchmark.limit(rows[:2], "full") is None


def test_the_operations_of_a_square_matrix() -> None:
    assert benchmark.operations(2, 2)["ours full"] == (1 + 9 + 2) * 8
    assert benchmark.operations(2, 6) == benchmark.operations(6, 2)
