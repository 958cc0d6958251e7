"""A recorder: watches the spectra of a network inside anybody's training loop."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from specdyn import spectra
from specdyn.spectra import SVD, Method, Pair, Rule, Snapshot
from specdyn.spectra.snapshot import PairLike, link
from specdyn.training.cadence import Cadence, cadence, next_due
from specdyn.training.cost import Cost, timed
from specdyn.training.recording import Array, Key, Recording, over, under

BLOCK = 10
"""Side of the blocks kept of alignments and agreements: the paper's scores read ten directions."""


class Recorder:
    """Takes a snapshot of every matrix when one is due; call it with the number of updates made so far.

    ``steps``: one integer is every so many steps, with no end to know; else increasing step numbers, such as
    ``log_spaced(10_000, 100)``. The first snapshot is taken at once, as that of step ``first``. A step that
    the loop jumps over is made up for at its next call. ``pairs``: whose alignment is recorded, as
    `specdyn.spectra.feeds` and `specdyn.spectra.declare` return them, read off by ``rule``.

    ``vectors``: when singular vectors are taken, like ``steps`` and beside them; by default with every
    snapshot, ``()`` for never. One integer takes them at the last step too, where that is known. Of every
    matrix the first ``directions`` are held in memory until `finish` compares them with the last ones
    taken; `cost` says beforehand what that comes to. ``split``, ``method`` and ``weights`` are those of
    `specdyn.spectra.measure`. ``resumed``: the `state` of a recorder to go on from.

    Raises ``ValueError`` for steps that do not increase, are negative or no integers, with the cure.

    >>> model = nn.Linear(3, 2)
    >>> recorder = Recorder(model, steps=[0, 10])
    >>> for step in range(11):
    ...     recorder(step, train_loss=1 / (step + 1))
    >>> recording = recorder.finish()
    >>> recording.singular_values["weight"].shape
    (2, 2)
    >>> recording.agreement("weight").round(6).tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        model: nn.Module,
        steps: int | Iterable[int],
        pairs: Iterable[PairLike] = (),
        *,
        vectors: int | Iterable[int] | None = None,
        directions: int = 10,
        split: str | Collection[str] = (),
        rule: Rule = "paper",
        method: Method = "auto",
        weights: Mapping[str, Tensor] | None = None,
        first: int = 0,
        resumed: Mapping[str, Array] | None = None,
    ) -> None:
        """Take the snapshot of step ``first``, or go on from where a recorder was interrupted."""
        if directions < 0:
            raise ValueError(f"directions={directions}: give how many to keep of each matrix, or 0 for none")
        self.model, self.pairs = model, tuple(Pair(*link(pair)) for pair in pairs)
        self.rule, self.directions = rule, directions
        self._how: dict[str, Any] = {"split": split, "method": method, "weights": weights}
        self._first, self._steps = operator.index(first), cadence(steps)
        self._vector_steps = _vector_steps(vectors, self._steps, first)
        self._shapes: dict[str, tuple[int, int]] = {}
        self._chances: dict[Pair, float] = {}
        self._spectra: dict[int, Mapping[str, Array]] = {}
        self._vectors: dict[int, _Vectors] = {}
        self._metrics: dict[int, dict[str, float]] = {}
        self.snapshot: Snapshot | None = None
        """The snapshot just taken, for whoever needs its decompositions too; None once the loop went on."""
        if resumed is None:
            self._take(first, not isinstance(self._vector_steps, tuple) or first in self._vector_steps)
        else:
            self._continue(resumed)

    def __call__(self, step: int, **metrics: Any) -> None:
        """Take the snapshot of this step if it is due, with any scalars worth keeping beside it.

        Raises ``ValueError`` for a step lower than the last one recorded.
        """
        step = operator.index(step)
        if step < self._last:
            raise ValueError(
                f"step {step} comes after step {self._last} was recorded: "
                "count the updates of the whole run, not from 0 in every epoch"
            )
        if step > self._last:
            self.snapshot = None  # before another is taken, so that the vectors of two are never held
        if not self.due(step):
            return
        if step > self._last:
            self._take(step, self._next_vectors <= step)
        self._metrics.setdefault(step, {}).update({name: _number(name, value) for name, value in metrics.items()})

    def due(self, step: int) -> bool:
        """Return whether a call with this step records anything."""
        return step == self._last or step >= self._next

    def finish(self, provenance: Mapping[str, Any] | None = None) -> Recording:
        """Return what was recorded so far; the recorder can go on afterwards."""
        return self._recording(provenance or {}, **self._agreements())

    def state(self) -> dict[str, Array]:
        """Return everything the recorder holds, so that ``Recorder(..., resumed=state)`` can go on from it."""
        return {
            **self._recording({}).to_arrays(),
            "settings": np.array(self._settings),
            **over("left", _stacked([vectors.left for vectors in self._vectors.values()])),
            **over("right", _stacked([vectors.right for vectors in self._vectors.values()])),
        }

    def cost(self) -> Cost:
        """Return what a snapshot costs, and all of them where their number is known.

        Takes two snapshots of each kind to see how long they last, and forgets them.

        >>> recorder = Recorder(nn.Linear(30, 20), steps=range(0, 1001, 100))
        >>> recorder.cost().snapshots, recorder.cost().memory  # 20 singular values in float32
        (11, 80)
        """
        seconds, values = timed(lambda: _values(self._measured(with_vectors=False)))
        seconds_with_vectors, vectors = timed(lambda: self._read(self._measured(with_vectors=True)))
        aligned = _size(vectors.alignments) + _size(vectors.alignment_blocks)
        held = _size(vectors.left) + _size(vectors.right)
        kept = [left.shape[1] for left in vectors.left.values()]
        agreed = sum(count + min(count, BLOCK) ** 2 + 1 for count in kept) * np.dtype(np.float32).itemsize
        plain = _size(values)
        snapshots, with_vectors = self._counts()
        return Cost(
            seconds=seconds,
            seconds_with_vectors=seconds_with_vectors,
            memory=plain,
            memory_with_vectors=plain + aligned + held,
            file=plain,
            file_with_vectors=plain + aligned + agreed,
            held=sum(map(_size, self._spectra.values())) + sum(vectors.size for vectors in self._vectors.values()),
            snapshots=snapshots,
            snapshots_with_vectors=with_vectors,
        )

    def _counts(self) -> tuple[int, int] | tuple[None, None]:
        """Return the number of snapshots of the whole run, and of those with vectors, where it is known."""
        if isinstance(self._steps, int) or isinstance(self._vector_steps, int):
            return None, None
        with_vectors = {step for step in self._vector_steps if step >= self._first}
        plain = {step for step in self._steps if step >= self._first} | {self._first}
        return len(plain | with_vectors), len(with_vectors)

    def _measured(self, with_vectors: bool) -> Snapshot:
        if not with_vectors:
            return spectra.measure(self.model, vectors=False, **self._how)
        return spectra.measure(self.model, pairs=self.pairs, vectors=self.directions > 0, **self._how)

    def _take(self, step: int, with_vectors: bool) -> None:
        begins = not self._spectra
        read_vectors = with_vectors or begins  # at the beginning, so that a pair that makes no sense fails then
        snapshot = self._measured(read_vectors)
        vectors = self._read(snapshot) if read_vectors else None
        shapes = {name: spectrum.shape for name, spectrum in snapshot.items()}
        if begins:
            self._shapes = shapes
            self._chances = {pair: snapshot.alignment_chance(pair, self.rule) for pair in self.pairs}
        if shapes != self._shapes:
            raise ValueError(
                f"the matrices were {_listed(self._shapes)} and are {_listed(shapes)} at step {step}: "
                "finish this recording and make a new recorder"
            )
        self.snapshot = snapshot
        self._spectra[step] = _values(snapshot)
        if vectors and with_vectors:
            self._vectors[step] = vectors
        self._look_ahead()

    def _read(self, snapshot: Snapshot) -> _Vectors:
        """Return what is kept of a snapshot's vectors."""
        named = snapshot.items() if self.directions else ()
        top = {name: spectrum.svd.top(self.directions) for name, spectrum in named}
        return _Vectors(
            {pair: _compact(snapshot.alignment(pair, self.rule)) for pair in self.pairs},
            {pair: _compact(snapshot.alignment_block(pair, self.rule, k=BLOCK)) for pair in self.pairs},
            {name: _compact(svd.U) for name, svd in top.items()},
            {name: _compact(svd.Vh) for name, svd in top.items()},
        )

    def _look_ahead(self) -> None:
        """Note the last step recorded and the next one due."""
        self._last = max(self._spectra)
        self._next_vectors = next_due(self._vector_steps, max(self._vectors, default=self._first - 1))
        self._next = min(next_due(self._steps, self._last), self._next_vectors)

    def _agreements(self) -> dict[str, Mapping[str, Any]]:
        """Return how every snapshot agrees with the last one that has vectors, as fields of a recording."""
        diagonals, blocks, subspaces = {}, {}, {}
        for name in next(iter(self._vectors.values())).left if self._vectors else ():
            over_time = self._top(name)
            last = SVD(*(array[-1] for array in over_time))
            k = min(BLOCK, len(last.S))
            diagonals[name] = _compact(spectra.agreement(over_time, last))
            blocks[name] = _compact(spectra.agreement_block(over_time, last, k))
            subspaces[name] = _compact(spectra.subspace_agreement(over_time, last, k))
        chances = {name: spectra.agreement_chance(*self._shapes[name]) for name in diagonals}
        return {
            "agreements": diagonals,
            "agreement_blocks": blocks,
            "subspace_agreements": subspaces,
            "agreement_chances": chances,
        }

    def _top(self, name: str) -> SVD:
        """Return what is kept of a matrix's vectors at every step that has them, in the order of time."""
        left, right = (np.stack([getattr(v, side)[name] for v in self._vectors.values()]) for side in ("left", "right"))
        values = np.stack([self._spectra[step][name][: left.shape[-1]] for step in self._vectors])
        return SVD(*(torch.from_numpy(array).double() for array in (left, values, right)))

    def _recording(self, provenance: Mapping[str, Any], **agreements: Mapping[str, Any]) -> Recording:
        metrics = [self._metrics.get(step, {}) for step in self._spectra]
        names = list(dict.fromkeys(name for row in metrics for name in row))
        vectors = list(self._vectors.values())
        return Recording(
            steps=np.array(list(self._spectra)),
            singular_values=_stacked(list(self._spectra.values())),
            shapes=dict(self._shapes),
            metrics={name: np.array([row.get(name, np.nan) for row in metrics]) for name in names},
            provenance=dict(provenance),
            vector_steps=np.array(list(self._vectors), dtype=int),
            rule=self.rule,
            alignments=_stacked([row.alignments for row in vectors]),
            alignment_blocks=_stacked([row.alignment_blocks for row in vectors]),
            alignment_chances=dict(self._chances),
            **agreements,
        )

    @property
    def _settings(self) -> str:
        pairs = ", ".join(map(str, self.pairs)) or "none"
        return f"pairs: {pairs}; rule: {self.rule}; directions: {self.directions}"

    def _continue(self, state: Mapping[str, Array]) -> None:
        if (theirs := str(state["settings"])) != self._settings:
            raise ValueError(f"resumed is the state of a recorder with {theirs}; this one has {self._settings}")
        recording, left, right = Recording.from_arrays(state), under("left", state), under("right", state)
        self._shapes, self._chances = dict(recording.shapes), dict(recording.alignment_chances)
        for i, step in enumerate(recording.steps.tolist()):
            self._spectra[step] = _row(recording.singular_values, i)
            self._metrics[step] = {name: float(value) for name, value in _row(recording.metrics, i).items()}
        for i, step in enumerate(recording.vector_steps.tolist()):
            parts = (recording.alignments, recording.alignment_blocks, left, right)
            self._vectors[step] = _Vectors(*(_row(part, i) for part in parts))
        self._look_ahead()


