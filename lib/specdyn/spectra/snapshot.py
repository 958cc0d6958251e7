"""All matrices of a network at one moment, each decomposed once."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from specdyn.spectra import directions, metrics
from specdyn.spectra.decompose import SVD, Method, decompose, singular_values
from specdyn.spectra.matrices import Matrix, read
from specdyn.spectra.table import as_html, as_text, by

Array = NDArray[np.float64]

Rule = Literal["paper", "norm"]
"""How layers with several blocks or positions are compared: see `Snapshot.alignment`."""

PairLike = tuple[str, str] | tuple[str, str, str]
"""Two names of matrices, and between which of their sides they are compared: a `Pair` is one."""


def _read_off(metric: Callable[[Array], Array]) -> "cached_property[float]":
    """Return a property that is a metric of the singular values."""

    def value(spectrum: "Spectrum") -> float:
        return float(metric(spectrum.singular_values))

    value.__doc__ = f"See `{metric.__name__}`. {(metric.__doc__ or '').splitlines()[0]}"
    return cached_property(value)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One matrix of a snapshot: singular values (float64, largest first) and all read off them.

    ``blocks`` to ``position`` say what rows and columns stand for, as in `Part`.

    >>> spectrum = Spectrum("weight", "Linear", (2, 2), np.array([3.0, 1.0]))
    >>> spectrum.stable_rank, spectrum.nuclear_norm, spectrum.collapsed
    (1.1111111111111112, 4.0, False)
    """

    name: str
    kind: str
    shape: tuple[int, int]
    singular_values: Array
    vectors: SVD | None = None
    blocks: int = 1
    block: int = 0
    positions: int = 1
    position: int = 0

    effective_rank = _read_off(metrics.effective_rank)
    spectral_entropy = _read_off(metrics.spectral_entropy)
    count_rank = _read_off(metrics.count_rank)
    stable_rank = _read_off(metrics.stable_rank)
    gini = _read_off(metrics.gini)
    spectral_norm = _read_off(metrics.spectral_norm)
    frobenius_norm = _read_off(metrics.frobenius_norm)
    nuclear_norm = _read_off(metrics.nuclear_norm)

    @property
    def svd(self) -> SVD:
        """The decomposition, for `agreement`, `alignment` and `truncate`.

        >>> measure(nn.Linear(3, 2))["weight"].svd.Vh.shape
        torch.Size([2, 3])
        """
        if self.vectors is None:
            raise ValueError(f"{self.name} was measured without vectors: measure(model, vectors=True)")
        return self.vectors

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
            f"Spectrum({self.name!r}, {by(self.shape)}, effective_rank={self.effective_rank:.3f}, "
            f"stable_rank={self.stable_rank:.2f}, frobenius_norm={self.frobenius_norm:.3g})"
        )


class _Meaning(TypedDict):
    """What the functions of `directions` want to know of a pair's rows and columns."""

    blocks: int
    block: int | None
    positions: int
    position: int | None


