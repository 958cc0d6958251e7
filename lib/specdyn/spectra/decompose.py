"""One decomposition per matrix: fast, and exact far below what float32 weights can hold.

The default forms the smaller Gram matrix in float64 and takes its eigenvalues. For the wide matrices
networks are made of, that is several times faster than a direct SVD in float32; for square ones, and for
wide ones turned tall first, it is about as fast, and more exact. Squaring costs half of the digits, but half
of float64 is all of float32: a singular value s is exact to about 1e-16 (s_1 / s)^2, so everything down to
1e-7 s_1 is resolved, and below that float32 weights carry no information.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Method = Literal["auto", "gram", "qr", "svd"]
"""How singular values are computed: see `decompose`. ``"auto"`` chooses."""

_LinAlgError: type[RuntimeError] = vars(torch.linalg)["LinAlgError"]  # missing in its type stubs

RESOLVED = 1e-7
"""Singular values at or below this fraction of the largest are noise, their vectors arbitrary."""

_ORTHONORMAL_ENOUGH = 1e-4
"""Above this fraction of the largest, the second set of vectors is orthonormal to 1e-8 as it is."""

_SQUARABLE = (1e-140, 1e140)
"""Entries of this size can be squared and summed in float64 without under- or overflow."""


_ROWS = 64
"""Rows of a Gram matrix formed at once: fewer waste time on calls, more on the triangle not needed."""

_SOLVED_ON_CPU = 256
"""Up to this side, a Gram matrix from a CUDA device is solved on the CPU.

