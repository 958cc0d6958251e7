"""Pure functions of singular vectors: do two matrices have the same directions, do two layers meet?

Functions take decompositions, or batches of them, and return tensors. What involves a component that
does not exist (see `SVD.defined`) is NaN. Decompositions on two devices meet on the first one's.
Every score has its chance level: what matrices give that have nothing to do with each other.
"""

from collections.abc import Callable
from math import exp, lgamma

import torch
from torch import Tensor

from specdyn.spectra.decompose import SVD, decompose


def agreement(a: SVD, b: SVD) -> Tensor:
    """Return ``|<u_j, u'_j> <v_j, v'_j>|`` for j = 1..R, shape ``(..., R)``, in [0, 1].

    Compares component j of two matrices of one shape, at two times or in two networks (Yunis et
    al. 2024, Equation 5). 1 means the same direction up to sign; `agreement_chance` is what
    unrelated matrices give. NaN where either matrix has no component j (see `SVD.defined`).

    >>> svd = decompose(torch.diag(torch.tensor([2.0, 1.0])))
    >>> agreement(svd, svd).tolist()
    [1.0, 1.0]
    """
    a, b = _comparable(a, b)
    r = min(a.S.shape[-1], b.S.shape[-1])
    left = (a.U[..., :r] * b.U[..., :r]).sum(-2)
    right = (a.Vh[..., :r, :] * b.Vh[..., :r, :]).sum(-1)
    return torch.where(a.defined[..., :r] & b.defined[..., :r], (left * right).abs(), torch.nan)


