"""A landscape: a quantity over a plane of networks, with the paths that training took through it."""

from __future__ import annotations

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from specdyn.show.figure import Figure
from specdyn.show.figures import WIDTH
from specdyn.show.theme import Theme

LEVELS = 14
"""At most so many bands of one colour."""
LARGEST = 110.0
"""Area, in points squared, of the dot of the network that lies furthest beside the plane."""


def landscape(heights: pd.DataFrame, paths: pd.DataFrame, *, name: str, caption: str, quantity: str) -> Figure:
    """Return maps beside each other, one a panel, on one scale of colours.

    ``heights`` has columns panel, x, y and value, and in each panel all its x with all its y. ``paths`` has panel,
    series, step, x, y and beside: where the foot of a network is in the plane, and how far from the plane the
    network itself lies. A path ends in a star. The area of a dot grows with ``beside``, for a network far away has not
    the height of the map at its foot.

    Raises ``ValueError`` for a panel whose heights are not a grid, or that has no path.
    """
    grids = {
        str(panel): part.pivot(index="y", columns="x", values="value")
        for panel, part in heights.groupby("panel", sort=False)
    }
    walks = {str(panel): part.sort_values("step") for panel, part in paths.groupby("panel", sort=False)}
    for panel, grid in grids.items():
        if grid.isna().any(axis=None) or panel not in walks:
            raise ValueError(f"panel {panel!r} takes a height for every x with every y, and at least one path")
    levels = MaxNLocator(LEVELS).tick_values(float(heights["value"].min()), float(heights["value"].max()))
    furthest = float(paths["beside"].max()) or 1.0

    def draw(theme: Theme) -> matplotlib.figure.Figure:
        figure, axes = plt.subplots(1, len(grids), figsize=(WIDTH, WIDTH / len(grids) + 0.6), squeeze=False)
        for ax, (panel, grid) in zip(axes.flat, grids.items(), strict=True):
            bands = ax.contourf(grid.columns, grid.index, grid, levels=levels, cmap="viridis")
            for _, walk in walks[panel].groupby("series", sort=False):
                _draw_walk(ax, walk, furthest)
            ax.set(title=panel, xlabel="distance in the plane", aspect="equal")
            ax.grid(visible=False)
        figure.colorbar(bands, ax=list(axes.flat), location="top", label=quantity, aspect=50, shrink=0.6)
        return figure

    said = " ".join(f"{panel}: {_said(grid, walks[panel])}." for panel, grid in grids.items())
    data = pd.concat([heights.assign(series="map"), paths], ignore_index=True)
    return Figure(draw, name, caption, f"{quantity[0].upper()}{quantity[1:]} over planes. {said}", data)


def _draw_walk(ax: Axes, walk: pd.DataFrame, furthest: float) -> None:
    """Draw in white with a dark edge, which is seen on every height in both themes."""
    ax.plot(walk["x"], walk["y"], color="#222832", linewidth=2.4)
    ax.plot(walk["x"], walk["y"], color="#ffffff", linewidth=1.2)
    area = 8 + (LARGEST - 8) * walk["beside"] / furthest
    ax.scatter(walk["x"], walk["y"], s=area, color="#ffffff", edgecolors="#222832", linewidths=0.7, zorder=3)
    end = walk.iloc[-1]
    ax.scatter(end["x"], end["y"], s=120, marker="*", color="#ffffff", edgecolors="#222832", zorder=4)


def _said(grid: pd.DataFrame, walks: pd.DataFrame) -> str:
    paths = [walk for _, walk in walks.groupby("series", sort=False)]
    ends = [_height(grid, walk.iloc[-1]) for walk in paths]
    middle = pd.DataFrame([walk.iloc[-1] for walk in paths])[["x", "y"]].mean()
    first = max(float(walk["beside"].iloc[0]) for walk in paths)
    return (
        f"{' and '.join(f'{end:.2g}' for end in ends)} where the {len(paths)} paths end, {_height(grid, middle):.2g} "
        f"in the middle between their ends, at most {grid.to_numpy().max():.2g}; paths begin up to {first:.2g} beside "
        f"the plane, and their ends are {_apart(paths):.2g} apart"
    )


def _height(grid: pd.DataFrame, place: pd.Series) -> float:
    """Return the height at the place of the grid that is nearest."""
    row = np.abs(grid.index.to_numpy() - place["y"]).argmin()
    column = np.abs(grid.columns.to_numpy() - place["x"]).argmin()
    return float(grid.iloc[row, column])


def _apart(paths: list[pd.DataFrame]) -> float:
    """Return the mean distance between ends of paths, 0 for one path."""
    ends = np.array([walk[["x", "y"]].iloc[-1] for walk in paths], dtype=float)
    distances = np.linalg.norm(ends[:, None] - ends[None], axis=-1)
    return float(distances.sum() / max(1, len(ends) * (len(ends) - 1)))
