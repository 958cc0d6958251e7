"""The figures most chapters need, each with its words computed from what it shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Literal

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from pandas.api.types import is_integer_dtype

from specdyn.show.figure import Figure
from specdyn.show.theme import ROLES, Theme
from specdyn.training import Recording

Groups = Mapping[str, Sequence[Recording]]
Quantity = Callable[[Recording], Any]
Quantities = Mapping[str, Quantity] | Callable[[Recording], Mapping[str, Any]]

WIDTH = 7.6
"""Inches of a page's text column."""


def over_steps(groups: Groups, quantities: Quantities) -> pd.DataFrame:
    """Return a tidy table for `curves` and `fingerprint`: panel, series, seed, step, value.

    ``groups`` gives for each panel the recordings of its seeds, ``quantities`` for each series a function
    from a recording to its values over time; or one function from a recording to all series by name, where
    panels differ in them: ``lambda r: {matrix: r.effective_rank(matrix) for matrix in r.matrices}``.
    """
    frames = [
        pd.DataFrame(
            {
                "panel": panel,
                "series": series,
                "seed": recording.provenance["seed"],
                "step": recording.steps,
                "value": values,
            }
        )
        for panel, recordings in groups.items()
        for recording in recordings
        for series, values in _quantified(recording, quantities).items()
    ]
    return pd.concat(frames, ignore_index=True)


def _quantified(recording: Recording, quantities: Quantities) -> Mapping[str, Any]:
    if callable(quantities):
        return quantities(recording)
    return {series: quantity(recording) for series, quantity in quantities.items()}


def curves(
    data: pd.DataFrame,
    *,
    name: str,
    caption: str,
    ylabel: str,
    x: str = "step",
    columns: int = 2,
    ylim: tuple[float, float] | None = None,
    sharex: bool = False,
    sharey: bool = True,
    level: Mapping[str, float] | None = None,
    mark: Mapping[str, float] | None = None,
    scale: Literal["linear", "log"] = "linear",
) -> Figure:
    """Return panels of curves, a thin line a seed; ``data`` as `over_steps` makes it.

    ``sharex``, ``sharey``: give all panels the same axis. ``level``: horizontal lines by name, such as a
    chance level. ``mark``: by panel, where a vertical line is drawn. ``scale``: of both axes. Series named in
    the theme's roles have their colour in the whole book.
    """
    levels = dict(level or {})

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        figure, axes = panels_of(list(data["panel"].unique()), columns, sharex=sharex, sharey=sharey)
        colors = colors_of(theme, list(data["series"].unique()))
        for ax, (panel, part) in zip(axes, data.groupby("panel", sort=False), strict=True):
            for (series, _), line in part.groupby(["series", "seed"], sort=False):
                ax.plot(line[x], line["value"], color=colors[str(series)], linewidth=1.3, alpha=0.9)
            for value in levels.values():
                ax.axhline(value, color=theme.color("chance"), linestyle=":", linewidth=1.3)
            if mark and panel in mark:
                ax.axvline(mark[str(panel)], color=theme.foreground, linestyle="--", linewidth=1)
            ax.set(title=panel, xlabel=x, ylabel=ylabel, xscale=scale, yscale=scale)
            if ylim:
                ax.set_ylim(*ylim)
            if scale == "linear" and is_integer_dtype(data[x]):
                ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        handles = [Line2D([], [], color=color, label=series) for series, color in colors.items()]
        handles += [Line2D([], [], label=label, color=theme.color("chance"), linestyle=":") for label in levels]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
        return figure

    return Figure(draw, name, caption, _curves_in_words(data, x, ylabel, levels), data)


def singular_values(
    recordings: Recording | Mapping[str, Recording],
    matrix: str | Mapping[str, str] | None = None,
    *,
    name: str = "fig-singular-values",
    caption: str = "Singular values over training; brighter lines are smaller ones.",
    columns: int = 3,
) -> Figure:
    """Return every singular value over time: of each matrix of a recording, or of one matrix in several.

    Colour runs with the index of the singular value, from the largest to the smallest. Where one matrix is
    compared, the panels of a row share their scale. A mapping names for each recording a matrix of its own.
    The data have a column for each index.
    """
    if isinstance(recordings, Recording):
        shown = {key: (recordings, key) for key in ([str(matrix)] if matrix else recordings.matrices)}
    elif matrix is None:
        raise ValueError("name the matrix to compare between recordings: singular_values(recordings, 'layer.weight')")
    else:
        named = matrix if isinstance(matrix, Mapping) else dict.fromkeys(recordings, matrix)
        shown = {title: (recording, named[title]) for title, recording in recordings.items()}

    compares = isinstance(matrix, str) and not isinstance(recordings, Recording)

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        figure, axes = panels_of(list(shown), columns, sharey=False)
        top = [recording.singular_values[key].max() for recording, key in shown.values()]
        for i, (ax, (title, (recording, key))) in enumerate(zip(axes, shown.items(), strict=True)):
            values, row = recording.singular_values[key], i // columns * columns
            limit = max(top[row : row + columns]) if compares else top[i]
            lines = [np.column_stack([recording.steps, s]) for s in values.T[::-1]]
            colors = theme.sequential(len(lines))[::-1]
            ax.add_collection(LineCollection(lines, colors=colors, linewidths=1.0, rasterized=True))
            ax.autoscale_view()
            ax.set(title=title, xlabel="step", ylabel="singular value", ylim=(0, 1.04 * limit))
        return figure

    data = pd.concat(
        [
            pd.DataFrame(recording.singular_values[key], columns=range(1, recording.singular_values[key].shape[1] + 1))
            .assign(panel=title.replace("\n", ", "), matrix=key, step=recording.steps)
            .set_index(["panel", "matrix", "step"])
            .reset_index()
            for title, (recording, key) in shown.items()
        ]
    )
    words = [
        f"{title.replace(chr(10), ', ')}: the largest goes from {r.singular_values[key][0, 0]:.2f} to "
        f"{r.singular_values[key][-1, 0]:.2f}, the median from {np.median(r.singular_values[key][0]):.2f} "
        f"to {np.median(r.singular_values[key][-1]):.2f}"
        for title, (r, key) in shown.items()
    ]
    return Figure(draw, name, caption, "Singular values over training. " + "; ".join(words) + ".", data)


