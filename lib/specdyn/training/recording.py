"""A recording: the spectra of one run over time, with its metrics and provenance, in one plain file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from specdyn import spectra
from specdyn.training.files import replacing

FORMAT = 1
"""Version of the file layout; a reader refuses one it does not know."""

Array = npt.NDArray[Any]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Recording:
    """Measurements of one run at T steps. Arrays are float32 on disk and in memory; metrics are float64."""

    steps: Array
    """(T,) numbers of updates made before each snapshot."""
    singular_values: Mapping[str, Array]
    """For each matrix (T, R), descending."""
    shapes: Mapping[str, tuple[int, int]]
    """For each matrix its shape (outputs, inputs)."""
    alignments: Mapping[Pair, Array]
    """For each (previous, next) pair the diagonal |<u_j, v'_j>|, (T, rank)."""
    metrics: Mapping[str, Array]
    """For each metric (T,); NaN where none was given."""
    provenance: Mapping[str, Any]
    """How the run was made: settings, seed, device, threads, versions, seconds."""

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
        if matrix is not None and matrix not in self.singular_values:
            raise KeyError(f"no matrix {matrix!r} in this recording; it has {', '.join(self.matrices)}")
        return list(self.singular_values.values()) if matrix is None else [self.singular_values[matrix]]

    def alignment(self, previous: str, following: str) -> Array:
        """Return the top-10 alignment score of a pair over time (T,); see :meth:`alignment_chance`."""
        return np.asarray(np.nanmean(self.alignments[previous, following][:, :10], axis=1))

    def alignment_chance(self, following: str) -> float:
        """Return what the score of two unrelated matrices would be: it depends on the shared dimension."""
        return float(spectra.alignment_chance(self.shapes[following][1]))

    def to_dataframe(self) -> pd.DataFrame:
        """Return a tidy table with columns step, matrix, index, singular_value."""
        frames = [
            pd.DataFrame(values, index=self.steps)
            .rename_axis("step")
            .melt(ignore_index=False, var_name="index", value_name="singular_value")
            .assign(matrix=name)
            .reset_index()
            for name, values in self.singular_values.items()
        ]
        return pd.concat(frames, ignore_index=True)[["step", "matrix", "index", "singular_value"]]

    def to_arrays(self) -> dict[str, Array]:
        """Return everything as named arrays without objects, the layout of the file."""
        return {
            "format": np.array(FORMAT),
            "steps": self.steps,
            "provenance": np.array(json.dumps(dict(self.provenance))),
            **{f"singular_values/{name}": values for name, values in self.singular_values.items()},
            **{f"shape/{name}": np.array(shape) for name, shape in self.shapes.items()},
            **{f"alignment/{a} -> {b}": values for (a, b), values in self.alignments.items()},
            **{f"metric/{name}": values for name, values in self.metrics.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Recording:
        """Return the recording that :meth:`to_arrays` took apart."""
        if int(arrays["format"]) != FORMAT:
            raise ValueError(f"recording format {int(arrays['format'])}, this library reads {FORMAT}")

        def under(kind: str) -> dict[str, Array]:
            start = f"{kind}/"
            return {key.removeprefix(start): arrays[key] for key in arrays if key.startswith(start)}

        def pair(key: str) -> Pair:
            previous, _, following = key.partition(" -> ")
            return previous, following

        return cls(
            steps=arrays["steps"],
            singular_values=under("singular_values"),
            shapes={name: (int(shape[0]), int(shape[1])) for name, shape in under("shape").items()},
            alignments={pair(key): values for key, values in under("alignment").items()},
            metrics=under("metric"),
            provenance=json.loads(str(arrays["provenance"])),
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
                with np.load(stream, allow_pickle=False) as file:
                    return cls.from_arrays({key: file[key] for key in file.files})
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, KeyError, ValueError) as error:
                raise ValueError(
                    f"{path} is damaged or no recording ({error}): delete it (of a run: its whole folder) and run again"
                ) from error
