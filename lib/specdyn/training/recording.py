"""A recording: the spectra of one run over time, with its metrics and provenance, in one plain file."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from specdyn import spectra
from specdyn.spectra import Pair, PairLike
from specdyn.training.files import replacing

FORMAT = 2
"""Version of the file layout. Format 1, which had neither agreements nor blocks, is read as well."""

Array = npt.NDArray[Any]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Recording:
    """Measurements of one run at T steps, at Tv of them with singular vectors; r is min(shape).

    Arrays are float32 on disk and in memory; metrics are float64.
    """

    steps: Array
    """(T,) numbers of updates made before each snapshot."""
    singular_values: Mapping[str, Array]
    """For each matrix (T, r), descending."""
    shapes: Mapping[str, tuple[int, int]]
    """For each matrix its shape (outputs, inputs)."""
    metrics: Mapping[str, Array]
    """For each metric (T,); NaN where none was given."""
    provenance: Mapping[str, Any]
    """How the run was made: settings, seed, device, threads, versions, seconds."""
    vector_steps: Array = field(default_factory=lambda: np.zeros(0, dtype=int))
    """(Tv,) those of the steps at which singular vectors were taken."""
    rule: str = "paper"
    """How alignments were read off kernels and gates, see `specdyn.spectra.Snapshot.alignment`."""
    alignments: Mapping[Pair, Array] = field(default_factory=dict)
    """For each pair the diagonal of its alignment, (Tv, the smaller r)."""
    alignment_blocks: Mapping[Pair, Array] = field(default_factory=dict)
    """For each pair the alignments [j, k] of its first ten directions, (Tv, 10, 10) or as many as there are."""
    alignment_chances: Mapping[Pair, float] = field(default_factory=dict)
    """For each pair the alignment of unrelated directions."""
    agreements: Mapping[str, Array] = field(default_factory=dict)
    """For each matrix the agreement of its first directions with the last vectors recorded, (Tv, directions)."""
    agreement_blocks: Mapping[str, Array] = field(default_factory=dict)
    """For each matrix the agreements [j, k] of direction j then with direction k at the end, (Tv, 10, 10) at most."""
    subspace_agreements: Mapping[str, Array] = field(default_factory=dict)
    """For each matrix how much of the space of those directions is shared with the end, in whatever order, (Tv,)."""
    agreement_chances: Mapping[str, float] = field(default_factory=dict)
    """For each matrix the agreement of unrelated directions."""

    def __repr__(self) -> str:
        """Return what there is in one line."""
        span = f" from step {self.steps[0]} to {self.steps[-1]}" if len(self.steps) else ""
        metrics = ", ".join(self.metrics) or "none"
        return (
            f"Recording({len(self.steps)} snapshots{span}, {len(self.vector_steps)} with vectors; "
            f"{len(self.matrices)} matrices, {len(self.alignments)} pairs; metrics: {metrics})"
        )

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the matrices in the order of the network."""
        return tuple(self.singular_values)

    def effective_rank(self, matrix: str | None = None) -> Array:
        """Return exp(H)/R over time (T,), of one matrix or averaged over all."""
        return np.asarray(np.mean([spectra.effective_rank(values) for values in self._chosen(matrix)], axis=0))

    def frobenius_norm(self, matrix: str | None = None) -> Array:
        """Return the Frobenius norm over time (T,), of one matrix or of all of them together."""
        squares = [np.square(values).sum(axis=1) for values in self._chosen(matrix)]
        return np.asarray(np.sqrt(np.sum(squares, axis=0)))

    def _chosen(self, matrix: str | None) -> list[Array]:
        return list(self.singular_values.values()) if matrix is None else [_get(self.singular_values, matrix, "matrix")]

    def alignment(self, pair: PairLike) -> Array:
        """Return the top-10 alignment score of a pair over its steps (Tv,); see `alignment_chance`."""
        return _top_score(_get(self.alignments, Pair(*pair), "alignment"))

    def alignment_chance(self, pair: PairLike) -> float:
        """Return what the score of two unrelated matrices would be."""
        return float(_get(self.alignment_chances, Pair(*pair), "alignment"))

    def agreement(self, matrix: str) -> Array:
        """Return the top-10 agreement of a matrix with its last vectors recorded (Tv,)."""
        return _top_score(_get(self.agreements, matrix, "agreement"))

    def agreement_chance(self, matrix: str) -> float:
        """Return what the agreement of two unrelated matrices of its shape would be."""
        return float(_get(self.agreement_chances, matrix, "agreement"))

    def subspace_agreement(self, matrix: str) -> Array:
        """Return what a matrix's first ten directions, or those kept, share with its last ones (Tv,).

        Unlike `agreement` it is not disturbed when two of them change places.
        """
        return np.asarray(_get(self.subspace_agreements, matrix, "agreement"))

    def subspace_agreement_chance(self, matrix: str) -> float:
        """Return what `subspace_agreement` of two unrelated matrices of its shape would be."""
        k = _get(self.agreement_blocks, matrix, "agreement").shape[-1]
        return spectra.subspace_agreement_chance(*self.shapes[matrix], k)

    def to_dataframe(self, quantity: str = "singular_values") -> pd.DataFrame:
        """Return a tidy table, a row a number; an index counts from 0, the largest.

        ``"singular_values"``: step, matrix, index, singular_value. ``"alignment"``: step, previous, next,
        arrow, index, alignment, chance. ``"agreement"``: step, matrix, index, agreement, chance.
        ``"metrics"``: step, metric, value. Raises ``ValueError`` for anything else.
        """
        if quantity not in _COLUMNS:
            raise ValueError(f"no table of {quantity!r}: choose one of {', '.join(_COLUMNS)}")
        labelled: dict[str, list[tuple[dict[str, Any], Array]]] = {
            "singular_values": [({"matrix": name}, values) for name, values in self.singular_values.items()],
            "alignment": [
                (pair._asdict() | {"chance": self.alignment_chance(pair)}, values)
                for pair, values in self.alignments.items()
            ],
            "agreement": [
                ({"matrix": name, "chance": self.agreement_chance(name)}, values)
                for name, values in self.agreements.items()
            ],
            "metrics": [({"metric": name}, values) for name, values in self.metrics.items()],
        }
        columns, value = _COLUMNS[quantity]
        steps = self.vector_steps if quantity in ("alignment", "agreement") else self.steps
        frames = [
            pd.DataFrame(values, index=steps)
            .rename_axis("step")
            .melt(ignore_index=False, var_name="index", value_name=value)
            .assign(**labels)
            .reset_index()
            for labels, values in labelled[quantity]
        ]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    def to_arrays(self) -> dict[str, Array]:
        """Return everything as named arrays without objects, the layout of the file.

        Names are ``steps``, ``vector_steps``, ``rule``, ``provenance`` (JSON), ``format``, and for every matrix,
        pair or metric ``kind/name``, such as ``singular_values/0.weight`` or ``alignment/0.weight -> 1.weight``.
        """
        return {
            "format": np.array(FORMAT),
            "steps": self.steps,
            "vector_steps": self.vector_steps,
            "rule": np.array(self.rule),
            "provenance": np.array(json.dumps(dict(self.provenance))),
            **over("singular_values", self.singular_values),
            **over("shape", self.shapes),
            **over("alignment", self.alignments),
            **over("alignment_block", self.alignment_blocks),
            **over("alignment_chance", self.alignment_chances),
            **over("agreement", self.agreements),
            **over("agreement_block", self.agreement_blocks),
            **over("subspace_agreement", self.subspace_agreements),
            **over("agreement_chance", self.agreement_chances),
            **over("metric", self.metrics),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Recording:
        """Return the recording that `to_arrays` took apart; arrays of other names are left alone."""
        version = int(arrays["format"])
        if version > FORMAT:
            raise _NewerError(f"format {version} is newer than the {FORMAT} this library reads: update specdyn")
        if version == 1:
            arrays = _from_format_1(arrays)
        return cls(
            steps=arrays["steps"],
            singular_values=under("singular_values", arrays),
            shapes={name: (int(shape[0]), int(shape[1])) for name, shape in under("shape", arrays).items()},
            metrics=under("metric", arrays),
            provenance=json.loads(str(arrays["provenance"])),
            vector_steps=arrays["vector_steps"],
            rule=str(arrays["rule"]),
            alignments=_by_pair("alignment", arrays),
            alignment_blocks=_by_pair("alignment_block", arrays),
            alignment_chances={pair: float(chance) for pair, chance in _by_pair("alignment_chance", arrays).items()},
            agreements=under("agreement", arrays),
            agreement_blocks=under("agreement_block", arrays),
            subspace_agreements=under("subspace_agreement", arrays),
            agreement_chances={name: float(chance) for name, chance in under("agreement_chance", arrays).items()},
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write a compressed ``.npz`` that plain NumPy reads; it appears whole or not at all."""
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.to_arrays())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Recording:
        """Read a recording; raise ``ValueError`` naming the file where it is damaged or of another kind."""
        with Path(path).open("rb") as stream:
            try:
                with zipfile.ZipFile(stream):  # what is no archive is not even tried as anything else
                    stream.seek(0)
                with np.load(stream, allow_pickle=False) as file:
                    return cls.from_arrays({key: file[key] for key in file.files})
            except _NewerError as error:
                raise ValueError(f"{path}: {error}") from error
            except _DAMAGE as error:
                raise ValueError(
                    f"{path} is damaged or no recording ({error}): record it again (of a run: delete its whole folder)"
                ) from error


_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, LookupError, RuntimeError, TypeError, ValueError)
"""What reading raises where the bytes, the names or the kinds of arrays are not what was written."""


_COLUMNS = {
    "singular_values": (["step", "matrix", "index", "singular_value"], "singular_value"),
    "alignment": (["step", "previous", "next", "arrow", "index", "alignment", "chance"], "alignment"),
    "agreement": (["step", "matrix", "index", "agreement", "chance"], "agreement"),
    "metrics": (["step", "metric", "value"], "value"),
}
"""For each table its columns, and which of them holds what was measured."""


class _NewerError(ValueError):
    """The file is whole, but a later version of this library wrote it."""


def _from_format_1(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Add what the first format left unsaid: vectors at every step, between plain layers."""
    return {
        **arrays,
        "vector_steps": arrays["steps"],
        "rule": np.array("paper"),
        **{
            f"alignment_chance/{pair}": np.array(spectra.alignment_chance(int(arrays[f"shape/{pair.next}"][1])))
            for pair in _by_pair("alignment", arrays)
        },
    }


def over(kind: str, named: Mapping[Any, Any]) -> dict[str, Array]:
    """Return arrays under names of the file: ``kind/name``."""
    return {f"{kind}/{key}": np.asarray(value) for key, value in named.items()}


def under(kind: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays that `over` named so, by their own names."""
    start = f"{kind}/"
    return {key.removeprefix(start): arrays[key] for key in arrays if key.startswith(start)}


def _by_pair(kind: str, arrays: Mapping[str, Array]) -> dict[Pair, Array]:
    return {Pair(*_parted(key)): values for key, values in under(kind, arrays).items()}


def _parted(key: str) -> tuple[str, str, Any]:
    """Return (previous, next, arrow) of a pair's name."""
    previous, arrow, following = re.split(r" (->|\+>|~) ", key, maxsplit=1)
    return previous, following, arrow


def _get(found: Mapping[Key, Any], key: Key, what: str) -> Any:
    if key not in found:
        raise KeyError(f"no {what} {str(key)!r} in this recording; it has {', '.join(map(str, found)) or 'none'}")
    return found[key]


def _top_score(diagonals: Array) -> Array:
    return np.asarray(spectra.top_score(torch.from_numpy(diagonals).double()))
