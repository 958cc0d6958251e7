"""Matrices as pictures, and measured curves over the ones a theory predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from specdyn.show.figure import Figure
from specdyn.show.figures import WIDTH
from specdyn.show.theme import Theme

Array = NDArray[np.float64]


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


def spectra(groups: Mapping[str, Sequence[ArrayLike]], *, name: str, caption: str) -> Figure:
    """Return singular values against their index on a logarithmic axis: for each group a line a spectrum.

    Values of zero have no place on this axis and are left out.
    """
    lines = {label: [np.sort(np.asarray(s, dtype=float))[::-1] for s in group] for label, group in groups.items()}
    data = pd.concat(
        pd.DataFrame({"series": label, "line": i, "index": np.arange(1, len(s) + 1), "singular value": s})
        for label, group in lines.items()
        for i, s in enumerate(group)
    )

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        figure, ax = plt.subplots(figsize=(WIDTH, 3.2))
        for (label, group), color in zip(lines.items(), theme.categorical(len(lines)), strict=True):
            for i, s in enumerate(group):
                ax.plot(np.arange(1, len(s) + 1), s, color=color, linewidth=1.3, label="" if i else label)
        ax.set(yscale="log", xlabel="index, largest first", ylabel="singular value")
        figure.legend(loc="outside upper center", ncols=4)
        return figure

    said = [
        f"{label}: largest {s[0]:.3g}, second {s[min(1, len(s) - 1)]:.3g}, middle {s[len(s) // 2]:.3g}, "
        f"smallest {s[-1]:.3g}"
        for label, (s, *_) in lines.items()
    ]
    return Figure(draw, name, caption, f"Singular values by index. {'; '.join(said)}.", data)


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
                ax.plot(line[x], line["measured"], color=colors[label], linewidth=1.6, zorder=3)
            ax.set(title=panel, xlabel=x)
        axes.flat[0].set_ylabel(ylabel)
        handles = [Line2D([], [], color=color, label=label) for label, color in colors.items()]
        broad = Line2D([], [], color=theme.color("theory"), linewidth=4.5, alpha=0.35, label="closed form")
        figure.legend(handles=[*handles, broad], loc="outside upper center", ncols=min(5, len(handles) + 1))
        return figure

    return Figure(draw, name, caption, alt, data)


def unit(picture: ArrayLike) -> Array:
    """Return a picture with its smallest entry at 0 and its largest at 1; where all are equal, at 0.

    It may be a tensor on any device.

    >>> unit([[2.0, 4.0]]).tolist(), unit([[3.0, 3.0]]).tolist()
    ([[0.0, 1.0]], [[0.0, 0.0]])
    """
    array: Array = torch.as_tensor(picture).double().cpu().numpy()
    scaled: Array = (array - array.min()) / ((array.max() - array.min()) or 1.0)
    return scaled


def mosaic(pictures: ArrayLike, rows: int) -> Array:
    """Return pictures (N, H, W), or in colour (N, H, W, 3), beside each other in so many rows, as one from 0 to 1.

    >>> mosaic(np.ones((4, 3, 3)), rows=2).shape  # each has a frame of one pixel
    (10, 10)
    """
    scaled = unit(pictures)
    framed = np.pad(scaled, [(0, 0), (1, 1), (1, 1), (0, 0)][: scaled.ndim])
    return np.concatenate([np.concatenate(list(line), axis=1) for line in np.array_split(framed, rows)])
