"""The book's look: two themes, one meaning for each colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex

ROLES = {
    "training error": "blue",
    "validation error": "orange",
    "strict error": "red",
    "effective rank": "green",
    "chance": "grey",
    "theory": "grey",
    "measured": "blue",
    "trained": "blue",
    "random walk": "grey",
    "operations": "grey",
    "whole network": "blue",
    "top half": "ochre",
    "bottom half": "purple",
    "top half, embedding spared": "green",
    "magnitude": "orange",
    "random": "purple",
    "shuffled": "sky",
    "true labels": "blue",
    "40 % permuted": "green",
    "all permuted": "orange",
    "weight, true labels": "sky",
    "increment, true labels": "blue",
    "weight, all permuted": "ochre",
    "increment, all permuted": "orange",
}
"""What a colour means throughout the book; other names take the remaining colours in their own order."""


@dataclass(frozen=True)
class Theme:
    """Colours of one theme. The eight hues are Okabe and Ito's, lightened for the dark page."""

    name: str
    background: str
    foreground: str
    grid: str
    hues: Mapping[str, str]
    ramp: tuple[float, float]
    """Ends of the part of viridis with enough contrast to the background."""

    def color(self, role: str) -> str:
        """Return the colour of a role of the book, or of a hue by its own name."""
        return self.hues[ROLES.get(role, role)]

    def categorical(self, count: int) -> list[str]:
        """Return up to seven distinguishable colours for things without order."""
        order = ("blue", "orange", "green", "purple", "ochre", "red", "sky")
        return [self.hues[name] for name in order][:count]

    def sequential(self, count: int) -> list[str]:
        """Return colours for ordered things, such as the index of a singular value: first is strongest."""
        return [to_hex(mpl.colormaps["viridis"](x)) for x in np.linspace(*self.ramp, count)]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Draw in this theme."""
        with mpl.rc_context({**_SHARED, **self._rc()}):
            yield

    def _rc(self) -> dict[Any, Any]:
        ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
        paper = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
        return {
            **dict.fromkeys(ink, self.foreground),
            **dict.fromkeys(paper, self.background),
            "grid.color": self.grid,
        }


_SHARED: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "specdyn",  # the same figure is the same file
}

LIGHT = Theme(
    name="light",
    background="#ffffff",
    foreground="#222832",
    grid="#dfe3e8",
    hues={
        "blue": "#0072b2",
        "orange": "#d55e00",
        "green": "#008763",
        "purple": "#b5538f",
        "sky": "#3492cc",
        "ochre": "#a87b00",
        "red": "#a3123f",
        "grey": "#6b7280",
    },
    ramp=(0.0, 0.6),
)
"""The theme of a white page, and of print."""
DARK = Theme(
    name="dark",
    background="#14181e",
    foreground="#ced6dd",
    grid="#343b46",
    hues={
        "blue": "#56a8e0",
        "orange": "#f28e4b",
        "green": "#3cc39b",
        "purple": "#de94c4",
        "sky": "#8fd0f7",
        "ochre": "#e6c14a",
        "red": "#f2788f",
        "grey": "#9aa4b2",
    },
    ramp=(1.0, 0.35),
)
"""The theme of a dark page."""
