"""What measuring spectra costs, as ratios to torch.linalg within one run, and where it becomes too much.

    python benchmarks/spectra.py                                    # the ratios
    python benchmarks/spectra.py --save recordings/spectra_cost.json    # and the curves, kept for a chapter

1. The 14 matrices of VGG-16 for CIFAR-10, flattened to (outputs, inputs x 3 x 3): values, and all factors.
2. Everything the paper measures at one checkpoint of VGG-16, against a decomposition for every question.
3. Cost against the size of a matrix, and against their number, beside the operations the method takes.

Times are medians over repeats taken in turn, so that a slow moment of the machine meets both sides.
"""

import argparse
import json
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import ceil, exp, log
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from specdyn.spectra import SVD, agreement, alignment, decompose, effective_rank, singular_values, truncate

CHANNELS = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
SHAPES = [(m, 9 * n) for n, m in pairwise(CHANNELS)] + [(10, 512)]
SIZES = [64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]
NUMBERS = [1, 2, 4, 8, 16, 32, 64]
SNAPSHOTS, PATIENCE = 100, 60.0

Row = dict[str, Any]


def direct(matrix: Tensor) -> SVD:
    """Take all factors by PyTorch's own decomposition, in the precision of the weights."""
    return SVD(*torch.linalg.svd(matrix, full_matrices=False))


