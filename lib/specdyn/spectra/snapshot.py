"""All matrices of a network at one moment, each decomposed once."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from specdyn.spectra import metrics
from specdyn.spectra.decompose import SVD, decompose, singular_values
from specdyn.spectra.matrices import Matrix, matrices


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One matrix of a snapshot: singular values (float64, largest first) and all read off them."""

    name: str
    kind: str
    shape: tuple[int, int]
    singular_values: NDArray[np.float64]
    vectors: SVD | None = None

    @property
    def svd(self) -> SVD:
        """The decomposition, for `agreement`, `alignment` and `truncate`.

        >>> measure(nn.Linear(3, 2))["weight"].svd.Vh.shape
        torch.Size([2, 3])
        """
        if self.vectors is None:
            raise ValueError(f"{self.name} was measured without vectors: measure(model, vectors=True)")
        return self.vectors

    @cached_property
    def effective_rank(self) -> float:
        """exp(H) / R, see `metrics.effective_rank`.

        >>> measure(nn.Linear(1, 4))["weight"].effective_rank
        1.0
        """
        return float(metrics.effective_rank(self.singular_values))

    @cached_property
    def stable_rank(self) -> float:
        """sum(s^2) / s_1^2, see `metrics.stable_rank`.

        >>> measure(nn.Linear(1, 4))["weight"].stable_rank
        1.0
        """
        return float(metrics.stable_rank(self.singular_values))

    @cached_property
    def frobenius_norm(self) -> float:
        """sqrt(sum(s^2)), see `metrics.frobenius_norm`.

        >>> layer = nn.Linear(3, 2)
        >>> abs(measure(layer)["weight"].frobenius_norm - layer.weight.norm().item()) < 1e-6
        True
        """
        return float(metrics.frobenius_norm(self.singular_values))

    @property
    def collapsed(self) -> bool:
        """Whether the matrix is zero, so that its ranks are 0 and its vectors arbitrary.

        >>> layer = nn.Linear(3, 2)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> measure(layer)["weight"].collapsed
        True
        """
        return not self.singular_values[0] > 0

    def __repr__(self) -> str:
        """Return name, shape and the three numbers most asked for."""
        return (
            f"Spectrum({self.name!r}, {self.shape[0]} x {self.shape[1]}, "
            f"effective_rank={self.effective_rank:.3f}, stable_rank={self.stable_rank:.2f}, "
            f"frobenius_norm={self.frobenius_norm:.3g})"
        )


class Snapshot(Mapping[str, Spectrum]):
    """The spectra of a network by matrix name, in the order of its parameters.

    >>> snapshot = measure(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)))
    >>> [spectrum.shape for spectrum in snapshot.values()]
    [(2, 3), (4, 2)]
    """

    def __init__(self, spectra: dict[str, Spectrum]) -> None:
        """Hold the spectra, which `measure` makes."""
        self._spectra = spectra

    def __getitem__(self, name: str) -> Spectrum:
        """Return the spectrum of one matrix; raise ``KeyError`` with the names there are."""
        if name not in self._spectra:
            raise KeyError(f"no matrix {name!r} in this snapshot; it has {', '.join(self)}")
        return self._spectra[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._spectra)

    def __len__(self) -> int:
        """Return the number of matrices."""
        return len(self._spectra)

    def __repr__(self) -> str:
        """Return one line per matrix."""
        return "\n".join(map(repr, self._spectra.values()))


def measure(model: nn.Module, *, split: str | Collection[str] = (), vectors: bool | Collection[str] = True) -> Snapshot:
    """Decompose every matrix of a model once and return the snapshot.

    ``split`` takes layers apart as in `matrices`. ``vectors`` names the matrices whose singular
    vectors are wanted; ``True`` is all of them, ``False`` none, at less than half the cost. Weights in
    bfloat16 or float16 are read as they are stored. Nothing is written to the model and no random number
    is drawn.

    Raises ``ValueError`` naming the parameter where a matrix is empty, lazy, or not finite.

    >>> model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 2))
    >>> _ = nn.init.eye_(model[0].weight)
    >>> snapshot = measure(model)
    >>> list(snapshot)
    ['0.weight', '1.weight']
    >>> round(snapshot["0.weight"].effective_rank, 6)
    1.0
    """
    return Snapshot(
        {
            matrix.name: _spectrum(matrix, vectors if isinstance(vectors, bool) else matrix.name in vectors)
            for matrix in matrices(model, split=split)
        }
    )


def _spectrum(matrix: Matrix, vectors: bool) -> Spectrum:
    svd: Any = decompose(matrix.view, name=matrix.name) if vectors else None
    values = svd.S if vectors else singular_values(matrix.view, name=matrix.name)
    return Spectrum(matrix.name, matrix.kind, matrix.shape, values.cpu().numpy(), svd)