PyTorch takes the matrices of a batch one after another on CUDA: 64 of side 128 in 316 ms on an RTX 4080
(pytorch/pytorch#175585), where one core of a CPU takes 67 ms. The number 256 is a guess between that and
the sizes where a device must win. It was not measured here: ``benchmarks/probe_gpu.py`` measures it.
"""


class SVD(NamedTuple):
    """Singular value decomposition ``matrix = U @ diag(S) @ Vh``, in PyTorch's convention.

    Shapes are ``U (..., m, r)``, ``S (..., r)`` in descending order and ``Vh (..., r, n)`` with
    ``r = min(m, n)``. ``U`` and ``Vh`` are always orthonormal: where singular values vanish, their
    vectors are some completion of the basis, and ``defined`` says which ones mean something.

    >>> U, S, Vh = decompose(torch.ones(3, 2))
    >>> U.shape, S.shape, Vh.shape
    (torch.Size([3, 2]), torch.Size([2]), torch.Size([2, 2]))
    """

    U: Tensor
    S: Tensor
    Vh: Tensor

    @property
    def defined(self) -> Tensor:
        """Which components have vectors of their own: ``S`` above ``1e-7`` of the largest.

        >>> decompose(torch.tensor([[2.0, 0.0], [0.0, 0.0]])).defined.tolist()
        [True, False]
        """
        return RESOLVED * self.S[..., :1] < self.S

    @property
    def mT(self) -> "SVD":
        """The decomposition of the transposed matrix, as of a weight stored the other way round.

        >>> decompose(torch.ones(3, 2)).mT.U.shape
        torch.Size([2, 2])
        """
        return SVD(self.Vh.mT, self.S, self.U.mT)

    def top(self, k: int) -> "SVD":
        """Return the ``k`` largest components, or all if there are fewer; a copy, to keep for long.

        >>> decompose(torch.ones(3, 2)).top(1).U.shape
        torch.Size([3, 1])
        """
        if k < 1:
            raise ValueError(f"cannot keep the top {k} of {self.S.shape[-1]} singular components: keep at least 1")
        return SVD(self.U[..., :k].clone(), self.S[..., :k].clone(), self.Vh[..., :k, :].clone())

    def residual(self, matrix: Tensor) -> float:
        """Return ``|matrix - U S Vh|`` relative to ``|matrix|`` (Frobenius), worst of a batch.

        >>> eye = torch.eye(3)
        >>> decompose(eye).residual(eye) < 1e-12
        True
        """
        exact = matrix.detach().to(self.S)
        largest = torch.where(self.S[..., :1] > 0, self.S[..., :1], 1.0)  # squares stay finite
        scaled, ours = exact / largest[..., None], SVD(self.U, self.S / largest, self.Vh)
        error = torch.linalg.matrix_norm(scaled - truncate(ours, self.S.shape[-1]))
        size = torch.linalg.vector_norm(ours.S, dim=-1)
        return float((error / torch.where(size > 0, size, 1.0)).max())

    def orthogonality(self) -> float:
        """Return the largest entry of ``|U'U - 1|`` and ``|V'V - 1|``.

        >>> decompose(torch.ones(3, 5)).orthogonality() < 1e-12
        True
        """
        eye = torch.eye(self.S.shape[-1], dtype=self.S.dtype, device=self.S.device)
        left, right = self.U.mT @ self.U - eye, self.Vh @ self.Vh.mT - eye
        return float(torch.maximum(left.abs(), right.abs()).max())


def decompose(matrix: Tensor, *, method: Method = "auto", name: str = "matrix") -> SVD:
    """Return the thin SVD of a real matrix, or of a batch ``(..., m, n)``.

    ``method`` is ``"gram"`` (float64, the default), ``"qr"`` (QR first, in the matrix's own
    precision: for devices without float64) or ``"svd"`` (direct float64 SVD: the reference, and
    the fallback if an eigenvalue solver does not converge). The result is float64 except for
    ``"qr"``; gradients are not tracked. ``name`` is used in error messages.

    Raises ``ValueError`` for anything without finite real entries and at least one row and column.

    >>> svd = decompose(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
    >>> svd.S.tolist()
    [4.0, 3.0]
    >>> [round(x, 6) for x in (svd.U * svd.S @ svd.Vh).flatten().tolist()]
    [3.0, 0.0, 0.0, -4.0]
    """
    solve = {"gram": _gram_vectors, "qr": _qr_vectors, "svd": _svd_vectors}
    return _run(solve, matrix, method, name)


def singular_values(matrix: Tensor, *, method: Method = "auto", name: str = "matrix") -> Tensor:
    """Return the singular values ``(..., min(m, n))`` of a matrix, largest first.

    Two to three times cheaper than `decompose`, with the same methods, precision and errors.

    >>> singular_values(torch.tensor([[3.0, 0.0, 0.0], [0.0, -4.0, 0.0]])).tolist()
    [4.0, 3.0]
    """
    solve = {"gram": _gram_values, "qr": _qr_values, "svd": _svd_values}
    return _run(solve, matrix, method, name)


def truncate(svd: SVD, k: int, keep: Literal["top", "bottom"] = "top") -> Tensor:
    """Return the matrix made of ``k`` singular components: the largest, or the smallest.

    For an SVD with ``r`` components, ``truncate(svd, k)`` and ``truncate(svd, r - k, "bottom")``
    add up to the whole matrix. Any ``k`` from 0 to ``r`` is read off the same decomposition.

    >>> svd = decompose(torch.diag(torch.tensor([3.0, 2.0, 1.0])))
    >>> truncate(svd, 1).diagonal().tolist()
    [3.0, 0.0, 0.0]
    >>> truncate(svd, 1, keep="bottom").diagonal().tolist()
    [0.0, 0.0, 1.0]
    """
    r = svd.S.shape[-1]
    if not 0 <= k <= r:
        raise ValueError(f"cannot keep {k} of {r} singular components: choose k from 0 to {r}")
    if keep not in ("top", "bottom"):
        raise ValueError(f'keep is "top" or "bottom", not {keep!r}')
    part = slice(0, k) if keep == "top" else slice(r - k, r)
    return (svd.U[..., part] * svd.S[..., None, part]) @ svd.Vh[..., part, :]


def check_finite(matrix: Tensor, name: str) -> float:
    """Return the largest absolute entry; raise ``ValueError`` if there is no such finite number.

    >>> check_finite(torch.tensor([[1.0, -2.0]]), "layer.weight")
    2.0
    >>> check_finite(torch.tensor([[1.0, float("nan")]]), "layer.weight")
    Traceback (most recent call last):
    ValueError: layer.weight: 1 of 2 entries is NaN or infinite: measure it as it was before that
    """
    shape = tuple(matrix.shape)
    if matrix.ndim < 2:
        raise ValueError(f"{name}: shape {shape} is no matrix; reshape it to (rows, columns)")
    if matrix.numel() == 0:
        raise ValueError(f"{name}: shape {shape} has no entries, so it has no singular values")
    if not matrix.is_floating_point():
        raise ValueError(f"{name}: {matrix.dtype} is no real floating-point matrix; convert it first")
    if matrix.is_meta:
        raise ValueError(f"{name}: a meta tensor has no values; move the model to a device first")
    peak = float(matrix.detach().abs().max())
    if not isfinite(peak):
        bad = int((~matrix.isfinite()).sum())
        raise ValueError(
            f"{name}: {bad} of {matrix.numel()} entries {'is' if bad == 1 else 'are'} NaN or "
            "infinite: measure it as it was before that"
        )
    return peak


def _run(solvers: Mapping[str, Callable[[Tensor], T]], matrix: Tensor, method: Method, name: str) -> T:
    """Check the matrix, choose a solver, and fall back on the direct SVD if it fails."""
    peak = check_finite(matrix, name)
    chosen = _choose(matrix, peak) if method == "auto" else method
    if chosen not in solvers:
        raise ValueError(f'unknown method {method!r}: choose "auto", "gram", "qr" or "svd"')
    with torch.no_grad():
        try:
            return solvers[chosen](matrix.detach())
        except _LinAlgError:
            return solvers["svd"](matrix.detach())


def _choose(matrix: Tensor, peak: float) -> Method:
    if matrix.device.type == "mps":
        return "qr"
    return "gram" if peak == 0 or _SQUARABLE[0] < peak < _SQUARABLE[1] else "svd"


def _wide(matrix: Tensor) -> tuple[Tensor, bool]:
    """Return the matrix with no more rows than columns, and whether it had to be transposed."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    return (matrix.mT if tall else matrix), tall


def _oriented(svd: SVD, tall: bool) -> SVD:
    return svd.mT if tall else svd


def _gram_values(matrix: Tensor) -> Tensor:
    wide, _ = _wide(matrix.double())
    squares: Tensor = torch.linalg.eigvalsh(_near(_gram(wide))).to(wide.device)
    return squares.flip(-1).clamp_min(0).sqrt()


def _gram_vectors(matrix: Tensor) -> SVD:
    wide, tall = _wide(matrix.double())
    squares, U = (x.to(wide.device).flip(-1) for x in torch.linalg.eigh(_near(_gram(wide))))
    S = squares.clamp_min(0).sqrt()
    inverse = torch.where(RESOLVED * S[..., :1] < S, 1 / S, 0.0)
    Vh = (U * inverse[..., None, :]).mT @ wide  # twice as fast as wide.mT @ U
    if bool((S[..., -1] <= _ORTHONORMAL_ENOUGH * S[..., 0]).any()):
        Vh = _complete(Vh.mT).mT
    return _oriented(SVD(U, S, Vh), tall)


def _gram(wide: Tensor) -> Tensor:
    """Return the lower triangle of ``wide @ wide.mT``, which is all that eigenvalue solvers read."""
    m = wide.shape[-2]
    gram = wide.new_zeros(*wide.shape[:-1], m)
    for start in range(0, m, _ROWS):
        end = min(start + _ROWS, m)
        gram[..., start:end, :end] = wide[..., start:end, :] @ wide[..., :end, :].mT
    return gram


def _near(gram: Tensor) -> Tensor:
    """Return the matrix where its eigenvalues are found sooner: small ones on the CPU."""
    return gram.cpu() if gram.is_cuda and gram.shape[-1] <= _SOLVED_ON_CPU else gram


def _complete(V: Tensor) -> Tensor:
    """Orthonormalise columns from the first to the last; zero columns complete the basis.

    Householder QR returns an orthonormal factor whatever the rank, and keeps every column that is
    orthogonal to those before it up to its sign.
    """
    Q: Tensor
    Q, R = torch.linalg.qr(V)
    return Q * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., None, :]


def _qr_values(matrix: Tensor) -> Tensor:
    wide, _ = _wide(_at_least_float32(matrix))
    values: Tensor = torch.linalg.svdvals(torch.linalg.qr(wide.mT, mode="r").R)
    return values


def _qr_vectors(matrix: Tensor) -> SVD:
    wide, tall = _wide(_at_least_float32(matrix))
    Q, R = torch.linalg.qr(wide.mT)
    right, S, left = torch.linalg.svd(R, full_matrices=False)
    return _oriented(SVD(left.mT, S, (Q @ right).mT), tall)


def _svd_values(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(matrix.double())
    return values


def _svd_vectors(matrix: Tensor) -> SVD:
    return SVD(*torch.linalg.svd(matrix.double(), full_matrices=False))


def _at_least_float32(matrix: Tensor) -> Tensor:
    return matrix if matrix.dtype == torch.float64 else matrix.float()