def medians(*calls: Callable[[], object], repeats: int = 5, patience: float = 10.0) -> list[float]:
    """Return the median milliseconds of each call, taken in turn; fewer repeats if they take too long."""
    for call in calls:
        call()  # the first call loads code and claims memory
    began, rounds = time.perf_counter(), []
    while len(rounds) < repeats and (not rounds or time.perf_counter() - began < patience):
        marks = [time.perf_counter()]
        for call in calls:
            call()
            marks.append(time.perf_counter())
        rounds.append([1e3 * (b - a) for a, b in pairwise(marks)])
    return [median(times) for times in zip(*rounds, strict=True)]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    """Return float32 weights of the size that layers start with."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


def operations(m: int, n: int) -> Row:
    """Return multiplications and additions of the method (Golub and Van Loan 2013, chapters 5 and 8)."""
    m, n = min(m, n), max(m, n)
    gram = m * m * n  # one triangle of an m x m matrix of sums over n
    return {
        "ours values": gram + 4 * m**3 / 3,
        "ours full": gram + 9 * m**3 + 2 * m * m * n,
        "torch values": 4 * m * m * n - 4 * m**3 / 3,
        "torch full": 4 * m * m * n + 22 * m**3,
    }


def cost(m: int, n: int) -> Row:
    """Return milliseconds of one matrix, by us, by torch, and by torch from the transposed matrix, with operations.

    LAPACK is much slower for a wide matrix than for the same one turned tall, which a careful user would do.
    """
    W = gaussian(m, n)
    values = medians(lambda: singular_values(W), lambda: torch.linalg.svdvals(W), lambda: torch.linalg.svdvals(W.mT))
    full = medians(lambda: decompose(W), lambda: direct(W), lambda: direct(W.mT))
    ways = [f"{side} {what}" for what in ("values", "full") for side in ("ours", "torch", "turned")]
    return {"rows": m, "columns": n, "ms": dict(zip(ways, values + full, strict=True)), "operations": operations(m, n)}


def cost_of_many(number: int, side: int = 128) -> Row:
    """Return milliseconds of a number of matrices: one after another, as one batch, and by torch."""
    stack = gaussian(number, side, side)
    loop, batch, torch_loop = medians(
        lambda: [decompose(W) for W in stack], lambda: decompose(stack), lambda: [direct(W) for W in stack]
    )
    ms = {"one by one": loop, "as a batch": batch, "torch": torch_loop}
    return {"number": number, "side": side, "ms": ms}


def a_decomposition_for_every_question(weights: list[Tensor], final: list[SVD]) -> Iterator[object]:
    """Evaluate a checkpoint as the paper's code does: 66 decompositions for 14 matrices.

    Each of the 13 pairs decomposes both of its matrices and compares every direction with every other at
    every position of the kernel. Agreement with the final weights, of all directions with all, takes each
    matrix again, and so does each of the two prunings, which leave the last matrix alone.
    """
    for before, after in pairwise(weights):
        U, Vh = direct(before).U, direct(after).Vh
        reads = Vh.reshape(len(Vh), len(U), -1).permute(2, 0, 1)
        yield (reads @ U).abs()
    for W, end in zip(weights, final, strict=True):
        svd = direct(W)
        p = svd.S / svd.S.sum()
        yield torch.exp(-(p * p.log()).sum()) / len(p)
        yield ((svd.U.mT @ end.U) * (svd.Vh @ end.Vh.mT)).abs()
    for half in (lambda k: slice(k), lambda k: slice(k, None)):
        for W in weights[:-1]:
            svd = direct(W)
            kept = half(ceil(len(svd.S) / 2))
            yield svd.U[:, kept] * svd.S[kept] @ svd.Vh[kept]


def one_decomposition_each(weights: list[Tensor], final: list[SVD]) -> Iterator[object]:
    """Evaluate the same checkpoint from 14 decompositions, of which two are held at a time."""
    before = None
    for W, end in zip(weights, final, strict=True):
        svd = decompose(W)
        yield effective_rank(svd.S)
        yield agreement(svd, end)
        if before is not None:
            positions = W.shape[1] // before.U.shape[0]
            yield alignment(before, svd, positions=positions, position=positions // 2)
        if W is not weights[-1]:
            top = truncate(svd, ceil(len(svd.S) / 2)).float()
            yield top
            yield W - top
        before = svd


def checkpoint() -> Row:
    """Return milliseconds of a whole evaluation of VGG-16, theirs and ours; no result is kept."""
    weights, last = ([gaussian(*shape, seed=seed) for shape in SHAPES] for seed in (0, 1))
    exact, plain = [decompose(W) for W in last], [direct(W) for W in last]
    ours, theirs = medians(
        lambda: deque(one_decomposition_each(weights, exact), maxlen=0),
        lambda: deque(a_decomposition_for_every_question(weights, plain), maxlen=0),
        patience=60.0,
    )
    return {"ms": {"ours": ours, "theirs": theirs}}


def limit(rows: list[Row], way: str) -> float | None:
    """Return the number of rows from which 100 snapshots of one matrix take more than a minute.

    Between the sizes measured the cost is taken as a power of the size; ``None`` is beyond them.
    """
    bound = 1e3 * PATIENCE / SNAPSHOTS
    for small, large in pairwise(rows):
        a, b = small["ms"][way], large["ms"][way]
        if a <= bound < b:
            return small["rows"] * exp(log(large["rows"] / small["rows"]) * log(bound / a) / log(b / a))
    return None


def curves(largest: int) -> Row:
    """Return cost against size, square and nine times as wide, and against number."""
    sizes = [m for m in SIZES if m <= largest]
    square, wide = [cost(m, m) for m in sizes], [cost(m, 9 * m) for m in sizes]
    shapes = {"square": square, "nine times as wide": wide}
    limits = {name: {way: limit(rows, way) for way in ("ours full", "ours values")} for name, rows in shapes.items()}
    return {"size": shapes, "number": [cost_of_many(number) for number in NUMBERS], "rows at the limit": limits}


def line(name: str, *numbers: float | str) -> str:
    """Return one line of a table."""
    return f"{name:<34}" + "".join(f"{x:>16}" if isinstance(x, str) else f"{x:>16.2f}" for x in numbers)


def ratios() -> Row:
    """Print and return the comparisons over VGG-16."""
    costs = {shape: cost(*shape)["ms"] for shape in dict.fromkeys(SHAPES)}
    total: Row = {}
    for way, title in (("values", "singular values"), ("full", "values and vectors")):
        print("\n" + line(title, "ours ms", "torch ms", "ratio", "turned ms", "ratio"))
        for side in ("ours", "torch", "turned"):
            total[f"{side} {way}"] = sum(costs[shape][f"{side} {way}"] for shape in SHAPES)
        named = {f"{m} x {n} ({SHAPES.count((m, n))})": ms for (m, n), ms in costs.items()}
        for name, ms in (named | {"all 14": total}).items():
            ours, theirs, turned = (ms[f"{side} {way}"] for side in ("ours", "torch", "turned"))
            print(line(name, ours, theirs, theirs / ours, turned, turned / ours))
    whole = checkpoint()
    ours, theirs = whole["ms"]["ours"], whole["ms"]["theirs"]
    print("\n" + line("one checkpoint of VGG-16", "ours ms", "66 SVDs ms", "ratio"))
    print(line("all that the paper measures", ours, theirs, theirs / ours))
    return {"vgg": {"matrices": len(SHAPES), "ms": total}, "checkpoint": whole}


def show(table: Row) -> None:
    """Print the curves."""
    for name, rows in table["size"].items():
        print("\n" + line(name, "ours ms", "torch ms", "ratio", "turned ms", "ratio", "Gflop/s"))
        for row in rows:
            ours, theirs, turned = (row["ms"][f"{side} full"] for side in ("ours", "torch", "turned"))
            rate = row["operations"]["ours full"] / ours / 1e6
            print(line(f"{row['rows']} x {row['columns']}", ours, theirs, theirs / ours, turned, turned / ours, rate))
        for way, side in table["rows at the limit"][name].items():
            where = "beyond the sizes measured" if side is None else f"from {side:.0f} rows"
            print(f"{SNAPSHOTS} snapshots take more than {PATIENCE:.0f} s ({way}): {where}")
    print("\n" + line("128 x 128 matrices", *table["number"][0]["ms"]))
    for row in table["number"]:
        print(line(str(row["number"]), *row["ms"].values()))


def main() -> None:
    """Print the ratios; with ``--save`` also the curves, and keep both as JSON."""
    parser = argparse.ArgumentParser(description="What measuring spectra costs.")
    parser.add_argument("--save", type=Path, help="measure the curves too, and keep the table in this file")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="the largest side of the curves")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    made = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": str(torch.__version__),
        "threads": options.threads,
        "processor": platform.machine(),
    }
    print(", ".join(f"{name} {value}" for name, value in made.items()))
    table = ratios()
    if options.save:
        table |= curves(options.largest)
        show(table)
        options.save.write_text(json.dumps({"provenance": made, **table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
