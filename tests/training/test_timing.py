"""First passages on hand-made curves."""

import math

import numpy as np
import pytest

from specdyn.training import first_at_most, half_fall

STEPS = np.arange(0, 60, 10)


@pytest.mark.parametrize(
    ("values", "opens", "expected"),
    [
        ([1.0, 0.6, 0.5, 0.4, 0.2, 0.1], 20, 40),  # half of what is lost in the window, not of all
        ([1.0, 0.6, 0.5, 0.1, 0.5, 0.5], 20, 30),  # first passage, even if it comes back up
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], 0, 30),  # exactly half counts
        ([1.0, 0.6, 0.6, 0.7, 0.8, 0.9], 20, math.nan),  # never below where the window opened
        ([1.0, 0.5, 0.4, 0.3, 0.2, 0.1], 99, math.nan),  # the window never opens
        ([1.0, 0.5, 0.4, 0.3, 0.2, 0.1], math.nan, math.nan),
    ],
)
def test_half_fall(values: list[float], opens: float, expected: float) -> None:
    found = half_fall(STEPS, np.array(values), opens)
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_first_at_most_is_nan_where_it_never_is() -> None:
    assert first_at_most(STEPS, np.linspace(1, 0.5, 6), 0.7) == 30
    assert math.isnan(first_at_most(STEPS, np.ones(6), 0.5))
