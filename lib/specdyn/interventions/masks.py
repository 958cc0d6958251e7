"""Masks: which weights of a network stay, and a network held to them while it learns (lottery tickets)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from specdyn.interventions.copies import copied
from specdyn.interventions.spare import unspared
from specdyn.spectra import find


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """Which weights stay, by the name of the matrix: booleans (rows, columns), as `specdyn.spectra.matrices` reads it.

    A matrix that is not named stays whole. The representation holds a hash of the content, and so does the name of
    every run that is made under the mask.

    Raises ``TypeError`` for anything but tensors of booleans.

    >>> mask = Mask({"weight": torch.tensor([[True, False, True], [False, False, True]])})
    >>> mask
    Mask(keeps 3 of 6 weights, 1a5e395932cb)
    >>> mask.kept, mask.empty
    ({'weight': 0.5}, [])
    """

    keep: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Refuse what is no choice between staying and going."""
        if bad := {name: keep.dtype for name, keep in self.keep.items() if keep.dtype is not torch.bool}:
            raise TypeError(f"a mask is made of tensors of booleans, but there are {bad}: compare, as in weights != 0")

    @property
    def kept(self) -> dict[str, float]:
        """The fraction of the weights of each matrix that stays."""
        return {name: int(keep.sum()) / keep.numel() for name, keep in self.keep.items()}

    @property
    def empty(self) -> list[str]:
        """The matrices of which nothing stays: no signal passes them."""
        return [name for name, keep in self.keep.items() if not keep.any()]

    def applied(self, model: nn.Module) -> nn.Module:
        """Return a copy of the model in which all other weights of these matrices are 0.

        BatchNorm's statistics are still those of the whole network: see `reestimate`. Raises ``ValueError`` for a
        matrix that the model does not have, that has another shape, or that its layer computes.
        """
        masked = copied(model)
        Masked(self).bind(masked)
        return masked

    def __repr__(self) -> str:
        found = hashlib.sha256()
        for name, keep in self.keep.items():
            found.update(f"{name} {tuple(keep.shape)}".encode() + keep.cpu().numpy().tobytes())
        kept = sum(int(keep.sum()) for keep in self.keep.values())
        total = sum(keep.numel() for keep in self.keep.values())
        return f"Mask(keeps {kept} of {total} weights, {found.hexdigest()[:12]})"


@dataclass(frozen=True)
class Masked:
    """Set the weights that a mask does not keep to 0, at once and after every update.

    The optimizer's momentum of these weights goes on: for SGD and Adam it concerns no other weight. Where gradients
    are clipped by their common norm, those of masked weights still count in it. A masked weight that is infinite
    becomes NaN, so that a run that diverges is still seen to.

    >>> layer = nn.Linear(3, 2)
    >>> hold = Masked(Mask({"weight": torch.tensor([[True, False, True], [False, False, True]])})).bind(layer)
    >>> with torch.no_grad(): _ = layer.weight.add_(1.0)
    >>> hold(1, 0.1)
    >>> (layer.weight == 0).tolist()
    [[False, True, False], [True, True, False]]
    """

    mask: Mask

    def bind(self, model: nn.Module) -> Callable[[int, float], None]:
        """Zero the weights and return what zeroes them again.

        Raises ``ValueError`` for a matrix that the model does not have, that has another shape, or that its layer
        computes.
        """
        weights, kept = [], []
        for name, matrix in find(model, self.mask.keep).items():
            keep = self.mask.keep[name]
            if keep.shape != matrix.view.shape:
                theirs, ours = tuple(keep.shape), tuple(matrix.view.shape)
                raise ValueError(f"the mask of {name} has shape {theirs}, but the matrix {ours}: mask its own network")
            if matrix.stored is None:
                raise ValueError(f"cannot mask {name}: computed by its layer or a stack of pieces, not stored as it is")
            weights.append(matrix.stored)
            kept.append(keep.to(matrix.stored).reshape(matrix.stored.shape))

        def zero(step: int, learning_rate: float) -> None:
            with torch.no_grad():
                for weight, factors in zip(weights, kept, strict=True):
                    weight.mul_(factors)  # filling by booleans takes ten times as long on a CPU

        zero(0, 0.0)
        return zero


