"""What recording costs, said before it is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

N = TypeVar("N", int, float)
T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of a snapshot. Seconds were measured here and now; bytes are exact.

    Prints as a table. Files are compressed, so what ends up on disk is a little less.

    >>> print(Cost(0.004, 0.012, 3_000, 104_000, 3_000, 9_000, 104_000, 100, 10))
                     seconds    memory      file
    without vectors    0.004    3.0 kB    3.0 kB
    with vectors       0.012  104.0 kB    9.0 kB
    100 snapshots, 10 with vectors: 0.48 s, 1.3 MB of memory, a file of 360.0 kB; 104.0 kB of memory held now
    """

    seconds: float
    """Of a snapshot of singular values."""
    seconds_with_vectors: float
    """Of a snapshot of singular values and vectors."""
    memory: int
    """Bytes that a snapshot of singular values adds to what the recorder holds."""
    memory_with_vectors: int
    """The same with vectors: alignments, and the directions kept for agreement with the final weights."""
    file: int
    """Bytes that a snapshot of singular values adds to the file, before compression."""
    file_with_vectors: int
    """The same with vectors: alignments and agreements."""
    held: int
    """Bytes of measurements that the recorder holds now."""
    snapshots: int | None = None
    """Number of snapshots of the whole run; None where its end is not known."""
    snapshots_with_vectors: int | None = None
    """How many of them have vectors."""

    @property
    def total_seconds(self) -> float | None:
        """Of the whole run; None where its end is not known."""
        return self._total(self.seconds, self.seconds_with_vectors)

    @property
    def total_memory(self) -> int | None:
        """Bytes held at the end of the run; None where it is not known."""
        return self._total(self.memory, self.memory_with_vectors)

    @property
    def total_file(self) -> int | None:
        """Bytes of the file before compression; None where the end of the run is not known."""
        return self._total(self.file, self.file_with_vectors)

    def _total(self, each: N, with_vectors: N) -> N | None:
        if self.snapshots is None or self.snapshots_with_vectors is None:
            return None
        plain = self.snapshots - self.snapshots_with_vectors
        return plain * each + self.snapshots_with_vectors * with_vectors

    def __str__(self) -> str:
        """Return the costs as a table of aligned text."""
        rows = [
            ("", "seconds", "memory", "file"),
            ("without vectors", _in_seconds(self.seconds), in_bytes(self.memory), in_bytes(self.file)),
            (
                "with vectors",
                _in_seconds(self.seconds_with_vectors),
                in_bytes(self.memory_with_vectors),
                in_bytes(self.file_with_vectors),
            ),
        ]
        table = [f"{name:<15}{seconds:>9}{memory:>10}{file:>10}" for name, seconds, memory, file in rows]
        return "\n".join([*table, f"{self._in_all()}{in_bytes(self.held)} of memory held now"])

    __repr__ = __str__

    def _in_all(self) -> str:
        if self.total_seconds is None or self.total_memory is None or self.total_file is None:
            return "the end of the run is not known; "
        seconds, memory, file = _in_seconds(self.total_seconds), in_bytes(self.total_memory), in_bytes(self.total_file)
        return (
            f"{self.snapshots} snapshots, {self.snapshots_with_vectors} with vectors: {seconds} s, "
            f"{memory} of memory, a file of {file}; "
        )


def in_bytes(count: int) -> str:
    """Return a number of bytes as people read it.

    >>> in_bytes(512), in_bytes(2_048_000)
    ('512 B', '2.0 MB')
    """
    size, unit = float(count), 0
    while size >= 1000 and unit < 4:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {('kB', 'MB', 'GB', 'TB')[unit - 1]}" if unit else f"{count} B"


def _in_seconds(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 100 else f"{seconds:,.0f}"


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds of a piece of work, the less of two tries since the first has to warm up, and its result."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return min(seconds), result
