"""A figure of the book: drawn in two themes, with a caption, words for those who cannot see it, and its data."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import pandas as pd

from specdyn.show.theme import DARK, LIGHT, Theme

MIME = "application/vnd.specdyn.figure+json"


@dataclass(frozen=True)
class Figure:
    """A figure that a notebook shows in its light form and the site in both.

    ``draw(theme)`` returns a Matplotlib figure; ``name`` is the label other text refers to; ``alt`` says in
    words, computed from the data, what is to be seen; ``data`` is offered as CSV.

    Raises ``ValueError`` where name, caption or alternative text is missing.
    """

    draw: Callable[[Theme], matplotlib.figure.Figure]
    name: str
    caption: str
    alt: str
    data: pd.DataFrame

    def __post_init__(self) -> None:
        for field in ("name", "caption", "alt"):
            if not getattr(self, field).strip():
                raise ValueError(f"figure {self.name!r} has no {field}: every figure needs one")

    def svg(self, theme: Theme) -> str:
        """Return the drawing in one theme."""
        with theme.applied():
            figure = self.draw(theme)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
            plt.close(figure)
        return file.getvalue()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {
            "text/plain": self.alt,
            "image/svg+xml": self.svg(LIGHT),
            MIME: {
                "name": self.name,
                "caption": self.caption,
                "alt": self.alt,
                "dark": self.svg(DARK),
                "csv": self.data.to_csv(index=False, float_format="%.6g"),
            },
        }
