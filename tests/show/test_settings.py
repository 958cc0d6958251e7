"""A dot a run, whatever the setting: zero has its place, a run that diverged has none."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from specdyn import show
from specdyn.show import LIGHT

NAN = float("nan")


def runs(**rows: list[float]) -> pd.DataFrame:
    """A panel of one series with three seeds at each decay."""
    decays = [0.0, 0.1, 10.0]
    return pd.DataFrame(
        {"panel": panel, "series": "rank", "seed": seed, "weight decay": decay, "value": value + 0.01 * seed}
        for panel, values in rows.items()
        for decay, value in zip(decays, values, strict=True)
        for seed in range(3)
    )


def figure(data: pd.DataFrame, **changes: object) -> show.Figure:
    words = {"name": "fig-x", "caption": "c", "ylabel": "effective rank", "x": "weight decay"}
    return show.by_setting(data, **{**words, **changes})  # type: ignore[arg-type]


def test_every_run_is_a_dot_and_the_line_goes_through_the_medians() -> None:
    drawn = figure(runs(images=[0.9, 0.5, 0.1], speech=[0.8, 0.7, 0.6])).draw(LIGHT)
    images, speech = drawn.axes
    (dots,) = (c for c in images.collections if isinstance(c, PathCollection))
    assert len(np.asarray(dots.get_offsets())) == 9
    assert np.asarray(images.lines[0].get_ydata()).tolist() == pytest.approx([0.91, 0.51, 0.11])
    assert [label.get_text() for label in speech.get_xticklabels()] == ["0", "0.1", "10"]


def test_zero_lies_left_of_the_smallest_value_at_a_distance() -> None:
    (ax,) = figure(runs(images=[0.9, 0.5, 0.1])).draw(LIGHT).axes
    at = ax.transData.transform([(x, 0.5) for x in (0.0, 0.1, 10.0)])[:, 0]
    assert at[0] < at[1] < at[2]
    assert at[1] - at[0] > 0.1 * (at[2] - at[0])


def test_a_diverged_run_has_no_dot_and_is_told_of() -> None:
    data = runs(images=[0.9, 0.5, NAN])
    shown = figure(data)
    (ax,) = shown.draw(LIGHT).axes
    assert np.asarray(ax.lines[0].get_xdata()).tolist() == [0.0, 0.1]
    assert "0.91 at 0, 0.51 at 0.1 (none at 10)" in shown.alt
    assert "median of 3 seeds" in shown.alt


def test_a_level_is_drawn_and_said() -> None:
    shown = figure(runs(images=[0.9, 0.5, 0.1]), level={"chance": 0.3})
    (ax,) = shown.draw(LIGHT).axes
    assert np.asarray(ax.lines[-1].get_ydata()).tolist() == [0.3, 0.3]
    assert "Dotted line: chance, 0.3." in shown.alt


def test_without_zero_the_axis_is_plainly_logarithmic() -> None:
    data = runs(images=[0.9, 0.5, 0.1])
    (ax,) = figure(data[data["weight decay"] > 0]).draw(LIGHT).axes
    assert ax.get_xscale() == "log"


def test_a_panel_whose_setting_is_zero_throughout_is_refused_by_name() -> None:
    data = runs(images=[0.9, 0.5, 0.1], speech=[0.8, 0.7, 0.6])
    with pytest.raises(ValueError, match=r"somewhere more: in panel 'speech' it is 0$"):
        figure(data[(data["panel"] == "images") | (data["weight decay"] == 0)])


@pytest.mark.parametrize("values", [[-1.0, 1.0], [0.0, 0.0]])
def test_a_setting_that_has_no_place_on_the_axis_is_refused(values: list[float]) -> None:
    data = pd.DataFrame({"panel": "p", "series": "s", "seed": [0, 0], "weight decay": values, "value": 1.0})
    with pytest.raises(ValueError, match="weight decay has to be zero or more"):
        figure(data)
