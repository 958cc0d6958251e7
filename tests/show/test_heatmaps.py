"""Fingerprints: every cell the mean of its seeds and in its place, in both themes, said in words and as a table."""

from dataclasses import replace
from io import StringIO
from typing import Any

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.show import DARK, LIGHT, Figure, Theme
from specdyn.show.figure import MIME

STEPS = [0, 1, 10, 100]


def cells(panel: str, rows: dict[str, list[float]], seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {"panel": panel, "series": row, "seed": seed, "step": step, "value": value}
        for row, values in rows.items()
        for step, value in zip(STEPS, values, strict=True)
    )


def drawn(data: pd.DataFrame, theme: Theme = LIGHT, **how: Any) -> tuple[Any, dict[str, Any]]:
    """The drawing, and by panel its axes."""
    figure = fingerprint(data, **how).draw(theme)
    plt.close(figure)
    return figure, {ax.get_title(): ax for ax in figure.axes if ax.images}


def fingerprint(data: pd.DataFrame, **how: Any) -> Figure:
    return sd.show.fingerprint(data, name="fig-x", caption="c", quantity="effective rank", **how)


TWO = pd.concat(
    [
        cells("images", {"conv.weight": [0.9, 0.8, 0.5, 0.3], "fc.weight": [0.7, 0.7, 0.7, 0.7]}, seed=0),
        cells("images", {"conv.weight": [0.7, 0.6, 0.5, 0.1], "fc.weight": [0.7, 0.7, 0.7, 0.7]}, seed=1),
        cells("speech", {"lstm.weight": [0.9, 0.9, 0.4, 0.2]}, seed=0),
    ]
)


def test_a_cell_is_the_mean_of_its_seeds_at_its_row_and_snapshot() -> None:
    _, axes = drawn(TWO)
    shown = np.asarray(axes["images"].images[0].get_array())
    assert np.allclose(shown, [[0.8, 0.7, 0.5, 0.2], [0.7, 0.7, 0.7, 0.7]])
    assert [label.get_text() for label in axes["images"].get_yticklabels()] == ["conv", "fc"]
    assert [label.get_text() for label in axes["images"].get_xticklabels()] == ["0", "1", "10", "100"]
    assert axes["images"].images[0].get_clim() == axes["speech"].images[0].get_clim() == pytest.approx((0.2, 0.9))


def test_what_runs_from_left_to_right_may_be_another_column_than_the_step() -> None:
    by_noise = TWO.rename(columns={"step": "noise"})
    _, axes = drawn(by_noise, x="noise")
    assert np.allclose(axes["images"].images[0].get_array(), drawn(TWO)[1]["images"].images[0].get_array())
    assert axes["images"].get_xlabel() == "noise"
    assert "at noise 100" in fingerprint(by_noise, x="noise").alt


def test_rows_and_snapshots_keep_their_order_whatever_the_order_of_the_table() -> None:
    rows = {"z": [1.0, 2.0, 3.0, 4.0], "a": [5.0, 6.0, 7.0, 8.0]}
    late_steps_first = cells("p", rows).sort_values("step", ascending=False, kind="stable")
    _, axes = drawn(late_steps_first)
    assert np.asarray(axes["p"].images[0].get_array()).tolist() == list(rows.values())


def test_a_missing_value_is_left_out_of_the_mean_and_of_the_colours() -> None:
    nan = float("nan")
    one, other = cells("p", {"a": [nan, 0.2, nan, 0.4]}, seed=0), cells("p", {"a": [0.6, 0.4, nan, 0.4]}, seed=1)
    _, axes = drawn(pd.concat([one, other]))
    shown = axes["p"].images[0].get_array()
    assert np.allclose(shown[0, [0, 1, 3]], [0.6, 0.3, 0.4])
    assert shown.mask[0].tolist() == [False, False, True, False]
    assert axes["p"].images[0].get_clim() == pytest.approx((0.3, 0.6))


