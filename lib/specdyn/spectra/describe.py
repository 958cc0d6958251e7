"""A table of everything in a network: what is measured, what it feeds, and what is left out and why."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from specdyn.spectra.flow import Flow, Pair, follow
from specdyn.spectra.matrices import LeftOut, Matrix, read
from specdyn.spectra.table import as_html, as_text, by

_SHOWN = 3


@dataclass(frozen=True)
class Description:
    """Every parameter of a model: measured as which matrix, or left out and why.

    Prints as a table. ``matrices`` and ``left_out`` hold the rows; ``flow`` is what feeds what, or
    ``None`` where that is not known, and then ``unknown`` says why.

    >>> description = describe(nn.Linear(3, 2))
    >>> len(description.matrices), len(description.left_out)
    (1, 1)
    """

    matrices: tuple[Matrix, ...]
    left_out: tuple[LeftOut, ...]
    flow: Flow | None
    unknown: str = ""

    def rows(self) -> list[tuple[str, ...]]:
        """Return (name, kind, shape, feeds, remark) of every row, the header first.

        There is no ``feeds`` where what feeds what is not known.

        >>> describe(nn.Linear(3, 2)).rows()[1]
        ('weight', 'Linear', '2 x 3', '', 'rank at most 2')
        """
        head: tuple[str, ...] = ("name", "kind", "shape", "feeds", "remark")
        found = [(m.name, m.kind, by(m.shape), self._fed(m.name), self._remark(m)) for m in self.matrices]
        left = [(x.name, "left out", by(x.shape), "", x.reason) for x in self.left_out]
        rows = [head, *found, *left]
        return rows if self.flow else [(*row[:3], row[4]) for row in rows]

    def _fed(self, name: str) -> str:
        pairs = [pair for pair in self.flow.pairs if _concerns(pair, name)] if self.flow else []
        more = [f"and {len(pairs) - _SHOWN} more"] if len(pairs) > _SHOWN else []
        return ", ".join([_short(pair, name) for pair in pairs[:_SHOWN]] + more)

    def _remark(self, matrix: Matrix) -> str:
        rank = f"rank at most {min(matrix.shape)}"
        computed = "" if matrix.stored is not None else "computed by its layer, as in evaluation"
        unclear = self.flow.unclear.get(_apart(matrix.name)[0], "") if self.flow else ""
        return "; ".join(filter(None, (rank, computed, unclear)))

    def __str__(self) -> str:
        """Return the table as aligned text."""
        return "\n".join([as_text(self.rows()), *([self.unknown] if self.unknown else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.rows(), caption=self.unknown)


def _concerns(pair: Pair, name: str) -> bool:
    """Tell whether a pair starts at a matrix, at a piece of it, or at what it is a piece of."""
    (weight, piece), (start, label) = _apart(name), _apart(pair.previous)
    return weight == start and (not piece or not label or piece.rstrip("0123456789]") == label.rstrip("0123456789*]"))


def _short(pair: Pair, name: str) -> str:
    """Leave out of a pair what the row's name says already."""
    weight, piece = _apart(name)
    label, (end, end_piece) = _apart(pair.previous)[1], _apart(pair.next)
    following = end_piece if end == weight and end_piece else pair.next
    return f"{label if label != piece else ''} {pair.arrow} {following}".strip()


def _apart(name: str) -> tuple[str, str]:
    weight, bracket, rest = name.partition("[")
    return weight, bracket + rest


def describe(model: nn.Module, *, split: str | Collection[str] = ()) -> Description:
    """Return a table of every matrix of a model, and of every parameter left out with the reason.

    ``split`` takes layers apart as in `matrices`. The column ``feeds`` is what `feeds` finds: ``->`` for
    what reads the outputs of a matrix, ``+>`` for what reads them past other layers, ``~`` for what they
    meet.

    >>> print(describe(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 4, bias=False))))
    name      kind      shape  feeds        remark
    0.weight  Linear    2 x 3  -> 2.weight  rank at most 2
    2.weight  Linear    4 x 2               rank at most 2
    0.bias    left out  2                   a vector, not a matrix
    """
    reading = read(model)
    if not reading.measured:
        return Description((), reading.left_out, Flow((), {}))
    found = tuple(reading.matrices(split))
    try:
        return Description(found, reading.left_out, follow(model))
    except ValueError as reason:
        return Description(found, reading.left_out, None, str(reason))
