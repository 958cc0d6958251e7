"""Matrices as pictures, and measured curves over the ones a theory predicts."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from specdyn.show.figure import Figure
from specdyn.show.figures import WIDTH
from specdyn.show.theme import Theme


def images(
    panels: Mapping[str, ArrayLike],
    *,
    name: str,
    caption: str,
    alt: str,
    data: pd.DataFrame,
    columns: int = 4,
    signed: bool = False,
) -> Figure:
    """Return matrices as pictures, one a panel, all on one scale.

    Grey values run from the smallest entry to the largest; with ``signed`` colours run from minus the
    largest absolute entry (orange) over zero (white) to plus that entry (purple).
    """
    arrays = {title: np.asarray(panel, dtype=float) for title, panel in panels.items()}
    top = max(float(np.abs(array).max()) for array in arrays.values())
    low = -top if signed else min(float(array.min()) for array in arrays.values())
    look = {"cmap": "PuOr" if signed else "gray", "vmin": low, "vmax": top, "interpolation": "nearest"}

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        rows = ceil(len(arrays) / columns)
        shape = max(array.shape[0] / array.shape[1] for array in arrays.values())
        size = (WIDTH, rows * (WIDTH / columns * shape + 0.35))
        figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for ax in grid.flat:
            ax.set_axis_off()
        for ax, (title, array) in zip(grid.flat, arrays.items(), strict=False):
            ax.imshow(array, **look)
            ax.set_title(title)
        return figure

    return Figure(draw, name, caption, alt, data)


def against_theory(data: pd.DataFrame, *, name: str, caption: str, ylabel: str, x: str, alt: str) -> Figure:
    """Return measured curves over predicted ones: ``data`` has columns panel, series, seed, x, measured, exact.

    The prediction is the broad grey line; series, in their order, run through the sequential colours.
    """

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        panels, series = data["panel"].unique(), data["series"].unique()
        colors = dict(zip(series, theme.sequential(len(series)), strict=True))
        figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.2), squeeze=False, sharey=True)
        for ax, panel in zip(axes.flat, panels, strict=True):
            for (label, _), line in data[data["panel"] == panel].groupby(["series", "seed"], sort=False):
                ax.plot(line[x], line["exact"], color=theme.color("theory"), linewidth=4.5, alpha=0.35)
                ax.plot(line[x], line["measured"], color=colors[label], linewidth=1.2)
            ax.set(title=panel, xlabel=x)
        axes.flat[0].set_ylabel(ylabel)
        handles = [Line2D([], [], color=color, label=label) for label, color in colors.items()]
        broad = Line2D([], [], color=theme.color("theory"), linewidth=4.5, alpha=0.35, label="closed form")
        figure.legend(handles=[*handles, broad], loc="outside upper center", ncols=len(handles) + 1)
        return figure

    return Figure(draw, name, caption, alt, data)
