"""Which decomposition is fastest on this GPU, and up to which size a Gram matrix belongs on the CPU.

    python benchmarks/probe_gpu.py --save probe.json

Needs PyTorch alone and takes a few minutes; the table is written after every case, so that a run that is
stopped leaves what it has. Without a CUDA device it says so. ``--device cpu --largest 128`` tries it out.

1. For batches of matrices as networks have them, in float32 and float64: PyTorch's decompositions with each
   of its drivers, the Gram matrix in float64 solved on the device or copied to the CPU, and one warm step
   to the top 16 components with either way to make a basis orthonormal. Milliseconds, the worst error of a
   singular value, and how many times longer the batch takes than one of its matrices: about 1 is truly
   batched, about the size of the batch is one after another.
2. Gram matrices from 16 to 2,048: solved on the device, or copied to the CPU and back. The library's constant
   ``_SOLVED_ON_CPU`` in ``specdyn/spectra/decompose.py`` is the largest side at which the CPU still wins.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

CASES = [(1, 128, 128), (64, 128, 128), (8, 128, 512), (5, 512, 4608), (1, 1024, 1024), (1, 4096, 4096)]
SIDES = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048]
BATCHES = [1, 8]
DRIVERS = ["gesvd", "gesvdj", "gesvda"]
TOP, SPARE = 16, 8

Row = dict[str, Any]


def weights(batch: int, m: int, n: int) -> Tensor:
    """Return float32 matrices whose singular values fall to about a thousandth."""
    draw = torch.Generator().manual_seed(0)
    return torch.logspace(0, -3, m)[:, None] * torch.randn(batch, m, n, generator=draw) / n**0.5


def milliseconds(call: Callable[[], object], device: torch.device, budget: float) -> float:
    """Return the median milliseconds over at most 20 calls and about ``budget`` seconds, after one to warm up.

    A first call that takes longer than all that is not repeated: warming up is the least of it.
    """

    def once() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 1e3 * (time.perf_counter() - began)

    first, times = once(), []
    while len(times) < 20 and first + sum(times) < 1e3 * budget:
        times.append(once())
    return median(times or [first])


def gram(W: Tensor) -> Tensor:
    """Return the Gram matrices of the shorter side in float64."""
    W = W.double()
    return W @ W.mT


def roots(squares: Tensor) -> Tensor:
    """Return singular values, largest first, from eigenvalues of a Gram matrix."""
    return squares.flip(-1).clamp_min(0).sqrt()


def to_cpu(G: Tensor) -> Tensor:
    """Copy to the CPU through pinned memory, which does not hold the host."""
    near = torch.empty(G.shape, dtype=G.dtype, pin_memory=G.is_cuda)
    near.copy_(G, non_blocking=True)
    if G.is_cuda:
        torch.cuda.synchronize(G.device)
    return near


def solve_on_cpu(G: Tensor) -> Tensor:
    """Return singular values by way of eigenvectors on the CPU, all threads on one matrix after another."""
    squares, U = torch.linalg.eigh(to_cpu(G))
    U.to(G.device)
    return roots(squares)


def solve_in_threads(G: Tensor) -> Tensor:
    """Return the same by one thread a matrix, many matrices at once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            solved = list(pool.map(torch.linalg.eigh, to_cpu(G)))
    finally:
        torch.set_num_threads(threads)
    torch.stack([U for _, U in solved]).to(G.device)
    return roots(torch.stack([squares for squares, _ in solved]))


def cholesky_basis(Y: Tensor) -> Tensor:
    """Return an orthonormal basis of the columns by a Cholesky factor of their Gram matrix, once."""
    factor = torch.linalg.cholesky(Y.mT @ Y)
    return torch.linalg.solve_triangular(factor.mT, Y, upper=True, left=False)


def householder_basis(Y: Tensor) -> Tensor:
    """Return an orthonormal basis of the columns by Householder QR."""
    return torch.linalg.qr(Y).Q


