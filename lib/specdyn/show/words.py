"""Numbers of several runs in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Return the smallest and the largest of some numbers in words, or the one they round to.

    What is not finite, as of a run that diverged, is left out.

    >>> spread([0.5, 0.25]), spread([0.501, 0.499]), spread([math.nan])
    ('0.25 to 0.50', '0.50', 'none')
    """
    found = [value for value in values if math.isfinite(value)]
    ends = [f"{end:.{digits}f}" for end in (min(found), max(found))] if found else ["none"]
    return ends[0] if ends[0] == ends[-1] else " to ".join(ends)
