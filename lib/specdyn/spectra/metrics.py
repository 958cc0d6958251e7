"""Pure functions of a spectrum: ranks, norms and measures of inequality.

They take singular values ``s`` of shape ``(..., R)``, as a tensor or an array,
in any order, and return one float64 number per spectrum, shape ``(...)``, of the same kind.
Inputs are never changed. With p = s / sum(s), 0 log 0 is 0.
"""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def spectral_norm(s: Values) -> Values:
    """Return s_1, the largest singular value: the most the matrix can stretch a vector.

    >>> float(spectral_norm(np.array([3.0, 4.0])))
    4.0
    """
    return _like(s, _read(s).amax(-1))


def nuclear_norm(s: Values) -> Values:
    """Return sum(s), the nuclear norm of the matrix.

    >>> float(nuclear_norm(np.array([3.0, 4.0])))
    7.0
    """
    return _like(s, _read(s).sum(-1))


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
