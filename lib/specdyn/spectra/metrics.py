"""Pure functions of spectra and of singular vectors.

Functions of a spectrum take singular values ``s`` of shape ``(..., R)``, as a tensor or an array,
in any order, and return one float64 number per spectrum, shape ``(...)``, of the same kind.
Inputs are never changed. With p = s / sum(s), 0 log 0 is 0.
"""

from math import exp, lgamma, pi, sqrt
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specdyn.spectra.decompose import SVD

Values = TypeVar("Values", Tensor, NDArray[Any])


def effective_rank(s: Values) -> Values:
    """Return exp(H) / R in (0, 1]: the share of directions that are effectively in use.

    H is the entropy of p = s / sum(s) and R the number of singular values (Roy and Vetterli 2007,
    divided by R as in the code of Yunis et al. 2024). A flat spectrum gives 1, a rank-one matrix
    1 / R, a zero matrix 0.

    >>> float(effective_rank(torch.tensor([1.0, 1.0, 0.0, 0.0])))
    0.5
    >>> float(effective_rank(np.zeros(3)))
    0.0
    """
    values = _read(s)
    rank = (torch.exp(_entropy(values)) / values.shape[-1]).clamp_max(1)  # rounding can exceed 1
    return _like(s, torch.where(values.amax(-1) > 0, rank, 0.0))


def spectral_entropy(s: Values, *, normalized: bool = False) -> Values:
    """Return H = -sum p log p in nats, or with ``normalized=True`` H / log R in [0, 1].

    This is the effective rank as Yunis et al. 2024 write it in their Equation 1. A zero spectrum
    and, if normalised, a single singular value give 0.

    >>> float(spectral_entropy(np.ones(8), normalized=True))
    1.0
    """
    values = _read(s)
    entropy = _entropy(values)
    if normalized and values.shape[-1] > 1:
        entropy = entropy / np.log(values.shape[-1])
    return _like(s, entropy)


def count_rank(s: Values, *, mass: float = 0.9) -> Values:
    """Return k / R for the smallest k that exceeds ``mass``; a zero spectrum gives 0.

    The k largest singular values hold more than that fraction of the sum (the count in the code of
    Yunis et al. 2024).

    >>> float(count_rank(torch.tensor([8.0, 1.5, 0.5, 0.0])))
    0.5
    """
    if not 0 <= mass < 1:
        raise ValueError(f"mass={mass} must lie in [0, 1): it is a fraction of the sum")
    values = _read(s)
    p = _shares(values).sort(-1, descending=True).values
    k = (p.cumsum(-1) <= mass).sum(-1) + 1
    share = k.clamp_max(values.shape[-1]).to(values.dtype) / values.shape[-1]
    return _like(s, torch.where(values.amax(-1) > 0, share, 0.0))


def stable_rank(s: Values) -> Values:
    """Return sum(s^2) / s_1^2, between 1 and R; 0 for a zero spectrum.

    >>> float(stable_rank(torch.tensor([2.0, 1.0, 1.0])))
    1.5
    """
    values = _read(s)
    return _like(s, (values / _nonzero(values.amax(-1, keepdim=True))).square().sum(-1))


def gini(s: Values) -> Values:
    """Return the Gini coefficient: 0 for equal singular values, 1 - 1/R for a single one.

    >>> float(gini(np.array([1.0, 0.0, 0.0, 0.0])))
    0.75
    """
    values = _read(s)
    p = _shares(values).sort(-1).values
    R = values.shape[-1]
    place = 2 * torch.arange(1, R + 1, device=values.device) - R - 1
    return _like(s, (place * p).sum(-1) / R)


def frobenius_norm(s: Values) -> Values:
    """Return sqrt(sum(s^2)), the Frobenius norm of the matrix.

    >>> float(frobenius_norm(torch.tensor([4.0, 3.0])))
    5.0
    """
    return _like(s, torch.linalg.vector_norm(_read(s), dim=-1))


def agreement(a: SVD, b: SVD) -> Tensor:
    """Return ``|<u_j, u'_j> <v_j, v'_j>|`` for j = 1..R, shape ``(..., R)``, in [0, 1].

    Compares component j of two matrices of one shape, at two times or in two networks (Yunis et
    al. 2024, Equation 5). 1 means the same direction up to sign; `agreement_chance` is what
    unrelated matrices give. NaN where either matrix has no component j (see `SVD.defined`).

    >>> from specdyn.spectra import decompose
    >>> svd = decompose(torch.diag(torch.tensor([2.0, 1.0])))
    >>> agreement(svd, svd).tolist()
    [1.0, 1.0]
    """
    if a.U.shape[-2] != b.U.shape[-2] or a.Vh.shape[-1] != b.Vh.shape[-1]:
        raise ValueError(
            f"agreement compares matrices of one shape, not {_shape(a)} with {_shape(b)}; "
            "for neighbouring layers use alignment"
        )
    overlap = (a.U * b.U).sum(-2) * (a.Vh * b.Vh).sum(-1)
    return torch.where(a.defined & b.defined, overlap.abs(), torch.nan)