def dots(data: pd.DataFrame, *, name: str, caption: str, xlabel: str, alt: str) -> Figure:
    """Return a row of dots for each category: ``data`` with columns category, series, value."""

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        categories, by_series = list(data["category"].unique()), list(data.groupby("series", sort=False))
        step = min(0.22, 0.8 / len(by_series))  # rows of neighbouring categories stay apart
        figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.21 * len(categories) * max(2, len(by_series))))
        colors = colors_of(theme, list(data["series"].unique()))
        for k, ((series, part), marker) in enumerate(zip(by_series, itertools.cycle("osD^vPX"), strict=False)):
            rows = part["category"].map(categories.index) + step * (k - (len(by_series) - 1) / 2)
            ax.scatter(part["value"], rows, color=colors[str(series)], label=str(series), s=46, marker=marker, zorder=3)
        ax.axvline(0, color=theme.foreground, linewidth=1)
        ax.set(yticks=range(len(categories)), yticklabels=categories, xlabel=xlabel)
        ax.invert_yaxis()
        figure.legend(loc="outside upper center", ncols=4)
        return figure

    return Figure(draw, name, caption, alt, data)


def scatter(
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    name: str,
    caption: str,
    alt: str,
    xscale: Literal["linear", "log"] = "linear",
) -> Figure:
    """Return one point a row of ``data``, coloured by its column ``series``."""

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
        colors = colors_of(theme, list(data["series"].unique()))
        for (series, part), marker in zip(data.groupby("series", sort=False), itertools.cycle("osD^vPX"), strict=False):
            ax.scatter(part[x], part[y], color=colors[str(series)], label=str(series), s=54, marker=marker, zorder=3)
        ax.set(xlabel=x, ylabel=y, xscale=xscale)
        if xscale == "log":  # plain numbers, and few of them: a range is often less than a decade
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.xaxis.set_minor_locator(NullLocator())
        figure.legend(loc="outside upper center", ncols=2)
        return figure

    return Figure(draw, name, caption, alt, data)


def panels_of(
    titles: Sequence[str], columns: int, *, sharex: bool = False, sharey: bool = True
) -> tuple[matplotlib.figure.Figure, list[Axes]]:
    """Return a figure with one panel a title, ``columns`` beside each other."""
    columns = min(columns, len(titles))
    rows = ceil(len(titles) / columns)
    height = 2.5 * rows + 0.5 if columns > 1 else 3.2 * rows
    figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, sharex=sharex, sharey=sharey)
    for spare in grid.flat[len(titles) :]:
        spare.remove()
    return figure, list(grid.flat[: len(titles)])


def colors_of(theme: Theme, series: Sequence[str]) -> dict[str, str]:
    """A series with a role has the colour of its role; the others take the hues that are left."""
    taken = {theme.color(one) for one in series if one in ROLES}
    free = itertools.cycle(color for color in theme.categorical(7) if color not in taken)
    return {one: theme.color(one) if one in ROLES else next(free) for one in series}


def _curves_in_words(data: pd.DataFrame, x: str, ylabel: str, levels: Mapping[str, float]) -> str:
    def said(line: pd.DataFrame) -> str:
        middle = line.groupby(x)["value"].median()
        late, lowest = middle.iloc[-max(1, len(middle) // 10) :].median(), middle.min()
        return f"{middle.iloc[0]:.2g} to {late:.2g}" + (f" (lowest {lowest:.2g})" if lowest < 0.8 * late else "")

    parts = []
    for panel, part in data.groupby("panel", sort=False):
        lines = [f"{series} {said(line)}" for series, line in part.groupby("series", sort=False)]
        parts.append(f"{panel}: {', '.join(lines)}")
    seeds = data.groupby("panel")["seed"].nunique().max()
    over = f", median of {seeds} seeds" if seeds > 1 else ""
    dotted = "".join(f" Dotted line: {label}, {value:.2g}." for label, value in levels.items())
    return (
        f"{ylabel[0].upper()}{ylabel[1:]} at the first {x} and over the last tenth{over}. {'; '.join(parts)}.{dotted}"
    )
