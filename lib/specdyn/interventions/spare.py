"""Which matrices an intervention acts on, and which it leaves whole."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from specdyn.spectra import Matrix, matrices


def unspared(model: nn.Module, spare: Iterable[str] | None) -> dict[str, Matrix]:
    """Return the matrices by name without those to be left whole: by default the last one, as in the paper.

    Raises ``ValueError`` for a name the model does not have, ``TypeError`` for one name that is not in a list.

    >>> list(unspared(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), None))
    ['0.weight']
    """
    if isinstance(spare, str):
        raise TypeError(f"spare={spare!r} is one name: give a list, spare=[{spare!r}]")
    found = {matrix.name: matrix for matrix in matrices(model)}
    spared = set(list(found)[-1:]) if spare is None else set(spare)
    if unknown := spared - set(found):
        raise ValueError(f"cannot spare {sorted(unknown)}: the matrices are {list(found)}")
    return {name: matrix for name, matrix in found.items() if name not in spared}
