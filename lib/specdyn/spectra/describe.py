"""A table of everything in a network: what is measured, and what is not and why."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from specdyn.spectra.matrices import LeftOut, Matrix, read
from specdyn.spectra.table import as_html, as_text, by


@dataclass(frozen=True)
class Description:
    """Every parameter of a model: measured as which matrix, or left out and why.

    Prints as a table; ``matrices`` and ``left_out`` hold the rows.

    >>> description = describe(nn.Linear(3, 2))
    >>> len(description.matrices), len(description.left_out)
    (1, 1)
    """

    matrices: tuple[Matrix, ...]
    left_out: tuple[LeftOut, ...]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return (name, kind, shape, remark) of every row, the header first.

        >>> describe(nn.Linear(3, 2)).rows()[1]
        ('weight', 'Linear', '2 x 3', 'rank at most 2')
        """
        head = ("name", "kind", "shape", "remark")
        found = [(m.name, m.kind, by(m.shape), f"rank at most {min(m.shape)}") for m in self.matrices]
        left = [(x.name, "left out", by(x.shape), x.reason) for x in self.left_out]
        return [head, *found, *left]

    def __str__(self) -> str:
        """Return the table as aligned text."""
        return as_text(self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.rows())


def describe(model: nn.Module, *, split: str | Collection[str] = ()) -> Description:
    """Return a table of every matrix of a model, and of every parameter left out with the reason.

    ``split`` takes layers apart as in `matrices`.

    >>> print(describe(nn.Linear(3, 2)))
    name    kind      shape  remark
    weight  Linear    2 x 3  rank at most 2
    bias    left out  2      a vector, not a matrix
    """
    reading = read(model)
    return Description(tuple(reading.matrices(split)) if reading.measured else (), reading.left_out)
