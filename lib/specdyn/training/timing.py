"""When something happens in a run: first passages of a curve over steps."""

from __future__ import annotations

import math

import numpy as np

from specdyn.training.recording import Array


def first_at_most(steps: Array, values: Array, level: float) -> float:
    """Return the first step at which a curve is at most ``level``, NaN if it never is.

    >>> first_at_most(np.array([0, 10, 20]), np.array([0.9, 0.5, 0.1]), 0.5)
    10.0
    """
    below = np.flatnonzero(np.asarray(values) <= level)
    return float(steps[below[0]]) if len(below) else math.nan


def half_fall(steps: Array, values: Array, opens: float) -> float:
    """Return the first step at which a curve has lost half of what it loses after step ``opens``.

    The window is [opens, last step]; the loss is from the value at its opening to the lowest value in it.
    NaN where the window never opens or the curve does not fall in it.

    >>> half_fall(np.array([0, 10, 20, 30]), np.array([9.0, 1.0, 0.4, 0.2]), opens=10)
    20.0
    """
    inside = np.asarray(steps) >= opens
    if not inside.any():
        return math.nan
    window, first = np.asarray(values)[inside], np.asarray(values)[inside][0]
    if window.min() >= first:
        return math.nan
    return first_at_most(np.asarray(steps)[inside], window, (first + window.min()) / 2)
