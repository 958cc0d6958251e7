"""When a snapshot is due: every so many steps, or at steps that are spaced beforehand."""

from __future__ import annotations

import itertools
import math
import operator
from bisect import bisect_right
from collections.abc import Iterable

import numpy as np

Cadence = int | tuple[int, ...]
"""Every so many steps, or at these steps in increasing order."""

MOST = 1_000_000
"""More steps than this are an endless iterator, or a mistake."""


def log_spaced(last: int, count: int) -> list[int]:
    """Return about ``count`` steps from 0 to ``last``, evenly spaced in their logarithm, without doubles.

    >>> log_spaced(1000, 6)
    [0, 1, 6, 32, 178, 1000]
    """
    _check_spacing("log_spaced", last, count)
    return [0, *np.unique(np.geomspace(1, last, count - 1).round().astype(int)).tolist()]


def evenly_spaced(last: int, count: int) -> list[int]:
    """Return ``count`` steps from 0 to ``last`` at equal distances, fewer where there are not as many.

    >>> evenly_spaced(1000, 5)
    [0, 250, 500, 750, 1000]
    """
    _check_spacing("evenly_spaced", last, count)
    steps: list[int] = np.unique(np.linspace(0, last, count).round().astype(int)).tolist()
    return steps


def cadence(given: int | Iterable[int], name: str = "steps") -> Cadence:
    """Return a cadence as it was given, checked; ``name`` is what an error calls it.

    Raises ``ValueError`` for a distance below 1 and for steps that do not increase, are negative or no
    integers, with the cure.

    >>> cadence([0, 10, 5])
    Traceback (most recent call last):
    ValueError: steps must increase, but 5 comes after 10: give sorted(set(steps))
    """
    if not isinstance(given, Iterable):
        distance = _integer(given, name)
        if distance < 1:
            raise ValueError(f"{name}={distance}: one integer is a distance between snapshots, at least 1")
        return distance
    steps = tuple(_integer(step, name) for step in itertools.islice(given, MOST + 1))
    if len(steps) > MOST:
        raise ValueError(f"{name} has more than {MOST:,} entries: where the end is not known, give one integer")
    if steps and min(steps) < 0:
        raise ValueError(f"{name} has {min(steps)}: give sorted(step for step in {name} if step >= 0)")
    for before, after in itertools.pairwise(steps):
        if after <= before:
            raise ValueError(f"{name} must increase, but {after} comes after {before}: give sorted(set({name}))")
    return steps


def next_due(when: Cadence, step: int) -> float:
    """Return the first step after ``step`` that is due, infinity if none is.

    >>> next_due(10, 25), next_due((0, 25, 40), 25), next_due((0, 25), 25)
    (30, 40, inf)
    """
    if isinstance(when, int):
        return (step // when + 1) * when
    place = bisect_right(when, step)
    return when[place] if place < len(when) else math.inf


def _integer(value: object, name: str) -> int:
    if not isinstance(value, bool | np.bool_):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise ValueError(f"{name} has {value!r}, which is no integer: give sorted({{int(step) for step in {name}}})")


def _check_spacing(function: str, last: int, count: int) -> None:
    if last < 1 or count < 2:
        raise ValueError(f"{function}({last}, {count}): need last >= 1 and count >= 2")
