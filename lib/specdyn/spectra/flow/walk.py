"""Go through the calls of a network once and note which matrix reads the outputs of which."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import Any, Literal, NamedTuple

from torch import Tensor

from specdyn.spectra.flow.features import Features, Lost, Run, Source
from specdyn.spectra.layers import Part
from specdyn.spectra.matrices import Reading

Arrow = Literal["->", "+>", "~"]


class Pair(NamedTuple):
    """Two matrices that meet: ``next`` reads the outputs of ``previous``.

    The arrow is ``->`` for directly (whatever keeps features apart may lie between: an activation, a norm,
    a pool), ``+>`` for past other layers on a residual or skip branch, and ``~`` where the outputs of both
    are multiplied with each other, as queries and keys are. The names are those of `matrices` and
    its pieces: ``[q*]`` is a stack of all heads, ``[:,0:64]`` are the columns that read the first 64
    features, ``[0:64,:]`` the rows that give them, ``[0:64:16,:]`` the same as a stack of heads of 16 rows.

    >>> print(Pair("conv1.weight", "conv2.weight"))
    conv1.weight -> conv2.weight
    """

    previous: str
    next: str
    arrow: Arrow = "->"

    def __str__(self) -> str:
        """Return the pair as a line that `declare` understands."""
        return f"{self.previous} {self.arrow} {self.next}"


class Plain(Enum):
    """The value of whatever has no features to follow: an input, a position, a number not known yet."""

    PLAIN = "plain"


PLAIN = Plain.PLAIN


@dataclass(frozen=True)
class Weight:
    """A parameter by its name, as a function is given it; ``turned`` if its two axes are exchanged."""

    name: str
    shape: tuple[int, ...]
    turned: bool = False


class Walk:
    """What is known half-way through a network, and what the rules for layers and functions may do.

    ``rank`` is how many axes the outputs of linear layers are taken to have where the input of the network
    does not tell. ``pairs`` are collected in the order in which they are met; ``unclear`` says of a matrix
    why more may feed it than the pairs say; ``kept`` says of a layer that leaves features in their places whose
    they are; ``used`` are the matrices that were come by, and ``emitted`` counts how often one was.
    """

    def __init__(self, reading: Reading, rank: int) -> None:
        """Start with nothing found."""
        self.reading = reading
        self.rank = rank
        self.pairs: dict[Pair, None] = {}
        self.unclear: dict[str, dict[str, None]] = {}
        self.kept: dict[str, frozenset[str]] = {}
        self.used: set[str] = set()
        self.emitted = 0
        self._widths: dict[str, int] = {}

    def emit(self, width: int, axes: Sequence[int | None], *matrices: str) -> Features | Lost:
        """Return a tensor with the outputs of matrices along one axis, ``0`` in ``axes``."""
        self.used.update(matrices)
        self.emitted += 1
        unknown = [name for name in matrices if name not in self.reading.parts]
        if unknown:
            return Lost.because(f"comes through {', '.join(unknown)}, which is not measured")
        self._widths.update(dict.fromkeys(matrices, width))
        run = Run(width, frozenset(Source(name, 0) for name in matrices))
        return Features((run,), (width,), tuple(axes))

    def axes(self, value: Any) -> tuple[int | None, ...]:
        """Return the axes of what a linear layer makes of a tensor: features along the last."""
        count = len(value.axes) if isinstance(value, Features) else self.rank
        return (*[None] * (count - 1), 0)

    def read(self, name: str, value: Any, axis: int = -1, label: str = "") -> None:
        """Note that a matrix, or a piece of it, reads what lies along an axis of a tensor."""
        self.used.add(name)
        if name not in self.reading.parts or not isinstance(value, Features | Lost):
            return
        target = f"{name}[{label}]" if label else name
        if isinstance(value, Lost):
            return self.doubt(target, value.reasons)
        if value.along(axis) != 0 or len(value.sizes) > 1:
            return self.doubt(target, [*value.reasons, "reads along another axis than that of the features"])
        matrix = self._part(name, label)
        columns = matrix.view.shape[-1] // matrix.positions
        runs = _filled(value.runs, columns)
        width = sum(run.width or 0 for run in runs)
        if not width or columns % width or (columns != width and not value.flat):
            return self.doubt(target, [*value.reasons, f"{width} features seem to arrive where it reads {columns}"])
        self._read_runs(target, runs, columns // width)

    def _read_runs(self, target: str, runs: Sequence[Run], positions: int) -> None:
        low = 0
        for run in runs:
            high = low + (run.width or 0) * positions
            columns = f"[:,{low}:{high}]" if len(runs) > 1 else ""
            for source in sorted(run.sources):
                self._pair(self._rows(source, run.width or 0), target + columns, "+>" if source.skip else "->")
            self.doubt(target + columns, run.unclear)
            low = high

    def meet(self, left: Features, right: Features) -> None:
        """Note that the outputs of two matrices are multiplied with each other, head by head if split."""
        runs = [run for x in (left, right) for run in x.runs]
        if len(runs) > 2 or runs[0].width is None or runs[0].width != runs[1].width:
            return
        heads = prod(size or 1 for size in left.sizes[:-1])
        for one in sorted(runs[0].sources):
            for other in sorted(runs[1].sources):
                if one != other and not (one.skip or other.skip):
                    previous, following = (self._rows(source, runs[0].width, heads) for source in (one, other))
                    self._pair(previous, following, "~")

    def keep(self, path: str, x: Any) -> None:
        """Note whose outputs a layer leaves in their places, if these are all its features."""
        if isinstance(x, Features) and len(x.runs) == 1 and not any(source.start for source in x.runs[0].sources):
            self.kept[path] = frozenset(source.matrix for source in x.runs[0].sources)

    def doubt(self, matrix: str, reasons: Iterable[str]) -> None:
        """Note why more may feed a matrix than what is known."""
        for reason in reasons:
            self.unclear.setdefault(matrix, {})[reason] = None

    def _pair(self, previous: str, following: str, arrow: Arrow) -> None:
        self.pairs[Pair(previous, following, arrow)] = None

    def _part(self, name: str, label: str) -> Part:
        return next(part for part in self.reading.parts[name] if part.label == label)

    def _rows(self, source: Source, width: int, heads: int = 1) -> str:
        """Name the rows of a matrix that give some of its outputs, as a stack if they are heads."""
        name, first, last = source.matrix, source.start, source.start + width
        if heads > 1:
            each = width // heads
            labels = [self._label(name, start, each) for start in range(first, last, each)]
            stem = labels[0].rstrip("0123456789")
            starred = bool(stem) and labels == [f"{stem}{head}" for head in range(heads)]
            return f"{name}[{stem}*]" if starred else f"{name}[{first}:{last}:{each},:]"
        if width == self._widths[name]:
            return name
        label = self._label(name, first, width)
        return f"{name}[{label}]" if label else f"{name}[{first}:{last},:]"

    def _label(self, name: str, first: int, count: int) -> str:
        """Return what a matrix's rows from ``first`` on are called, if they are called anything."""
        whole, *pieces = self.reading.parts[name]
        return next((piece.label for piece in pieces if _rows_of(piece.view, whole.view) == (first, count)), "")


def _rows_of(piece: Tensor, whole: Tensor) -> tuple[int, int] | None:
    """Return the first row and the number of rows of a piece, if it consists of whole rows."""
    if piece.shape[1] != whole.shape[1] or piece.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        return None
    return (piece.storage_offset() - whole.storage_offset()) // max(whole.stride(0), 1), piece.shape[0]


def _filled(runs: Sequence[Run], columns: int) -> list[Run]:
    """Give a run of unknown width what the others leave of a matrix's columns."""
    rest = columns - sum(run.width or 0 for run in runs)
    alone = [run.width for run in runs].count(None) == 1 and rest > 0
    return [replace(run, width=rest) if run.width is None and alone else run for run in runs]