def agreement_block(a: SVD, b: SVD, k: int = 10) -> Tensor:
    """Return ``|<u_i, u'_j> <v_i, v'_j>|`` for the first ``k`` components, shape ``(..., i, j)``.

    Its diagonal is `agreement`. Beside the diagonal lie components that changed places.

    >>> a, b = decompose(torch.diag(torch.tensor([2.0, 1.0]))), decompose(torch.diag(torch.tensor([2.0, 3.0])))
    >>> agreement_block(a, b).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    a, b = _comparable(a, b)
    left, right = _overlaps(a, b, _at_least_one(k))
    return torch.where(_both(a, b, k), (left * right).abs(), torch.nan)


def principal_angles(a: SVD, b: SVD, k: int) -> tuple[Tensor, Tensor]:
    """Return the cosines of the angles between the top ``k`` subspaces: (left, right), each ``(..., k)``.

    From 1 for a shared direction, largest first, to 0 for one that is orthogonal to the other
    subspace (Björck and Golub 1973). They do not see the order of the components, nor a rotation
    among them. NaN where either matrix has fewer than ``k`` components.

    >>> a, b = decompose(torch.diag(torch.tensor([2.0, 1.0]))), decompose(torch.diag(torch.tensor([2.0, 3.0])))
    >>> [side.tolist() for side in principal_angles(a, b, 2)]
    [[1.0, 1.0], [1.0, 1.0]]
    """
    a, b = _comparable(a, b)
    left, right = (torch.linalg.svdvals(x).clamp_max(1) for x in _overlaps(a, b, _within(k, a, b)))
    exist = (a.defined[..., k - 1] & b.defined[..., k - 1])[..., None]
    return torch.where(exist, left, torch.nan), torch.where(exist, right, torch.nan)


def subspace_agreement(a: SVD, b: SVD, k: int = 10) -> Tensor:
    """Return how much the top ``k`` subspaces of two matrices share, shape ``(...)``, in [0, 1].

    The mean squared cosine of the principal angles on the left times that on the right. Unlike the
    diagonal of `agreement`, it is not disturbed when singular values cross and components change
    places within the top ``k``. NaN where either matrix has fewer than ``k`` components;
    `subspace_agreement_chance` is what unrelated matrices give.

    >>> a, b = decompose(torch.diag(torch.tensor([2.0, 1.0]))), decompose(torch.diag(torch.tensor([2.0, 3.0])))
    >>> agreement(a, b).tolist(), float(subspace_agreement(a, b, 2))
    ([0.0, 0.0], 1.0)
    """
    a, b = _comparable(a, b)
    left, right = (x.square().sum((-2, -1)) / k for x in _overlaps(a, b, _within(k, a, b)))
    return torch.where(a.defined[..., k - 1] & b.defined[..., k - 1], left * right, torch.nan)


def alignment(
    prev: SVD,
    next: SVD,
    *,
    blocks: int = 1,
    block: int | None = None,
    positions: int = 1,
    position: int | None = None,
) -> Tensor:
    """Return ``|<u_j, v'_j>|`` for j = 1..min(R, R'): what layer ``prev`` writes, ``next`` reads.

    ``u_j`` are the left (output) vectors of the earlier matrix, ``v'_j`` the right (input) vectors
    of the one it feeds (Yunis et al. 2024, the diagonal of Equation 3). `alignment_chance` is what
    unrelated layers give. NaN where either matrix has no component j (see `SVD.defined`).

    The rows of ``prev`` can be several ``blocks`` that each write all the features (the gates of an
    LSTM), the columns of ``next`` features x ``positions`` (a kernel). A given ``block`` and
    ``position`` are compared alone, as the paper does. ``None`` takes the root of the sum of squares
    over all of them, whose chance level is between 0.8 and 1 over the root of the number of features,
    however many there are: it compares across kinds of layers.

    >>> first = decompose(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    >>> second = decompose(torch.tensor([[5.0, 0.0], [0.0, 3.0]]))
    >>> alignment(first, second).tolist()
    [1.0, 1.0]
    >>> kernel = decompose(torch.tensor([[0.0, 3.0, 4.0, 0.0, 0.0, 0.0]]))  # 2 features x 3 positions
    >>> [round(float(alignment(first, kernel, positions=3, position=p)), 6) for p in (None, 0, 1)]
    [1.0, 0.0, 0.6]
    """
    writes, reads = _meeting(prev, next, blocks, block, positions, position)
    r = min(writes.shape[-1], reads.shape[-3])
    overlap = torch.einsum("...bdj,...jdp->...jbp", writes[..., :r], reads[..., :r, :, :])
    both = prev.defined[..., :r] & next.defined[..., :r].to(prev.S.device)
    return torch.where(both, torch.linalg.vector_norm(overlap, dim=(-2, -1)), torch.nan)


def alignment_block(
    prev: SVD,
    next: SVD,
    *,
    blocks: int = 1,
    block: int | None = None,
    positions: int = 1,
    position: int | None = None,
    k: int = 10,
) -> Tensor:
    """Return ``|<u_i, v'_j>|`` for the first ``k`` vectors of each layer, shape ``(..., i, j)``.

    Its diagonal is `alignment`, which says what the other arguments mean.

    >>> first, second = decompose(torch.diag(torch.tensor([2.0, 1.0]))), decompose(torch.diag(torch.tensor([2.0, 3.0])))
    >>> alignment_block(first, second).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    writes, reads = _meeting(prev, next, blocks, block, positions, position)
    writes, reads = writes[..., : _at_least_one(k)], reads[..., :k, :, :]
    overlap = torch.einsum("...bdi,...jdp->...ijbp", writes, reads)
    both = _both(prev, SVD(*(x.to(prev.S) for x in next)), k)
    return torch.where(both, torch.linalg.vector_norm(overlap, dim=(-2, -1)), torch.nan)


def top_score(diagonal: Tensor, *, k: int = 10) -> Tensor:
    """Return the mean of the first ``k`` entries of an agreement or alignment, shape ``(...)``.

    Entries that are NaN (undefined) are left out; NaN only if none is left (Yunis et al. 2024,
    Equation 4, with k = 10).

    >>> float(top_score(torch.tensor([1.0, 0.5, float("nan"), 0.0]), k=3))
    0.75
    """
    return diagonal[..., : _at_least_one(k)].nanmean(-1)


def agreement_chance(m: int, n: int) -> float:
    """Return the expected agreement of one component of two unrelated ``m x n`` matrices.

    The product of the chance levels of its two sides, since they are independent.

    >>> agreement_chance(1, 1)
    1.0
    >>> round(agreement_chance(512, 4608) * 1e4, 2)
    4.15
    """
    return alignment_chance(m) * alignment_chance(n)


def subspace_agreement_chance(m: int, n: int, k: int) -> float:
    """Return the expected `subspace_agreement` of two unrelated ``m x n`` matrices: k^2 / (m n).

    >>> subspace_agreement_chance(100, 50, 10)
    0.02
    """
    if not 1 <= k <= min(m, n):
        raise ValueError(f"k={k} directions of a matrix of shape ({m}, {n}): choose k from 1 to {min(m, n)}")
    return k**2 / (m * n)


def alignment_chance(
    d: int,
    *,
    blocks: int = 1,
    block: int | None = None,
    positions: int = 1,
    position: int | None = None,
) -> float:
    """Return the expected alignment of layers that have nothing to do with each other.

    ``d`` is the number of features passed on; the rest is as in `alignment`. For one block and one
    position this is E|<u, v>| for random unit vectors in ``d`` dimensions, Gamma(d/2) / (sqrt(pi)
    Gamma((d+1)/2)), close to sqrt(2 / (pi d)). A chosen block or position multiplies it with the
    expected length of that part of a unit vector. Over several blocks, or several positions, the
    square has a beta distribution. Over several of both it nearly has: there, and only there, the
    value is an approximation, better than one part in a thousand.

    >>> alignment_chance(1)
    1.0
    >>> round(alignment_chance(128), 4)
    0.0707
    >>> round(alignment_chance(512, positions=9, position=4), 4), round(alignment_chance(512, positions=9), 4)
    (0.0118, 0.043)
    """
    if d < 1:
        raise ValueError(f"d={d}: vectors have at least one dimension")
    chosen = 1.0
    if _picks("block", block, blocks):
        chosen, blocks = chosen * _mean_length(d, blocks * d), 1
    if _picks("position", position, positions):
        chosen, positions = chosen * _mean_length(d, positions * d), 1
    return chosen * _mean_overlap(d, blocks, positions)


def sampled_chance(
    statistic: Callable[[SVD, SVD], Tensor],
    a_shape: tuple[int, ...],
    b_shape: tuple[int, ...],
    *,
    generator: torch.Generator,
    draws: int = 100,
) -> tuple[Tensor, Tensor]:
    """Return mean and standard error of any statistic of two unrelated Gaussian matrices.

    Singular vectors of Gaussian matrices point anywhere with equal probability, so this is the chance
    level of what has no closed form here.

    >>> draw = torch.Generator().manual_seed(0)
    >>> mean, error = sampled_chance(alignment, (8, 20), (30, 8), generator=draw, draws=50)
    >>> bool((mean.mean() - alignment_chance(8)).abs() < 2 * error.mean())
    True
    """
    if draws < 2:
        raise ValueError(f"draws={draws}: a standard error takes at least 2")

    def gaussian(shape: tuple[int, ...]) -> SVD:
        return decompose(torch.randn(shape, generator=generator, device=generator.device))

    values = torch.stack([statistic(gaussian(a_shape), gaussian(b_shape)) for _ in range(draws)])
    return values.mean(0), values.std(0) / draws**0.5


def _mean_length(part: int, whole: int) -> float:
    """Return the expected length of ``part`` coordinates of a random unit vector with ``whole``."""
    return _mean_root_beta(part / 2, (whole - part) / 2)


def _mean_overlap(d: int, blocks: int, positions: int) -> float:
    """Return the mean of ``|A' B|`` (Frobenius) for random A (d, blocks) and B (d, positions) of length 1.

    Mean and mean square of |A' B|^2 are exact; the beta distribution that has them is exact if
    either number is 1.
    """
    b, p = blocks, positions
    mean, square = 1 / d, (b * p * d + 2 * (b + p + d + 1)) / (d * (b * d + 2) * (p * d + 2))
    if d == 1:
        return 1.0
    total = (mean - square) / (square - mean**2)
    return _mean_root_beta(mean * total, (1 - mean) * total)


def _mean_root_beta(a: float, b: float) -> float:
    """Return the mean of the square root of a beta distributed number."""
    return min(1.0, exp(lgamma(a + 0.5) - lgamma(a) + lgamma(a + b) - lgamma(a + b + 0.5)))


def _meeting(
    prev: SVD, next: SVD, blocks: int, block: int | None, positions: int, position: int | None
) -> tuple[Tensor, Tensor]:
    """Return the output vectors ``(..., blocks, d, r)`` and the input vectors ``(..., r', d, positions)``."""
    writes, reads = prev.U.shape[-2], next.Vh.shape[-1]
    one_block, one_position = _picks("block", block, blocks), _picks("position", position, positions)
    if writes % blocks or reads % positions or writes // blocks != reads // positions:
        raise ValueError(
            f"alignment: a matrix of shape {_shape(prev)} writes {_counted(writes, blocks, 'blocks')} and "
            f"one of shape {_shape(next)} reads {_counted(reads, positions, 'positions')}; give the feeding layer first"
        )
    U = prev.U.reshape(*prev.U.shape[:-2], blocks, -1, prev.U.shape[-1])
    V = next.Vh.to(prev.U).reshape(*next.Vh.shape[:-1], -1, positions)
    if one_block:
        U = U[..., block, None, :, :]
    return U, (V[..., position, None] if one_position else V)


def _picks(what: str, index: int | None, count: int) -> bool:
    """Return whether one of several is chosen; refuse what is not there."""
    if count < 1:
        raise ValueError(f"{what}s={count} must be at least 1")
    if index is not None and not 0 <= index < count:
        raise ValueError(f"{what}={index} of {count}: choose from 0 to {count - 1}, or None for all of them together")
    return index is not None


def _counted(size: int, parts: int, what: str) -> str:
    return f"{size} numbers" if parts == 1 else f"{size} numbers in {parts} {what}"


def _comparable(a: SVD, b: SVD) -> tuple[SVD, SVD]:
    if _shape(a) != _shape(b):
        raise ValueError(
            f"agreement compares matrices of one shape, not {_shape(a)} with {_shape(b)}; "
            "for neighbouring layers use alignment"
        )
    return a, SVD(*(x.to(a.S) for x in b))


def _overlaps(a: SVD, b: SVD, k: int) -> tuple[Tensor, Tensor]:
    return a.U[..., :k].mT @ b.U[..., :k], a.Vh[..., :k, :] @ b.Vh[..., :k, :].mT


def _both(a: SVD, b: SVD, k: int) -> Tensor:
    return a.defined[..., :k, None] & b.defined[..., None, :k]


def _at_least_one(k: int) -> int:
    if k < 1:
        raise ValueError(f"k={k} must be at least 1")
    return k


def _within(k: int, a: SVD, b: SVD) -> int:
    most = min(a.S.shape[-1], b.S.shape[-1])
    if not 1 <= k <= most:
        raise ValueError(f"k={k} directions of matrices that have {most}: choose k from 1 to {most}")
    return k


def _shape(svd: SVD) -> tuple[int, int]:
    return svd.U.shape[-2], svd.Vh.shape[-1]