def warm_step(W: Tensor, start: Tensor, basis: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the top singular values after one step of subspace iteration from the vectors of an earlier time."""
    Q = basis(W @ basis(W.mT @ basis(W @ start)))
    return roots(torch.linalg.eigvalsh(gram(Q.mT @ W)))[..., :TOP]


def start_of(W: Tensor) -> Tensor:
    """Return the top right vectors of the matrices before a change of one per cent."""
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(W.shape, generator=draw).to(W)
    earlier = W + 0.01 * noise * torch.linalg.matrix_norm(W, keepdim=True) / torch.linalg.matrix_norm(
        noise, keepdim=True
    )
    U = torch.linalg.eigh(gram(earlier)).eigenvectors[..., -min(TOP + SPARE, W.shape[-2]) :]
    return earlier.mT @ U.to(W)


def methods(W: Tensor) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the ways to singular values, each a function of the matrices and of a warm start."""
    drivers = {f"svd {driver}": driver for driver in DRIVERS} if W.is_cuda else {"svd": None}
    return {
        "svdvals": lambda W, _: torch.linalg.svdvals(W),
        **{
            name: lambda W, _, driver=driver: torch.linalg.svd(W, full_matrices=False, driver=driver).S
            for name, driver in drivers.items()
        },
        "gram64 eigvalsh": lambda W, _: roots(torch.linalg.eigvalsh(gram(W))),
        "gram64 eigh": lambda W, _: roots(torch.linalg.eigh(gram(W)).eigenvalues),
        "gram64 eigh on cpu": lambda W, _: solve_on_cpu(gram(W)),
        "gram64 eigh in cpu threads": lambda W, _: solve_in_threads(gram(W)),
        "warm top 16, cholesky": lambda W, start: warm_step(W, start, cholesky_basis),
        "warm top 16, qr": lambda W, start: warm_step(W, start, householder_basis),
    }


def worst_error(found: Tensor, exact: Tensor) -> float:
    """Return the largest relative error of singular values above a millionth of the largest."""
    exact = exact[..., : found.shape[-1]]
    error = (found.double().cpu() - exact).abs() / exact
    return float(error[exact > 1e-6 * exact[..., :1]].max())


def probe(W: Tensor, exact: Tensor, budget: float) -> list[Row]:
    """Return one row for each way, with the message of those that PyTorch refuses."""
    rows = []
    start = start_of(W)
    for name, method in methods(W).items():
        row: Row = {"batch": W.shape[0], "rows": W.shape[1], "columns": W.shape[2]}
        row |= {"dtype": str(W.dtype).removeprefix("torch."), "method": name}
        try:
            row["error"] = worst_error(method(W, start), exact)
            row["ms"] = milliseconds(lambda method=method: method(W, start), W.device, budget)
            if len(W) > 1:
                one = milliseconds(lambda method=method: method(W[:1], start[:1]), W.device, budget)
                row["times one matrix"] = row["ms"] / one
        except RuntimeError as failed:
            row["failed"] = str(failed).partition("\n")[0]
        rows.append(row)
        print(told(row))
    return rows


def told(row: Row) -> str:
    """Return one line of the table."""
    matrix = f"{row['batch']:>3} x {row['rows']} x {row['columns']:<6}{row['dtype']:<9}{row['method']:<28}"
    if "failed" in row:
        return matrix + row["failed"]
    times = f"{row['times one matrix']:>8.1f} x one" if "times one matrix" in row else ""
    return matrix + f"{row['ms']:>10.2f} ms{row['error']:>10.1e}{times}"


def crossover(side: int, batch: int, device: torch.device, budget: float) -> Row:
    """Return milliseconds for Gram matrices solved on the device, and copied to the CPU and back."""
    G = gram(weights(batch, side, 2 * side).to(device))
    row: Row = {
        "side": side,
        "batch": batch,
        "device ms": milliseconds(lambda: torch.linalg.eigh(G), device, budget),
        "cpu ms": milliseconds(lambda: solve_on_cpu(G), device, budget),
    }
    print(f"{batch} Gram matrices of side {side:<6}device {row['device ms']:>9.2f} ms, cpu {row['cpu ms']:>9.2f} ms")
    return row


def last_won_by_cpu(rows: list[Row]) -> int:
    """Return the largest side up to which the CPU is faster at every side and batch; 0 if at none."""
    lost = [row["side"] for row in rows if row["device ms"] < row["cpu ms"]]
    return max((row["side"] for row in rows if row["side"] < min(lost, default=row["side"] + 1)), default=0)


def run(device: torch.device, largest: int, budget: float, save: Path | None) -> Row:
    """Return the whole table, kept after every case."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    made = {"torch": str(torch.__version__), "cuda": torch.version.cuda, "device": name}
    made |= {"cpu threads": torch.get_num_threads(), "processor": platform.machine()}
    table: Row = {"provenance": made, "gram matrices": [], "solved on cpu up to": 0, "decompositions": []}

    def keep() -> None:
        if save:
            save.write_text(json.dumps(table, indent=1) + "\n")

    print(", ".join(f"{key} {value}" for key, value in made.items()))
    for side in (side for side in SIDES if side <= largest):
        table["gram matrices"] += [crossover(side, batch, device, budget) for batch in BATCHES]
        table["solved on cpu up to"] = last_won_by_cpu(table["gram matrices"])
        keep()
    for batch, m, n in (case for case in CASES if case[1] <= largest):
        W = weights(batch, m, n)
        exact = torch.linalg.svdvals(W.double())
        for dtype in (torch.float32, torch.float64):
            table["decompositions"] += probe(W.to(device, dtype), exact, budget)
            keep()
    print(f"the CPU is faster for Gram matrices up to side {table['solved on cpu up to']}")
    return table


def main() -> None:
    """Probe the device, if there is one."""
    parser = argparse.ArgumentParser(description="Which decomposition is fastest on this GPU?")
    parser.add_argument("--save", type=Path, help="keep the table in this file, as JSON")
    parser.add_argument("--device", default="cuda", help='"cpu" tries the probe itself')
    parser.add_argument("--largest", type=int, default=4096, help="the largest side")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each number")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No CUDA device is available here, so there is nothing to probe.")
        return
    run(device, options.largest, options.budget, options.save)


if __name__ == "__main__":
    main()
