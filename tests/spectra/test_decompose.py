"""The decomposition against a direct float64 SVD, on matrices that are hard in different ways."""

import pytest
import torch
from torch import Tensor

from specdyn.spectra import SVD, decompose, effective_rank, singular_values, truncate
from specdyn.spectra.decompose import Method


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(m: int, n: int, s: Tensor, seed: int = 0) -> Tensor:
    """A float32 matrix whose singular values are ``s`` up to float32 rounding."""
    left = torch.linalg.qr(gaussian(m, len(s), seed=seed)).Q
    right = torch.linalg.qr(gaussian(n, len(s), seed=seed + 1)).Q
    return (left * s @ right.mT).float()


HARD = {
    "random": gaussian(40, 60).float(),
    "wide": gaussian(16, 500).float(),
    "tall": gaussian(500, 16).float(),
    "square": gaussian(64, 64).float(),
    "single row": gaussian(1, 7).float(),
    "single column": gaussian(7, 1).float(),
    "one entry": torch.tensor([[-2.0]]),
    "rank deficient": (gaussian(50, 5) @ gaussian(5, 70)).float(),
    "exactly rank deficient": torch.ones(30, 20),
    "repeated": with_spectrum(40, 60, torch.ones(40, dtype=torch.float64)),
    "repeated in blocks": with_spectrum(30, 30, torch.tensor([3.0, 1.0, 0.1]).double().repeat(10)),
    "ill-conditioned 1e-4": with_spectrum(48, 64, torch.logspace(0, -4, 48, dtype=torch.float64)),
    "ill-conditioned 1e-8": with_spectrum(48, 64, torch.logspace(0, -8, 48, dtype=torch.float64)),
    "larger": gaussian(150, 200).float(),
    "larger and rank deficient": (gaussian(140, 90) @ gaussian(90, 130)).float(),
    "identity": torch.eye(12),
    "zero": torch.zeros(6, 9),
    "bfloat16": gaussian(32, 48).bfloat16(),
    "float16": gaussian(32, 48).half(),
    "float64": gaussian(32, 48),
    "non-contiguous": gaussian(64, 96).float()[::2, 1::3].T,
    "tiny": gaussian(20, 30).float() * 1e-30,
    "huge": gaussian(20, 30).float() * 1e30,
    "float64 beyond squaring": gaussian(20, 30) * 1e200,
    "float64 below squaring": gaussian(20, 30) * 1e-200,
}
hard = pytest.mark.parametrize("matrix", HARD.values(), ids=HARD)


def reference(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix.double())


def worst_error(s: Tensor, exact: Tensor) -> float:
    """The largest relative error among singular values above 1e-6 of the largest."""
    matters = exact > 1e-6 * exact[0]
    if not bool(matters.any()):
        return float(s.abs().max())
    return float(((s - exact).abs() / exact)[matters].max())


@hard
def test_every_singular_value_is_exact(matrix: Tensor) -> None:
    exact = reference(matrix)
    assert worst_error(singular_values(matrix), exact) < 1e-4
    assert worst_error(decompose(matrix).S, exact) < 1e-4


@hard
def test_values_are_ordered_and_never_negative(matrix: Tensor) -> None:
    for s in (singular_values(matrix), decompose(matrix).S):
        assert bool((s >= 0).all())
        assert bool((s.diff() <= 0).all())
        assert s.shape == (min(matrix.shape),)


@hard
def test_factors_are_orthonormal_and_give_the_matrix_back(matrix: Tensor) -> None:
    svd = decompose(matrix)
    assert svd.orthogonality() < 1e-7
    assert svd.residual(matrix) < 1e-7


@hard
def test_effective_rank_is_exact(matrix: Tensor) -> None:
    exact = reference(matrix)
    well_conditioned = float(exact[-1]) > 1e-5 * float(exact[0])
    error = abs(effective_rank(singular_values(matrix)) - effective_rank(exact))
    assert float(error) < (1e-6 if well_conditioned else 1e-4)


@pytest.mark.parametrize("method", ["gram", "qr", "svd"])
def test_every_method_gives_an_svd(method: Method) -> None:
    for matrix in (HARD["wide"], HARD["tall"], HARD["square"], HARD["rank deficient"]):
        svd = decompose(matrix, method=method)
        assert svd.residual(matrix) < 1e-5
        assert svd.orthogonality() < 1e-5
        exact = reference(matrix)
        large = exact > 1e-3 * exact[0]
        assert torch.allclose(svd.S.double()[large], exact[large], rtol=1e-4)
        assert torch.allclose(singular_values(matrix, method=method), svd.S, rtol=1e-4, atol=1e-5)


def test_vectors_belong_to_their_values() -> None:
    matrix = with_spectrum(30, 50, torch.linspace(3, 1, 30, dtype=torch.float64))
    svd, exact = decompose(matrix), SVD(*torch.linalg.svd(matrix.double(), full_matrices=False))
    assert torch.allclose((svd.U * exact.U).sum(0).abs(), torch.ones(30).double(), atol=1e-9)
    assert torch.allclose((svd.Vh * exact.Vh).sum(1).abs(), torch.ones(30).double(), atol=1e-9)