class Snapshot(Mapping[str, Spectrum]):
    """The spectra of a network by matrix name, in the order of its parameters; prints as a table.

    >>> snapshot = measure(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)))
    >>> [spectrum.shape for spectrum in snapshot.values()]
    [(2, 3), (4, 2)]
    """

    def __init__(self, spectra: Mapping[str, Spectrum], paired: Mapping[str, Spectrum]) -> None:
        """Hold the spectra, which `measure` makes, and those that only pairs are about."""
        self._spectra = spectra
        self._paired = paired

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

    def alignment(self, pair: PairLike, rule: Rule = "paper") -> Tensor:
        """Return how the first matrix of a pair meets the second, component by component.

        ``("a", "b")`` compares what ``a`` writes with what ``b`` reads, ``("q", "k", "~")`` what both
        write. ``rule="paper"`` looks at the candidate gate of an LSTM and at the centre of a kernel, as
        the paper does; ``rule="norm"`` takes the root of the sum of squares over all gates and
        positions, which compares across kinds of layers. Heads are averaged. A layer that reads
        flattened maps reads the features of the first matrix at several positions.

        Raises ``ValueError`` for a pair that was not measured with vectors, or does not fit together.

        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> with torch.no_grad():
        ...     for layer in model:
        ...         _ = layer.weight.copy_(torch.diag(torch.tensor([2.0, 1.0])))
        >>> measure(model).alignment(("0.weight", "1.weight")).tolist()
        [1.0, 1.0]
        """
        previous, following, meaning = self._meet(pair, rule)
        return _over_heads(directions.alignment(previous, following, **meaning), 1)

    def alignment_block(self, pair: PairLike, rule: Rule = "paper", k: int = 10) -> Tensor:
        """Return the same for the first ``k`` components of the one with each of the other, (k, k).

        >>> attention = nn.MultiheadAttention(8, 2)
        >>> snapshot = measure(attention, pairs=[("in_proj_weight[q*]", "in_proj_weight[k*]", "~")])
        >>> snapshot.alignment_block(("in_proj_weight[q*]", "in_proj_weight[k*]", "~"), k=3).shape
        torch.Size([3, 3])
        """
        previous, following, meaning = self._meet(pair, rule)
        return _over_heads(directions.alignment_block(previous, following, **meaning, k=k), 2)

    def alignment_chance(self, pair: PairLike, rule: Rule = "paper") -> float:
        """Return what a pair of layers that have nothing to do with each other would give.

        >>> model = nn.Sequential(nn.Linear(3, 128), nn.Linear(128, 2))
        >>> round(measure(model).alignment_chance(("0.weight", "1.weight")), 4)
        0.0707
        """
        previous, _, meaning = self._meet(pair, rule)
        return directions.alignment_chance(previous.U.shape[-2] // meaning["blocks"], **meaning)

    def _meet(self, pair: PairLike, rule: Rule) -> tuple[SVD, SVD, _Meaning]:
        """Return both decompositions, so turned that the first writes what the second reads."""
        if rule not in get_args(Rule):
            raise ValueError(f'unknown rule {rule!r}: choose "paper" or "norm"')
        first, second, arrow = link(pair)
        a, b = self._side(first), self._side(second)
        if arrow == "~":
            following, positions, position = b.svd.mT, 1, 0
        else:
            following, (positions, position) = b.svd, _positions(a, b)
        if rule == "norm":
            return a.svd, following, _Meaning(blocks=a.blocks, block=None, positions=positions, position=None)
        return a.svd, following, _Meaning(blocks=a.blocks, block=a.block, positions=positions, position=position)

    def _side(self, name: str) -> Spectrum:
        spectrum = self._spectra.get(name) or self._paired.get(name)
        if spectrum is None:
            raise ValueError(f"{name} is not in this snapshot: measure(model, pairs=[...]) with the pairs you ask for")
        return spectrum

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("name", "kind", "shape", "effective rank", "stable rank", "spectral norm", "Frobenius norm")
        body = [(s.name, s.kind, by(s.shape), *_formatted(s)) for s in self.values()]
        return [head, *body]

    def __repr__(self) -> str:
        """Return the table as aligned text."""
        return as_text(self._rows())

    def _repr_html_(self) -> str:
        return as_html(self._rows())


def measure(
    model: nn.Module,
    *,
    split: str | Collection[str] = (),
    pairs: Iterable[PairLike] = (),
    vectors: bool | Collection[str] = True,
    method: Method = "auto",
    weights: Mapping[str, Tensor] | None = None,
) -> Snapshot:
    """Decompose every matrix of a model once and return the snapshot.

    ``split`` takes layers apart as in `matrices`. ``vectors`` names the matrices whose singular vectors
    are wanted; ``True`` is all of them, ``False`` none, at less than half the cost. ``pairs`` are those
    whose alignment is wanted: their matrices come with vectors in any case, and may be any that `find`
    knows. ``method`` is that of `decompose`. Weights in bfloat16 or float16 are read exactly as they are
    stored; ``weights`` gives values to read instead, by the name of the parameter, where the optimizer
    keeps a master copy in float32. Nothing is written to the model and no random number is drawn.

    Raises ``ValueError`` naming the parameter where one is lazy or on the meta device, where a matrix is
    not finite, and where a name is not in the model; and if there is no matrix at all.

    >>> model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 2))
    >>> _ = nn.init.eye_(model[0].weight)
    >>> snapshot = measure(model)
    >>> list(snapshot)
    ['0.weight', '1.weight']
    >>> round(snapshot["0.weight"].effective_rank, 6)
    1.0
    """
    reading = read(model, weights)
    found = {matrix.name: matrix for matrix in reading.matrices(split)}
    named = dict.fromkeys(name for pair in pairs for name in link(pair)[:2])
    extra = reading.find(name for name in named if name not in found)
    wanted = _with_vectors(vectors, found).union(named)
    decomposed = _Decomposed(method)
    for matrix in (*found.values(), *extra.values()):
        if matrix.name in wanted:
            decomposed.add(matrix)
    return Snapshot(
        {name: decomposed.spectrum(matrix, vectors=name in wanted) for name, matrix in found.items()},
        {name: decomposed.spectrum(matrix, vectors=True) for name, matrix in extra.items()},
    )


def _formatted(s: Spectrum) -> tuple[str, str, str, str]:
    return f"{s.effective_rank:.3f}", f"{s.stable_rank:.2f}", f"{s.spectral_norm:.3g}", f"{s.frobenius_norm:.3g}"


class _Decomposed:
    """Decompositions by the memory that was decomposed: a tied weight, read the other way, is turned."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._known: dict[Any, SVD] = {}

    def add(self, matrix: Matrix) -> None:
        """Decompose a matrix, unless this was done already."""
        key, turned = _keys(matrix.view)
        if key not in self._known:
            svd = decompose(matrix.view, method=self._method, name=matrix.name)
            self._known |= {turned: svd.mT, key: svd}

    def spectrum(self, matrix: Matrix, *, vectors: bool) -> Spectrum:
        """Return the spectrum of a matrix, from its decomposition where there is one."""
        svd = self._known.get(_keys(matrix.view)[0])
        S = singular_values(matrix.view, method=self._method, name=matrix.name) if svd is None else svd.S
        meaning = matrix.blocks, matrix.block, matrix.positions, matrix.position
        values = S.cpu().double().numpy()
        return Spectrum(matrix.name, matrix.kind, matrix.shape, values, svd if vectors else None, *meaning)


def _keys(view: Tensor) -> tuple[Any, Any]:
    """Tell where a matrix lies in memory, and where its transpose would."""
    place, turned = (view.device, view.data_ptr()), view.mT
    return (*place, view.shape, view.stride()), (*place, turned.shape, turned.stride())


def _with_vectors(vectors: bool | Collection[str], found: Mapping[str, Matrix]) -> set[str]:
    if isinstance(vectors, bool):
        return set(found) if vectors else set()
    names = {vectors} if isinstance(vectors, str) else set(vectors)
    if unknown := names - set(found):
        raise ValueError(f"vectors: no matrix {', '.join(sorted(unknown))}; the matrices are {', '.join(found)}")
    return names


def link(pair: PairLike) -> tuple[str, str, Any]:
    """Return the two names of a pair and its arrow; raise ``ValueError`` for what is no pair.

    >>> link(("up.weight", "down.weight"))
    ('up.weight', 'down.weight', '->')
    """
    if isinstance(pair, str) or len(pair) not in (2, 3):
        raise ValueError(
            f'{pair!r} is no pair: give [("a", "b"), ...], or what specdyn.declare(model, "a -> b") returns'
        )
    first, second, arrow = (*pair, "->")[:3]
    if arrow not in ("->", "+>", "~"):
        raise ValueError(f'({first}, {second}): unknown arrow {arrow!r}; choose "->", "+>" or "~"')
    return first, second, arrow


def _positions(a: Spectrum, b: Spectrum) -> tuple[int, int]:
    """Return at how many positions ``b`` reads what ``a`` writes, and which one is the centre."""
    features = a.shape[0] // a.blocks
    if b.positions == 1 and b.shape[1] > features and b.shape[1] % features == 0:
        count = b.shape[1] // features
        return count, count // 2
    return b.positions, b.position


def _over_heads(scores: Tensor, ndim: int) -> Tensor:
    """Average over the dimensions before the last ``ndim``, leaving out what is undefined."""
    return scores if scores.ndim == ndim else scores.flatten(0, -ndim - 1).nanmean(0)