def magnitude_mask(
    model: nn.Module,
    kept: float,
    *,
    scope: Literal["global", "layer"] = "global",
    spare: Iterable[str] | None = None,
    allow_empty: bool = False,
) -> Mask:
    """Keep the fraction ``kept`` of the weights that are largest in magnitude (paper, section 7.2).

    Of N weights round(``kept`` N) stay (in the official code one fewer), counted over all matrices together or, with
    ``scope="layer"``, in each of them. Among weights of the same magnitude the first stay. ``spare`` names matrices
    that stay whole and are not counted, by default the last one, as in the paper. Of a network that is masked
    already, a smaller fraction gives the next round of iterative pruning.

    Raises ``ValueError`` for a fraction outside (0, 1], an unknown scope, a name the model does not have, weights
    that are not finite, where all matrices are spared, and where nothing would be left of a matrix, unless
    ``allow_empty``.

    >>> model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    >>> magnitude_mask(model, 0.3).kept, magnitude_mask(model, 0.3, spare=()).kept.keys()
    ({'0.weight': 0.3}, dict_keys(['0.weight', '1.weight']))
    """
    if not 0 < kept <= 1:
        raise ValueError(f"kept fraction {kept} is outside (0, 1]: 0.05 keeps one weight in twenty")
    if scope not in ("global", "layer"):
        raise ValueError(f'unknown scope {scope!r}: choose "global" or "layer"')
    sizes = {name: matrix.view.abs().double().cpu() for name, matrix in unspared(model, spare).items()}
    if not sizes:
        raise ValueError("every matrix is spared, and there is nothing to mask: name fewer, such as spare=()")
    if wild := [name for name, size in sizes.items() if not size.isfinite().all()]:
        raise ValueError(f"weights of {', '.join(wild)} are not finite: mask a network that has not diverged")
    if scope == "layer":
        mask = Mask({name: _largest(size, kept) for name, size in sizes.items()})
    else:
        together = _largest(torch.cat([size.flatten() for size in sizes.values()]), kept)
        parts = torch.split(together, [size.numel() for size in sizes.values()])
        mask = Mask({name: part.view_as(sizes[name]) for name, part in zip(sizes, parts, strict=True)})
    if mask.empty and not allow_empty:
        share = 'keep the same share of every layer (scope="layer"), ' if scope == "global" else ""
        raise ValueError(
            f"nothing would be left of {', '.join(mask.empty)} at kept={kept}, and no signal would pass: keep more, "
            f"{share}spare these, or set allow_empty=True"
        )
    return mask


def random_mask(mask: Mask, generator: torch.Generator) -> Mask:
    """Return a mask that keeps as many weights of every matrix, drawn at random.

    The number is exact; the official code draws each weight on its own, and so has it on average.

    >>> mask = Mask({"weight": torch.eye(4, dtype=torch.bool)})
    >>> random_mask(mask, torch.Generator().manual_seed(0)).kept
    {'weight': 0.25}
    """
    return _redrawn(mask, lambda keep: _drawn_rows(keep.reshape(1, -1), generator).view_as(keep))


def shuffled_mask(mask: Mask, within: Literal["rows", "columns", "both"], generator: torch.Generator) -> Mask:
    """Return a mask drawn at random among those that keep as much of every row, of every column, or of both.

    This is the null against which a mask's agreement with the singular vectors is judged: which inputs and outputs
    are kept at all is still that of the mask, which weights connect them is not. ``"both"`` trades places between
    rows at random, from the mask on, 32 times for all rows in pairs (global Curveball trades: Carstens,
    Hamann, Meyer, Penschuck, Tran and Wagner 2018), and so draws uniformly in the limit.

    Raises ``ValueError`` for another ``within``.

    >>> mask = Mask({"weight": torch.eye(4, dtype=torch.bool)})
    >>> shuffled = shuffled_mask(mask, "both", torch.Generator().manual_seed(0)).keep["weight"]
    >>> shuffled.sum(0).tolist(), shuffled.sum(1).tolist()
    ([1, 1, 1, 1], [1, 1, 1, 1])
    """
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "rows": lambda keep: _drawn_rows(keep, generator),
        "columns": lambda keep: _drawn_rows(keep.T, generator).T,
        "both": lambda keep: _traded(keep, generator),
    }
    if within not in ways:
        raise ValueError(f"cannot shuffle within {within!r}: choose one of {', '.join(ways)}")
    return _redrawn(mask, ways[within])


_TRADES = 32


def _redrawn(mask: Mask, how: Callable[[Tensor], Tensor]) -> Mask:
    return Mask({name: how(keep.cpu()) for name, keep in mask.keep.items()})


def _largest(sizes: Tensor, fraction: float) -> Tensor:
    """Return where the round(fraction N) largest of N numbers are, of equal ones the first.

    ``torch.nn.utils.prune`` leaves it to ``topk`` which of equal ones go, and that is another choice on every device.
    It also moves the weights to parameters of other names, which no checkpoint of the dense network fits.
    """
    first = sizes.flatten().argsort(descending=True, stable=True)[: round(fraction * sizes.numel())]
    return torch.zeros(sizes.numel(), dtype=torch.bool).index_fill(0, first, True).view_as(sizes)


def _drawn(among: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Return in every row of ``among`` as many of its places as ``counts`` says, drawn at random."""
    scores = torch.rand(among.shape, dtype=torch.float64, generator=generator).masked_fill(~among, -1)
    first = torch.arange(among.shape[1]) < counts.unsqueeze(1)
    return torch.zeros_like(among).scatter(1, scores.argsort(dim=1, descending=True), first)


def _drawn_rows(keep: Tensor, generator: torch.Generator) -> Tensor:
    return _drawn(torch.ones_like(keep), keep.sum(1), generator)


def _traded(keep: Tensor, generator: torch.Generator) -> Tensor:
    """Pair the rows at random and share out anew what only one row of a pair has, many times over."""
    keep = keep.clone()
    for _ in range(_TRADES):
        one, two = torch.randperm(len(keep), generator=generator)[: len(keep) // 2 * 2].view(2, -1)
        both, alone = keep[one] & keep[two], keep[one] ^ keep[two]
        drawn = _drawn(alone, (keep[one] & alone).sum(1), generator)
        keep[one], keep[two] = both | drawn, both | (alone & ~drawn)
    return keep