def test_the_words_say_where_a_seed_ends_before_the_others() -> None:
    nan = float("nan")
    assert "by row and step, mean over seeds. images" in fingerprint(TWO).alt
    whole = cells("p", {"a": [0.9, 0.8, 0.5, 0.3], "never": [nan] * 4})
    cut = cells("p", {"a": [0.7, 0.6, nan, nan], "never": [nan] * 4}, seed=1)
    for diverged in (cut, cut[cut["step"] < 10]):
        assert "mean over the seeds that got there. p" in fingerprint(pd.concat([whole, diverged])).alt
    assert "mean over seeds. p" in fingerprint(whole).alt
    assert "mean over seeds. images" in fingerprint(pd.concat([TWO, whole.assign(step=2 * whole["step"])])).alt


def test_more_is_brighter_and_zero_is_white_where_it_is_signed() -> None:
    _, axes = drawn(TWO, limits=(0, 1))
    image = axes["images"].images[0]
    assert image.get_clim() == (0, 1)
    light = [sum(image.cmap(x)[:3]) for x in np.linspace(0, 1, 20)]
    assert (np.diff(light) > 0).all()
    _, axes = drawn(cells("p", {"a": [-0.1, 0.0, 0.1, 0.4]}), signed=True)
    image = axes["p"].images[0]
    assert image.get_clim() == (-0.4, 0.4)
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.95
    assert 0.65 < matplotlib.colors.rgb_to_hsv(image.cmap(image.norm(0.4))[:3])[0] < 0.85


def test_a_line_stands_at_its_step_between_snapshots() -> None:
    _, axes = drawn(TWO, mark={"images": 55.0, "elsewhere": 3.0})
    assert {line.get_xdata()[0] for line in axes["images"].lines} == {2.5}  # half-way from step 10 to step 100
    assert not axes["speech"].lines


def test_names_stand_once_beside_panels_that_share_their_rows_and_are_thinned_where_there_are_many() -> None:
    many = {f"layers.{i}.weight": [0.5] * 4 for i in range(50)}
    figure, axes = drawn(
        pd.concat([cells("decay 0", many), cells("decay 1", many), cells("decay 2", {"a": [0.1] * 4})])
    )
    counts = {title: len(ax.get_yticklabels()) for title, ax in axes.items()}
    assert counts == {"decay 0": 17, "decay 1": 0, "decay 2": 1}
    assert figure.get_size_inches()[1] > 7  # fifty rows need room


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_the_theme_is_that_of_the_page(theme: Theme) -> None:
    svg = fingerprint(TWO).svg(theme)
    assert theme.background in svg
    assert theme.foreground in svg


def test_the_words_and_the_table_come_from_the_data() -> None:
    bundle = fingerprint(TWO, mark={"images": 10})._repr_mimebundle_()
    said = bundle[MIME]["alt"]
    assert "images (a line marks step 10): 2 rows, mean 0.75 at step 0 and 0.45 at step 100" in said
    assert "then lowest in conv.weight (0.2) and highest in fc.weight (0.7)" in said
    assert "speech: 1 row, mean" in said
    assert len(pd.read_csv(StringIO(bundle[MIME]["csv"]))) == len(TWO)


def test_one_function_of_a_recording_names_the_rows_of_each_panel() -> None:
    torch.manual_seed(0)
    groups = {}
    for panel, widths in {"small": (3, 2), "large": (5, 4)}.items():
        recorder = sd.Recorder(nn.Sequential(nn.Linear(*widths), nn.Linear(widths[1], 3)), steps=[0, 4])
        recorder(4)
        groups[panel] = [replace(recorder.finish(), provenance={"seed": 3})]
    data = sd.show.over_steps(groups, lambda r: {f"{m}, {r.shapes[m]}": r.effective_rank(m) for m in r.matrices})
    assert data.groupby("panel")["series"].unique().map(list).to_dict() == {
        "small": ["0.weight, (2, 3)", "1.weight, (3, 2)"],
        "large": ["0.weight, (4, 5)", "1.weight, (3, 4)"],
    }
    assert len(data) == 8