def alignment(prev: SVD, next: SVD) -> Tensor:
    """Return ``|<u_j, v'_j>|`` for j = 1..min(R, R'): what layer ``prev`` writes, ``next`` reads.

    ``u_j`` are the left (output) vectors of the earlier matrix, ``v'_j`` the right (input) vectors
    of the one it feeds (Yunis et al. 2024, the diagonal of Equation 3). `alignment_chance` is what
    unrelated layers give. NaN where either matrix has no component j (see `SVD.defined`).

    >>> from specdyn.spectra import decompose
    >>> first = decompose(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    >>> second = decompose(torch.tensor([[5.0, 0.0], [0.0, 3.0]]))
    >>> alignment(first, second).tolist()
    [1.0, 1.0]
    """
    if prev.U.shape[-2] != next.Vh.shape[-1]:
        raise ValueError(
            f"alignment: a matrix of shape {_shape(prev)} writes {prev.U.shape[-2]} numbers and "
            f"one of shape {_shape(next)} reads {next.Vh.shape[-1]}; give the feeding layer first"
        )
    k = min(prev.S.shape[-1], next.S.shape[-1])
    overlap = (prev.U[..., :k] * next.Vh[..., :k, :].mT).sum(-2)
    both = prev.defined[..., :k] & next.defined[..., :k]
    return torch.where(both, overlap.abs(), torch.nan)


def top_score(diagonal: Tensor, *, k: int = 10) -> Tensor:
    """Return the mean of the first ``k`` entries of an agreement or alignment, shape ``(...)``.

    Entries that are NaN (undefined) are left out; NaN only if none is left (Yunis et al. 2024,
    Equation 4, with k = 10).

    >>> float(top_score(torch.tensor([1.0, 0.5, float("nan"), 0.0]), k=3))
    0.75
    """
    if k < 1:
        raise ValueError(f"k={k} must be at least 1")
    return diagonal[..., :k].nanmean(-1)


def alignment_chance(d: int) -> float:
    """Return E|<u, v>| for independent random unit vectors in ``d`` dimensions.

    Exactly Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)), close to sqrt(2 / (pi d)).

    >>> alignment_chance(1)
    1.0
    >>> round(alignment_chance(128), 4)
    0.0707
    """
    if d < 1:
        raise ValueError(f"d={d}: vectors have at least one dimension")
    return min(1.0, exp(lgamma(d / 2) - lgamma((d + 1) / 2)) / sqrt(pi))


def agreement_chance(m: int, n: int) -> float:
    """Return the expected agreement of one component of two unrelated ``m x n`` matrices.

    The product of the chance levels of its two sides, since they are independent.

    >>> agreement_chance(1, 1)
    1.0
    >>> round(agreement_chance(512, 4608) * 1e4, 2)
    4.15
    """
    return alignment_chance(m) * alignment_chance(n)


def _shape(svd: SVD) -> tuple[int, int]:
    return svd.U.shape[-2], svd.Vh.shape[-1]


def _read(s: Tensor | NDArray[Any]) -> Tensor:
    """Return the spectrum as float64, or float32 where the device has no float64."""
    # A copy, since tensors cannot share reversed or read-only arrays.
    values = s.detach() if isinstance(s, Tensor) else torch.from_numpy(np.array(s, dtype=np.float64))
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"shape {tuple(values.shape)} holds no singular values: give (..., R)")
    values = values.float() if values.device.type == "mps" else values.double()
    bad = int((~(values >= 0) | values.isinf()).sum())
    if bad:
        raise ValueError(
            f"{bad} of {values.numel()} singular values are negative, NaN or infinite; "
            "a spectrum comes from singular_values(matrix) or snapshot[name].singular_values"
        )
    return values


def _like(s: Values, result: Tensor) -> Values:
    if isinstance(s, Tensor):
        return result
    return result.numpy()[()]


def _nonzero(total: Tensor) -> Tensor:
    return torch.where(total > 0, total, 1.0)


def _shares(values: Tensor) -> Tensor:
    scaled = values / _nonzero(values.amax(-1, keepdim=True))  # the sum cannot overflow
    return scaled / _nonzero(scaled.sum(-1, keepdim=True))


def _entropy(values: Tensor) -> Tensor:
    terms: Tensor = torch.special.entr(_shares(values))
    return terms.sum(-1)
