"""Pictures of matrices and curves over theory: what they say in words and in which colours they are drawn."""

from __future__ import annotations

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from specdyn.show import DARK, LIGHT, against_theory, images, spectra

TABLE = pd.DataFrame({"entry": [1.0]})


def pictured(signed: bool) -> list[object]:
    """The images drawn for a small and a large matrix."""
    panels = {"small": np.array([[0.0, 1.0]]), "large": np.array([[-2.0, 4.0], [0.0, 1.0]])}
    figure = images(panels, name="fig-x", caption="c", alt="a", data=TABLE, columns=3, signed=signed).draw(LIGHT)
    drawn = [image for ax in figure.axes for image in ax.images]
    titles = [ax.get_title() for ax in figure.axes]
    plt.close(figure)
    assert titles == ["small", "large", ""]
    return drawn


def test_all_pictures_share_one_scale() -> None:
    assert {image.get_clim() for image in pictured(signed=False)} == {(-2.0, 4.0)}


def test_zero_is_white_on_the_signed_scale() -> None:
    for image in pictured(signed=True):
        assert image.get_clim() == (-4.0, 4.0)
        red, green, blue, _ = image.cmap(image.norm(0.0))
        assert min(red, green, blue) > 0.95
        positive = matplotlib.colors.rgb_to_hsv(image.cmap(image.norm(4.0))[:3])
        assert 0.65 < positive[0] < 0.85, "positive entries are purple, as the figure's text says"


def test_a_spectrum_is_drawn_largest_first_and_said_in_words() -> None:
    figure = spectra({"picture": [np.array([1.0, 4.0, 2.0])]}, name="fig-x", caption="c")
    assert figure.alt == "Singular values by index. picture: largest 4, second 2, middle 2, smallest 1."
    assert figure.data["singular value"].tolist() == [4.0, 2.0, 1.0]
    drawn = figure.draw(DARK)
    assert drawn.axes[0].get_yscale() == "log"
    assert drawn.axes[0].lines[0].get_ydata().tolist() == [4.0, 2.0, 1.0]
    plt.close(drawn)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_prediction_lies_under_the_measured_curve(theme: object) -> None:
    time = np.linspace(0, 1, 5)
    data = pd.concat(
        pd.DataFrame({"panel": p, "series": s, "seed": 0, "time": time, "measured": time, "exact": time**2})
        for p in ("left", "right")
        for s in ("large", "small")
    )
    figure = against_theory(data, name="fig-x", caption="c", ylabel="y", x="time", alt="a").draw(theme)
    for ax in figure.axes:
        exact, measured = ax.lines[0], ax.lines[1]
        assert exact.get_ydata() == pytest.approx(time**2)
        assert measured.get_ydata() == pytest.approx(time)
        assert exact.get_linewidth() > 2 * measured.get_linewidth()
        assert ax.lines[1].get_color() != ax.lines[3].get_color()
    plt.close(figure)
