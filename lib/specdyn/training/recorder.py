"""A recorder: watches the spectra of a network inside anybody's training loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from specdyn import spectra
from specdyn.training.recording import Array, Pair, Recording


def log_spaced(last: int, count: int) -> list[int]:
    """Return about ``count`` steps from 0 to ``last``, evenly spaced in their logarithm, without doubles.

    >>> log_spaced(1000, 6)
    [0, 1, 6, 32, 178, 1000]
    """
    if last < 1 or count < 2:
        raise ValueError(f"log_spaced({last}, {count}): need last >= 1 and count >= 2")
    return [0, *np.unique(np.geomspace(1, last, count - 1).round().astype(int)).tolist()]


class Recorder:
    """Takes a snapshot of every matrix at the given steps; call it with the number of updates made so far.

    >>> model = nn.Linear(3, 2)
    >>> recorder = Recorder(model, steps=[0, 10])
    >>> for step in range(11):
    ...     recorder(step, train_loss=1 / (step + 1))
    >>> recorder.finish().singular_values["weight"].shape
    (2, 2)
    """

    def __init__(
        self,
        model: nn.Module,
        steps: Iterable[int],
        pairs: Iterable[Pair] = (),
        *,
        first: int = 0,
        resumed: Recording | None = None,
    ) -> None:
        """Take the snapshot of step ``first``, or go on from a recording that was interrupted."""
        self.model = model
        self.steps = frozenset(steps) | {first}
        self.pairs = tuple(pairs)
        self._shapes: dict[str, tuple[int, int]] = {}
        self._singular_values: dict[int, dict[str, Array]] = {}
        self._alignments: dict[int, dict[Pair, Array]] = {}
        self._metrics: dict[int, dict[str, float]] = {}
        if resumed is None:
            self._take(first)
        else:
            self._continue(resumed)

    def __call__(self, step: int, **metrics: Any) -> None:
        """Take the snapshot of this step if it is due, with any scalars worth keeping beside it."""
        if step not in self.steps:
            return
        if step not in self._singular_values:
            self._take(step)
        self._metrics.setdefault(step, {}).update({name: _number(value) for name, value in metrics.items()})

    def finish(self, provenance: Mapping[str, Any] | None = None) -> Recording:
        """Return what was recorded so far; the recorder can go on afterwards."""
        steps = sorted(self._singular_values)
        metrics = [self._metrics.get(step, {}) for step in steps]
        names = list(dict.fromkeys(name for row in metrics for name in row))
        return Recording(
            steps=np.array(steps),
            singular_values={
                name: np.stack([self._singular_values[step][name] for step in steps]) for name in self._shapes
            },
            shapes=dict(self._shapes),
            alignments={pair: np.stack([self._alignments[step][pair] for step in steps]) for pair in self.pairs},
            metrics={name: np.array([row.get(name, np.nan) for row in metrics]) for name in names},
            provenance=dict(provenance or {}),
        )

    def _take(self, step: int) -> None:
        snapshot = spectra.measure(self.model, vectors=frozenset(itertools.chain(*self.pairs)))
        self._shapes = {name: spectrum.shape for name, spectrum in snapshot.items()}
        self._singular_values[step] = {
            name: np.asarray(spectrum.singular_values, dtype=np.float32) for name, spectrum in snapshot.items()
        }
        self._alignments[step] = {
            (a, b): np.asarray(spectra.alignment(snapshot[a].svd, snapshot[b].svd), dtype=np.float32)
            for a, b in self.pairs
        }

    def _continue(self, recording: Recording) -> None:
        self._shapes = dict(recording.shapes)
        for i, step in enumerate(recording.steps.tolist()):
            self._singular_values[step] = {k: v[i] for k, v in recording.singular_values.items()}
            self._alignments[step] = {k: v[i] for k, v in recording.alignments.items()}
            self._metrics[step] = {k: float(v[i]) for k, v in recording.metrics.items()}


def _number(value: Any) -> float:
    """Return a scalar as it is used in a loop: a number, or a tensor that may still carry its gradient."""
    return float(value.detach() if isinstance(value, Tensor) else value)
