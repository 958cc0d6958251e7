"""How fast the decomposition is, as ratios to torch.linalg within one run.

The shapes are the 14 matrices of VGG-16 for CIFAR-10, flattened to (outputs, inputs x 3 x 3).
Times are medians over repeats, taken in turn so that a slow moment of the machine meets both
sides. Run it with ``python benchmarks/spectra.py``.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from specdyn.spectra import decompose, singular_values

CHANNELS = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
SHAPES = [(m, 9 * n) for n, m in pairwise(CHANNELS)] + [(10, 512)]
REPEATS = 5


def direct(matrix: Tensor) -> object:
    """Take all factors by PyTorch's own decomposition, in the precision of the weights."""
    return torch.linalg.svd(matrix, full_matrices=False)


COMPARISONS: dict[str, tuple[Callable[[Tensor], object], Callable[[Tensor], object]]] = {
    "singular values and vectors": (decompose, direct),
    "singular values": (singular_values, torch.linalg.svdvals),
}


def seconds(function: Callable[[Tensor], object], matrix: Tensor) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    function(matrix)
    return time.perf_counter() - start


def compare(
    ours: Callable[[Tensor], object], theirs: Callable[[Tensor], object], matrix: Tensor
) -> tuple[float, float]:
    """Return the median milliseconds of both functions on one matrix."""
    ours(matrix), theirs(matrix)  # the first call loads code
    pairs = [(seconds(ours, matrix), seconds(theirs, matrix)) for _ in range(REPEATS)]
    a, b = zip(*pairs, strict=True)
    return 1e3 * median(a), 1e3 * median(b)


def row(name: str, ours: float, theirs: float) -> str:
    """Return one line of the table."""
    return f"{name:<28}{ours:>10.2f}{theirs:>10.2f}{theirs / ours:>8.1f}"


def main() -> None:
    """Print one table for each comparison."""
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=draw) / shape[1] ** 0.5 for shape in SHAPES]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {REPEATS}")
    for title, (ours, theirs) in COMPARISONS.items():
        known: dict[tuple[int, int], tuple[float, float]] = {}
        for weight in weights:
            shape = (weight.shape[0], weight.shape[1])
            known[shape] = known.get(shape) or compare(ours, theirs, weight)
        print(f"\n{title:<28}{'ours ms':>10}{'torch ms':>10}{'ratio':>8}")
        for (m, n), times in known.items():
            print(row(f"{m} x {n} ({SHAPES.count((m, n))} of them)", *times))
        print(row("all 14 matrices of VGG-16", *map(sum, zip(*(known[shape] for shape in SHAPES), strict=True))))


if __name__ == "__main__":
    main()
