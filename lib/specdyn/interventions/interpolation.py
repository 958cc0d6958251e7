"""Interpolation: what networks on the straight line between two do, and the barrier there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import update_bn

from specdyn.interventions.combination import combined
from specdyn.tasks import Task

Array = NDArray[Any]

_CAUTION = 4  # how much more a curve may bend between points than at them: of a narrow peak they show the flanks alone


@dataclass(frozen=True, eq=False)
class Line:
    """Networks on the line between two: the share ``at`` of the second (P,), and what they do.

    ``losses`` (P, B) are those of B batches of training examples, the same at every point; ``metrics`` are those of
    the task (P,), and ``"loss"``, the mean over the batches.

    >>> line = Line(np.array([0.0, 0.5, 1.0]), np.array([[1.0, 3.0], [5.0, 6.0], [2.0, 2.0]]), {})
    >>> line.barrier(), line.standard_error()
    (3.5, 0.0)
    """

    at: Array
    losses: Array
    metrics: Mapping[str, Array]

    def values(self, metric: str = "loss") -> Array:
        """Return a metric at every point (P,). Raises ``ValueError`` for one that was not measured."""
        known: dict[str, Array] = {"loss": self.losses.mean(1), **self.metrics}
        if metric not in known:
            raise ValueError(f"no metric {metric!r} on this line: choose one of {', '.join(known)}")
        return known[metric]

    def gap(self, metric: str = "loss") -> Array:
        """Return how far a metric lies above the straight line between its values at the ends (P,).

        It is NaN where that line is none, because a value at an end is not finite.
        """
        return _gap(self.at, self.values(metric))

    def barrier(self, metric: str = "loss", *, over: Literal["line", "interior"] = "line") -> float:
        """Return the greatest gap on the whole line, which is at least 0 (paper, Equation 6).

        The official code leaves the ends out, over the ``"interior"``: where it is lower between, that is negative, and
        the closer to an end the nearest point, the less so. It has 11 even points, ``points=11, most=11`` in `line`.
        """
        return float(self.gap(metric)[_span(over)].max())

    def standard_error(self, *, over: Literal["line", "interior"] = "line") -> float:
        """Return that of the barrier in the loss, as an average over batches of the gap at the highest point.

        It tells how far the barrier would move with other batches; that the highest of several points is taken, and
        that the statistics of BatchNorm are estimates, is not in it. It is 0 where every batch is the whole training
        set, and where the highest point is an end, and NaN where a loss is not finite.
        """
        place = int(self.gap()[_span(over)].argmax()) + (over == "interior")
        with np.errstate(invalid="ignore"):
            batches = _gap(self.at, self.losses)[place]
            return float(batches.std(ddof=1) / len(batches) ** 0.5)

    @property
    def room(self) -> float:
        """How much higher the loss may be between the points, if it bends four times as much there as at them."""
        gap = self.gap()
        with np.errstate(invalid="ignore"):
            return float(np.maximum(_crests(self.at, gap).max() - gap.max(), 0))


def line(
    task: Task,
    one: nn.Module,
    two: nn.Module,
    data: Any,
    *,
    points: int = 11,
    batches: int = 8,
    tolerance: float = 0.01,
    most: int = 41,
) -> Line:
    """Return what the networks between two do, first at ``points`` in even distances, then where it matters.

    At every point, the ends included, BatchNorm's statistics are estimated again on the task's ``inputs``. Between
    points the loss is taken to bend up to four times as much as at the points around; while it may so rise more than
    ``tolerance`` above the highest one, the middle of that stretch is looked at, until there are ``most`` points (see
    ``room``). A bell-shaped peak as wide as the first points are apart is so found wherever it lies, also on the flank
    of a hill; one of half that width may be lost there, and narrower ones anywhere: start from more points. A loss that
    is not finite ends the search, and the barrier is then infinite or NaN.

    The ``batches`` are the task's own with seed 0, whatever the seeds of the networks, so that lines can be compared.

    Raises ``ValueError`` for networks of different architecture, and for fewer than 3 points or 2 batches.

    >>> from specdyn.tasks import build, noisy_labels
    >>> task = noisy_labels("smoke")
    >>> between = line(task, build(task, 0), build(task, 0), task.data(0, torch.device("cpu")))
    >>> len(between.at), between.barrier(), between.barrier("validation_error")
    (11, 0.0, 0.0)
    """
    if points < 3 or batches < 2:
        raise ValueError(f"points={points} and batches={batches}: a line takes at least 3, a standard error at least 2")
    examples = [task.batch(data, step, 0) for step in range(batches)]

    @torch.no_grad()
    def look(share: float) -> tuple[list[float], Mapping[str, float]]:
        network = combined([one, two], [1 - share, share]).eval()
        update_bn(task.inputs(data), network)
        return [float(task.loss(network, batch)) for batch in examples], task.metrics(network, data)

    found = {float(share): look(float(share)) for share in np.linspace(0, 1, points)}
    while len(found) < most and (share := _wanted({at: fmean(each) for at, (each, _) in found.items()}, tolerance)):
        found[share] = look(share)
    at = sorted(found)
    names = found[0.0][1]
    metrics = {name: np.array([found[share][1][name] for share in at]) for name in names}
    return Line(np.array(at), np.array([found[share][0] for share in at]), metrics)


def _gap(at: Array, values: Array) -> Array:
    """Return how far values (P, ...) lie above the straight line from the first to the last."""
    share = at.reshape(-1, *[1] * (values.ndim - 1))
    with np.errstate(invalid="ignore"):
        rise = values[-1] - values[0]
        gap: Array = values - (values[0] + share * np.where(np.isfinite(rise), rise, np.nan))
        return gap


def _crests(at: Array, values: Array) -> Array:
    """Return how high a curve may rise between points (P - 1,), from how much it bends at the points around.

    A curve with the second derivative -M over a stretch of length h and slope s rises (M h / 2 - |s|)^2 / 2 M above
    the higher end if M h / 2 exceeds |s|, and else not at all.
    """
    width = np.diff(at)
    with np.errstate(invalid="ignore", over="ignore"):
        slope = np.diff(values) / width
        bend = 2 * np.abs(np.diff(slope)) / (width[:-1] + width[1:])
        around = sliding_window_view(np.pad(bend, 2), 4).max(-1)  # at the two points on either side
        bend = (_CAUTION * around).clip(min=np.finfo(float).tiny)
        reach = (bend * width / 2 - np.abs(slope)).clip(min=0)
        crests: Array = np.maximum(values[:-1], values[1:]) + reach**2 / (2 * bend)
        return crests


def _wanted(losses: Mapping[float, float], tolerance: float) -> float | None:
    """Return the middle of the stretch where a curve may rise furthest, if that exceeds a tolerance."""
    at = np.array(sorted(losses))
    gap = _gap(at, np.array([losses[share] for share in at]))
    crests = _crests(at, gap)
    place = int(crests.argmax())
    return float(at[place : place + 2].mean()) if crests[place] > gap.max() + tolerance else None


def _span(over: Literal["line", "interior"]) -> slice:
    """Return which points count."""
    spans = {"line": slice(None), "interior": slice(1, -1)}
    if over not in spans:
        raise ValueError(f'over={over!r}: choose "line" or "interior"')
    return spans[over]
