"""Figures: two themes of one drawing, words computed from the data, refused without them."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from io import StringIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

import specdyn as sd
from specdyn.show import DARK, LIGHT, Figure, Theme
from specdyn.show.figure import MIME


@pytest.fixture(scope="module")
def recording() -> sd.Recording:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    recorder = sd.Recorder(model, steps=range(0, 50, 10))
    for step in range(0, 50, 10):
        with torch.no_grad():
            model[0].weight[3:].mul_(0.5)
        recorder(step, train_error=1 - step / 40)
    return recorder.finish({"seed": 3})


@pytest.fixture(scope="module")
def curves(recording: sd.Recording) -> Figure:
    other = replace(recording, provenance={"seed": 4})
    quantities = {
        "training error": lambda r: r.metrics["train_error"],
        "effective rank": lambda r: r.effective_rank(),
    }
    return sd.show.curves(
        sd.show.over_steps({"a panel": [recording, other], "another": [recording]}, quantities),
        name="fig-x",
        caption="A caption.",
        ylabel="error rate",
        level={"chance": 0.25},
    )


def luminance(color: str) -> float:
    rgb = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(rgb, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_every_colour_of_a_line_stands_out_from_the_page(theme: Theme) -> None:
    paper = luminance(theme.background)
    for color in [*theme.hues.values(), theme.foreground]:
        high, low = sorted([luminance(color), paper], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, color  # WCAG 1.4.11, graphical objects


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_colours_of_an_order_run_one_way_in_lightness(theme: Theme) -> None:
    lightness = np.array([luminance(color) for color in theme.sequential(20)])
    steps, paper = np.diff(lightness), luminance(theme.background)
    assert (steps > 0).all() or (steps < 0).all()
    assert ((np.maximum(lightness, paper) + 0.05) / (np.minimum(lightness, paper) + 0.05) >= 2.95).all()


def test_a_figure_carries_both_themes_its_words_and_its_data(curves: Figure) -> None:
    bundle = curves._repr_mimebundle_()
    light, dark = bundle["image/svg+xml"], bundle[MIME]["dark"]
    for svg, theme in ((light, LIGHT), (dark, DARK)):
        ET.fromstring(svg)
        assert theme.background in svg
        assert theme.color("training error") in svg
    assert light != dark
    assert bundle["text/plain"] == bundle[MIME]["alt"] == curves.alt
    table = pd.read_csv(StringIO(bundle[MIME]["csv"]))
    assert len(table) == 3 * 2 * 5
    assert set(table.columns) == {"panel", "series", "seed", "step", "value"}


def test_the_same_figure_is_the_same_file(curves: Figure) -> None:
    assert curves.svg(LIGHT) == curves.svg(LIGHT)


def test_a_power_is_a_straight_line_where_both_axes_are_logarithmic() -> None:
    sizes = np.array([64, 128, 512])
    data = pd.DataFrame({"panel": "cost", "series": "ours", "seed": 0, "rows": sizes, "value": 3.0 * sizes**2})
    figure = sd.show.curves(
        data, x="rows", scale="log", name="fig-x", caption="A caption.", ylabel="milliseconds"
    ).draw(LIGHT)
    (ax,) = figure.axes
    x, y = ax.transData.transform(ax.lines[0].get_xydata()).T
    assert np.isclose((y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1]))
    plt.close(figure)


def test_words_are_computed_from_the_data(curves: Figure, recording: sd.Recording) -> None:
    assert "a panel: training error 1 to 0" in curves.alt
    rank = recording.effective_rank()
    assert f"effective rank {rank[0]:.2g} to {rank[-1]:.2g}" in curves.alt
    dip = curves.data.assign(value=[0.9, 0.1, 0.5, 0.5, 0.5] * 6)
    again = sd.show.curves(dip, name="fig-y", caption="c", ylabel="error")
    assert "training error 0.9 to 0.5 (lowest 0.1)" in again.alt
    assert "median of 2 seeds" in curves.alt
    assert "chance, 0.25" in curves.alt


def test_singular_values_are_said_and_tabled(recording: sd.Recording) -> None:
    figure = sd.show.singular_values(recording)
    top = recording.singular_values["0.weight"][:, 0]
    assert f"0.weight: the largest goes from {top[0]:.2f} to {top[-1]:.2f}" in figure.alt
    assert len(figure.data) == 5 * 2
    row = figure.data.query("matrix == '0.weight' and step == 20")
    assert row[1].item() == recording.singular_values["0.weight"][2, 0]
    assert figure.svg(LIGHT).count("<image") == 2  # two panels, their lines drawn as pixels
    one = sd.show.singular_values({"first": recording, "second": recording}, "1.weight")
    assert set(one.data["panel"]) == {"first", "second"}
    assert set(one.data["matrix"]) == {"1.weight"}
    with pytest.raises(ValueError, match="name the matrix"):
        sd.show.singular_values({"first": recording})


def test_a_matrix_for_each_recording_has_a_scale_of_its_own(recording: sd.Recording) -> None:
    large = {name: 10 * values for name, values in recording.singular_values.items()}
    both = {"small": recording, "large": replace(recording, singular_values=large)}
    heights = {}
    for matrix in ("0.weight", {"small": "0.weight", "large": "1.weight"}):
        figure = sd.show.singular_values(both, matrix).draw(LIGHT)
        heights[str(matrix)] = [ax.get_ylim()[1] for ax in figure.axes]
        plt.close(figure)
    one, own = heights.values()
    assert one[0] == one[1] == pytest.approx(10.4 * recording.singular_values["0.weight"].max())
    tops = [
        both[title].singular_values[matrix].max()
        for title, matrix in {"small": "0.weight", "large": "1.weight"}.items()
    ]
    assert own == pytest.approx(1.04 * np.array(tops))


def test_panels_of_different_things_need_not_share_their_axis_and_a_line_marks_a_place(curves: Figure) -> None:
    data = curves.data.assign(value=lambda table: np.where(table["panel"] == "another", 100.0, 1.0) * table["value"])
    for share in (True, False):
        figure = sd.show.curves(data, name="fig-x", caption="c", ylabel="y", sharey=share, mark={"another": 25}).draw(
            LIGHT
        )
        first, second = figure.axes
        assert (first.get_ylim() == second.get_ylim()) is share
        upright = [[line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1] for ax in figure.axes]
        assert upright == [[], [25]]
        plt.close(figure)


@pytest.mark.parametrize("field", ["name", "caption", "alt"])
def test_a_figure_without_words_is_refused(curves: Figure, field: str) -> None:
    with pytest.raises(ValueError, match=f"has no {field}"):
        replace(curves, **{field: " "})


def drawn_points(figure: Figure) -> set[tuple[float, float]]:
    (ax,) = figure.draw(LIGHT).axes
    return {tuple(point) for dots in ax.collections for point in np.asarray(dots.get_offsets()).tolist()}


def test_dots_and_scatter_draw_every_row_where_it_belongs() -> None:
    data = pd.DataFrame({"category": ["a", "b", "a"], "series": ["s", "s", "t"], "value": [1.0, -2.0, 3.0]})
    figure = sd.show.dots(data, name="fig-d", caption="c", xlabel="lag", alt="words")
    assert {(x, round(y)) for x, y in drawn_points(figure)} == {(1.0, 0), (-2.0, 1), (3.0, 0)}
    points = pd.DataFrame({"series": ["s", "t"], "norm": [1.0, 2.0], "rank": [0.5, 0.2]})
    figure = sd.show.scatter(points, x="norm", y="rank", name="fig-s", caption="c", alt="words")
    assert drawn_points(figure) == {(1.0, 0.5), (2.0, 0.2)}


def test_a_logarithmic_scatter_has_plain_numbers_that_do_not_overlap() -> None:
    points = pd.DataFrame({"series": "s", "norm": [0.2, 7.0], "rank": [0.5, 0.2]})
    figure = sd.show.scatter(points, x="norm", y="rank", name="fig-s", caption="c", alt="words", xscale="log")
    (ax,) = figure.draw(sd.show.LIGHT).axes
    low, high = ax.get_xlim()
    shown = [float(tick) for tick in ax.get_xticks() if low <= tick <= high]
    assert shown == [0.2, 0.5, 1.0, 2.0, 5.0]
    assert [label.get_text() for label in ax.get_xticklabels() if low <= label.get_position()[0] <= high] == [
        "0.2", "0.5", "1", "2", "5",
    ]  # fmt: skip
    assert len(ax.get_xticks(minor=True)) == 0