@pytest.mark.parametrize("method", ["gram", "qr", "svd"])
@pytest.mark.parametrize(("m", "n"), [(6, 4), (4, 6), (70, 90)])
def test_batches_equal_their_members(m: int, n: int, method: Method) -> None:
    batch, r = gaussian(3, 2, m, n), min(m, n)
    svd, s = decompose(batch, method=method), singular_values(batch, method=method)
    assert (svd.U.shape, svd.S.shape, svd.Vh.shape) == ((3, 2, m, r), (3, 2, r), (3, 2, r, n))
    assert svd.residual(batch) < 1e-12
    assert svd.orthogonality() < 1e-11
    for i in range(3):
        for j in range(2):
            assert torch.allclose(svd.S[i, j], reference(batch[i, j]), rtol=1e-10)
            assert torch.allclose(s[i, j], reference(batch[i, j]), rtol=1e-10)


def test_one_hard_member_of_a_batch_does_not_spoil_the_others() -> None:
    batch = torch.stack([gaussian(5, 7), torch.zeros(5, 7).double(), torch.ones(5, 7).double()])
    svd = decompose(batch)
    assert svd.defined.sum(-1).tolist() == [5, 0, 1]
    assert torch.allclose(svd.S, reference(batch), atol=1e-7)
    assert svd.orthogonality() < 1e-7
    assert svd.residual(batch) < 1e-7


def test_the_transpose_has_the_same_decomposition_turned_round() -> None:
    matrix = gaussian(2, 5, 8)
    svd = decompose(matrix)
    assert svd.mT.residual(matrix.mT) < 1e-12
    assert torch.equal(svd.mT.S, svd.S)
    assert torch.equal(svd.mT.mT.U, svd.U)


def test_the_top_components_are_a_copy_that_holds_nothing_else() -> None:
    svd = decompose(gaussian(2, 20, 30))
    top = svd.top(3)
    assert (top.U.shape, top.S.shape, top.Vh.shape) == ((2, 20, 3), (2, 3), (2, 3, 30))
    assert torch.equal(truncate(top, 3), truncate(svd, 3))
    for factor in top:
        assert factor.untyped_storage().nbytes() == factor.numel() * factor.element_size()
    assert decompose(gaussian(2, 3)).top(10).S.shape == (2,)
    with pytest.raises(ValueError, match="top 0 of 20"):
        svd.top(0)


def test_defined_marks_the_components_that_exist() -> None:
    assert decompose(torch.ones(5, 4)).defined.tolist() == [True, False, False, False]
    assert not decompose(torch.zeros(5, 4)).defined.any()
    assert decompose(torch.eye(4)).defined.all()


def test_an_eigenvalue_solver_that_fails_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    monkeypatch.setattr(torch.linalg, "eigvalsh", fail)
    matrix = HARD["random"]
    assert torch.equal(singular_values(matrix), reference(matrix))
    assert decompose(matrix).residual(matrix) < 1e-12


def test_neither_input_nor_graph_is_touched() -> None:
    for method in ("auto", "gram", "qr", "svd"):
        weight = torch.nn.Parameter(gaussian(4, 3))
        before = weight.detach().clone()
        svd = decompose(weight, method=method)
        factors = [factor.clone() for factor in svd]
        truncate(svd, 1), svd.residual(weight), svd.orthogonality(), svd.mT, svd.top(1)
        assert torch.equal(weight, before)
        assert all(torch.equal(factor, kept) for factor, kept in zip(svd, factors, strict=True))
        assert not any(factor.requires_grad for factor in (*svd, singular_values(weight, method=method)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@hard
def test_cuda_agrees(matrix: Tensor) -> None:
    svd = decompose(matrix.cuda())
    assert svd.S.is_cuda
    assert worst_error(svd.S.cpu(), reference(matrix)) < 1e-4
    assert svd.residual(matrix.cuda()) < 1e-7


@pytest.mark.parametrize("k", [0, 1, 3, 8])
def test_truncation_is_the_best_approximation(k: int) -> None:
    matrix = gaussian(8, 11)
    svd = decompose(matrix)
    kept = truncate(svd, k)
    lost = float(torch.linalg.matrix_norm(matrix - kept))
    assert lost == pytest.approx(float(svd.S[k:].square().sum().sqrt()), abs=1e-10)  # Eckart-Young
    assert torch.allclose(kept + truncate(svd, 8 - k, keep="bottom"), matrix, atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]]), "2 of 4 entries are NaN"),
        (torch.zeros(0, 3), r"shape \(0, 3\) has no entries"),
        (torch.zeros(3), r"shape \(3,\) is no matrix; reshape"),
        (torch.zeros(2, 2, dtype=torch.int64), "int64 is no real floating-point"),
        (torch.zeros(2, 2, dtype=torch.complex64), "complex64 is no real floating-point"),
        (torch.zeros(2, 2, device="meta"), "meta tensor has no values"),
    ],
)
def test_bad_input_is_named(matrix: Tensor, says: str) -> None:
    for function in (decompose, singular_values):
        with pytest.raises(ValueError, match="layers.3.weight: .*" + says):
            function(matrix, name="layers.3.weight")


def test_bad_options_are_named() -> None:
    svd = decompose(torch.eye(3))
    with pytest.raises(ValueError, match="keep 4 of 3"):
        truncate(svd, 4)
    with pytest.raises(ValueError, match="'middle'"):
        truncate(svd, 1, keep="middle")
    with pytest.raises(ValueError, match="unknown method 'jacobi'"):
        decompose(torch.eye(3), method="jacobi")
