"""A fingerprint: a quantity of many matrices, pairs or components over training, as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from specdyn.show.figure import Figure
from specdyn.show.figures import WIDTH
from specdyn.show.theme import Theme

MOST_LABELS = 24
"""More rows than this do not all get their name."""


def fingerprint(
    data: pd.DataFrame,
    *,
    name: str,
    caption: str,
    quantity: str,
    row: str = "series",
    x: str = "step",
    columns: int = 2,
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    mark: Mapping[str, float] | None = None,
) -> Figure:
    """Return heat maps, one a panel: rows in their order from the top, snapshots from left to right.

    ``data`` as `over_steps` makes it: panel, series, seed, step, value; colour is the mean over the seeds that
    have a value there, and where none has, there is none. ``row`` names the column that has a row of cells for
    each of its values, ``x`` the one that runs from left to right where that is not the step. Snapshots are equally
    wide, whatever the steps between them. ``quantity`` stands beside
    the colours, which run from dark to bright between ``limits``, by default the extremes; with ``signed`` from
    orange over white at zero to purple. ``mark``: by panel, a step at which a line is drawn.
    """
    maps = {str(panel): _mean_over_seeds(part, row, x) for panel, part in data.groupby("panel", sort=False)}
    marked = {panel: step for panel, step in (mark or {}).items() if panel in maps}
    low, high = limits or _extremes([table.to_numpy() for table in maps.values()], signed)

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        figure, axes = _stacked_panels(list(maps.values()), columns)
        colors = mpl.colormaps["PuOr" if signed else "viridis"].with_extremes(bad=theme.grid)
        for i, (ax, (panel, table)) in enumerate(zip(axes, maps.items(), strict=True)):
            image = ax.imshow(table, cmap=colors, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
            beside = list(maps.values())[i - 1] if i % columns else None
            _label(ax, table, named=beside is None or list(beside.index) != list(table.index))
            ax.set(title=panel, xlabel=x)
            if panel in marked:
                ax.axvline(_place(table, marked[panel]), color="#ffffff", linewidth=2.6)
                ax.axvline(_place(table, marked[panel]), color="#222832", linewidth=1.2, linestyle="--")
        figure.colorbar(image, ax=axes, location="top", label=quantity, aspect=50, shrink=0.6)
        return figure

    over = "mean over the seeds that got there" if _cut_short(data, x) else "mean over seeds"
    return Figure(draw, name, caption, _in_words(maps, quantity, x, over, marked), data)


def _cut_short(data: pd.DataFrame, x: str) -> bool:
    """Whether a seed ends before the others of its panel, as a run that diverged does."""
    last = data.dropna(subset="value").groupby(["panel", "seed"])[x].max()
    return bool((last.groupby("panel").nunique() > 1).any())


def _mean_over_seeds(part: pd.DataFrame, row: str, x: str) -> pd.DataFrame:
    """Return a table with a row for each value of ``row``, in the order in which they come, and a column a step."""
    means = part.groupby([row, x], sort=False)["value"].mean().unstack(x)
    return means.loc[part[row].unique(), sorted(means.columns)]


def _extremes(tables: Sequence[Any], signed: bool) -> tuple[float, float]:
    low = min(float(np.nanmin(table)) for table in tables)
    high = max(float(np.nanmax(table)) for table in tables)
    most = max(abs(low), abs(high))
    return (-most, most) if signed else (low, high)


def _stacked_panels(tables: Sequence[pd.DataFrame], columns: int) -> tuple[matplotlib.figure.Figure, list[Axes]]:
    """Return panels of which those in one line are as high as the largest of them needs."""
    columns = min(columns, len(tables))
    lines = ceil(len(tables) / columns)
    heights = [0.8 + 0.15 * max(map(len, tables[i * columns : (i + 1) * columns])) for i in range(lines)]
    size = (WIDTH, sum(heights) + 0.6)
    figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False, height_ratios=heights)
    for spare in grid.flat[len(tables) :]:
        spare.remove()
    return figure, list(grid.flat[: len(tables)])


def _label(ax: Axes, table: pd.DataFrame, named: bool) -> None:
    every = ceil(len(table) / MOST_LABELS)
    names = [str(label).removesuffix(".weight") for label in table.index[::every]] if named else []
    ax.set_yticks(range(0, len(table), every) if named else [], names, fontsize=7)
    places = np.unique(np.linspace(0, table.shape[1] - 1, min(5, table.shape[1])).round().astype(int))
    ax.set_xticks(places, [f"{step:,}" for step in table.columns[places]], fontsize=8)
    ax.grid(visible=False)


def _place(table: pd.DataFrame, step: float) -> float:
    """Return where a step lies among the equally wide snapshots."""
    return float(np.interp(step, table.columns, np.arange(table.shape[1])))


def _in_words(maps: Mapping[str, pd.DataFrame], quantity: str, x: str, over: str, marked: Mapping[str, float]) -> str:
    lines = {panel: f" (a line marks {x} {step:g})" for panel, step in marked.items()}
    said = [f"{panel}{lines.get(panel, '')}: {_said(table, x)}" for panel, table in maps.items()]
    return f"{quantity[0].upper()}{quantity[1:]} by row and {x}, {over}. {'; '.join(said)}."


def _said(table: pd.DataFrame, x: str) -> str:
    first, last = table.iloc[:, 0], table.iloc[:, -1]
    said = (
        f"{len(table)} {'row' if len(table) == 1 else 'rows'}, mean {first.mean():.2g} at {x} {first.name} and "
        f"{last.mean():.2g} at {x} {last.name}"
    )
    if len(table) == 1 or last.isna().all():
        return said
    return (
        f"{said}, then lowest in {last.idxmin()} ({last.min():.2g}) and highest in {last.idxmax()} ({last.max():.2g})"
    )
