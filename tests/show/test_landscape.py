"""Landscapes: heights in their places, paths on top with dots that tell how far beside they lie, words and table."""

from __future__ import annotations

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from specdyn.show import DARK, LIGHT, Figure, Theme, landscape

SLOPE = pd.DataFrame(
    {"panel": panel, "x": x, "y": y, "value": rise * x + y}
    for panel, rise in (("early", 10.0), ("late", 1.0))
    for x in (0.0, 1.0, 2.0)
    for y in (0.0, 1.0)
)
WALKS = pd.DataFrame(
    [
        *[("early", "one", 5, 0.0, 0.0, 0.0), ("early", "one", 0, 1.0, 1.0, 4.0), ("early", "two", 5, 2.0, 0.0, 1.0)],
        ("late", "one", 5, 0.0, 1.0, 0.0),
    ],
    columns=["panel", "series", "step", "x", "y", "beside"],
)


def drawn(theme: Theme = LIGHT) -> tuple[Figure, matplotlib.figure.Figure]:
    figure = landscape(SLOPE, WALKS, name="fig-x", caption="c", quantity="training loss")
    picture = figure.draw(theme)
    plt.close(picture)
    return figure, picture


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_heights_lie_where_they_were_measured_and_share_one_scale(theme: Theme) -> None:
    _, picture = drawn(theme)
    early, late = picture.axes[:2]
    assert [ax.get_title() for ax in (early, late)] == ["early", "late"]
    assert early.collections[0].get_clim() == late.collections[0].get_clim()
    bands = early.collections[0]
    steepest = [np.vstack(path.to_polygons())[:, 0].mean() for path in bands.get_paths() if len(path)]
    assert steepest == sorted(steepest), "the value rises with x, whatever order the table has"


def test_every_height_has_a_colour() -> None:
    _, picture = drawn()
    bands = picture.axes[0].collections[0]
    assert bands.levels[0] <= 0
    assert bands.levels[-1] >= 21
    covered = np.vstack([np.vstack(path.to_polygons()) for path in bands.get_paths() if len(path)])
    assert covered[:, 0].max() == 2


def test_paths_go_by_their_steps_and_dots_grow_with_the_distance_beside_the_plane() -> None:
    _, picture = drawn()
    early = picture.axes[0]
    assert np.array_equal(early.lines[0].get_xdata(), [1.0, 0.0])
    dots, star = early.collections[1:3]
    assert isinstance(dots, PathCollection)
    far, near = np.asarray(dots.get_sizes())
    assert far > 5 * near
    assert np.array_equal(np.asarray(star.get_offsets()), [[0.0, 0.0]])


def test_words_and_table_say_what_is_drawn() -> None:
    figure, _ = drawn()
    assert figure.alt == (
        "Training loss over planes. early: 0 and 20 where the 2 paths end, 10 in the middle between their ends, at "
        "most 21; paths begin up to 4 beside the plane, and their ends are 2 apart. late: 1 where the 1 paths end, 1 "
        "in the middle between their ends, at most 3; paths begin up to 0 beside the plane, and their ends are 0 apart."
    )
    assert len(figure.data) == len(SLOPE) + len(WALKS)


def test_heights_that_are_no_grid_and_panels_without_a_path_are_refused() -> None:
    with pytest.raises(ValueError, match="panel 'early' takes a height for every x with every y"):
        landscape(SLOPE.iloc[1:], WALKS, name="fig-x", caption="c", quantity="q")
    with pytest.raises(ValueError, match=r"panel 'late' takes .* at least one path"):
        landscape(SLOPE, WALKS[WALKS["panel"] == "early"], name="fig-x", caption="c", quantity="q")