@dataclass(frozen=True)
class _Vectors:
    """What is kept of the singular vectors of one snapshot."""

    alignments: Mapping[Pair, Array]
    alignment_blocks: Mapping[Pair, Array]
    left: Mapping[str, Array]
    """For each matrix its first left singular vectors (outputs, directions)."""
    right: Mapping[str, Array]
    """For each matrix its first right singular vectors (directions, inputs)."""

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return _size(self.alignments) + _size(self.alignment_blocks) + _size(self.left) + _size(self.right)


def _vector_steps(vectors: int | Iterable[int] | None, steps: Cadence, first: int) -> Cadence:
    """Return when vectors are taken: where the end is known, always there too, for it is compared with."""
    if vectors is not None:
        when = cadence(vectors, "vectors")
        if not isinstance(when, int) or isinstance(steps, int):
            return when
        last = max(steps, default=first)
        return tuple(sorted({first, *range(0, last, when), last}))
    return steps if isinstance(steps, int) else tuple(sorted({first, *steps}))


def _values(snapshot: Snapshot) -> dict[str, Array]:
    return {name: _compact(spectrum.singular_values) for name, spectrum in snapshot.items()}


def _compact(values: Tensor | Array) -> Array:
    """Return a float32 copy, which does not keep alive what the values were cut from."""
    array = values.cpu().numpy() if isinstance(values, Tensor) else values
    return np.array(array, dtype=np.float32, order="C")


def _listed(shapes: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {rows} x {columns}" for name, (rows, columns) in shapes.items())


def _size(arrays: Mapping[Any, Array]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _stacked(rows: list[Mapping[Key, Array]]) -> dict[Key, Array]:
    """Return for every key its arrays of all rows."""
    return {key: np.stack([row[key] for row in rows]) for key in (rows[0] if rows else ())}


def _row(arrays: Mapping[Key, Array], index: int) -> dict[Key, Array]:
    return {key: array[index] for key, array in arrays.items()}


def _number(name: str, value: Any) -> float:
    """Return a scalar as it is used in a loop: a number, or a tensor that may still carry its gradient."""
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is no single number ({error}): give one, as in {name}=values.mean()") from error
