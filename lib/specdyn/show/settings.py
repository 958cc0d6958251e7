"""What came out at each value of a setting: a dot a seed, a line through the medians."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import matplotlib.figure
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from specdyn.show.figure import Figure
from specdyn.show.figures import colors_of, panels_of
from specdyn.show.theme import Theme

FEW = 6
"""Up to so many values of a setting each get their tick."""


def by_setting(
    data: pd.DataFrame,
    *,
    x: str,
    name: str,
    caption: str,
    ylabel: str,
    columns: int = 2,
    ylim: tuple[float, float] | None = None,
    sharey: bool = True,
    level: Mapping[str, float] | None = None,
) -> Figure:
    """Return panels in which a dot is a run: ``data`` has columns panel, series, seed, value, and the setting ``x``.

    The setting's axis is logarithmic, with a place for zero at its left end. A value that is missing, as of a
    run that diverged, has no dot. ``level``: horizontal lines by name, such as a chance level. Raises
    ``ValueError`` where the setting has negative values or is zero throughout a panel.
    """
    levels = dict(level or {})
    for panel, values in data.groupby("panel", sort=False)[x]:
        if (values < 0).any() or not (values > 0).any():
            found = ", ".join(f"{value:g}" for value in sorted(values.unique()))
            raise ValueError(f"{x} has to be zero or more, and somewhere more: in panel {panel!r} it is {found}")

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        figure, axes = panels_of(list(data["panel"].unique()), columns, sharey=sharey)
        colors = colors_of(theme, list(data["series"].unique()))
        markers = dict(zip(colors, itertools.cycle("osD^vPX"), strict=False))
        for ax, (panel, part) in zip(axes, data.groupby("panel", sort=False), strict=True):
            for series, runs in part.groupby("series", sort=False):
                middle, color = runs.groupby(x)["value"].median().dropna(), colors[str(series)]
                ax.plot(middle.index, middle, color=color, linewidth=1.3, alpha=0.8)
                ax.scatter(runs[x], runs["value"], color=color, marker=markers[str(series)], s=26, zorder=3)
            for value in levels.values():
                ax.axhline(value, color=theme.color("chance"), linestyle=":", linewidth=1.3)
            _scale(ax, part[x])
            ax.set(title=panel, xlabel=x, ylabel=ylabel)
            if ylim:
                ax.set_ylim(*ylim)
        handles = [Line2D([], [], color=c, marker=markers[s], label=s) for s, c in colors.items()]
        handles += [Line2D([], [], label=label, color=theme.color("chance"), linestyle=":") for label in levels]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
        return figure

    return Figure(draw, name, caption, _in_words(data, x, ylabel, levels), data)


def _scale(ax: Axes, values: pd.Series) -> None:
    """A logarithmic axis; zero, if there is one, stands left of the smallest value."""
    found = sorted(values.unique())
    least = min(value for value in found if value > 0)
    if found[0] == 0:
        ax.set_xscale("symlog", linthresh=least, linscale=0.6)
    else:
        ax.set_xscale("log")
    if len(found) <= FEW:
        ax.set_xticks(found, [f"{value:g}" for value in found])
    ax.xaxis.set_minor_locator(NullLocator())


def _in_words(data: pd.DataFrame, x: str, ylabel: str, levels: Mapping[str, float]) -> str:
    parts = []
    for panel, part in data.groupby("panel", sort=False):
        lines = []
        for series, runs in part.groupby("series", sort=False):
            medians = runs.groupby(x)["value"].median()
            said = ", ".join(f"{value:.2g} at {setting:.3g}" for setting, value in medians.dropna().items())
            gone = ", ".join(f"{setting:.3g}" for setting in medians.index[medians.isna()])
            lines.append(f"{series} {said}" + (f" (none at {gone})" if gone else ""))
        parts.append(f"{panel}: {'; '.join(lines)}")
    seeds = data.groupby("panel")["seed"].nunique().max()
    over = f", median of {seeds} seeds" if seeds > 1 else ""
    dotted = "".join(f" Dotted line: {label}, {value:.2g}." for label, value in levels.items())
    return f"{ylabel[0].upper()}{ylabel[1:]} by {x}{over}. {'. '.join(parts)}.{dotted}"
