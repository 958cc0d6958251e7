"""What training costs here against doing it the plain way. Ratios of medians, measured in one run.

    python benchmarks/training.py

1. A step of the one-layer transformer at the paper's size against the same step through PyTorch's own layer.
2. Recording 100 snapshots of a laptop-tier run, with vectors, alignment and agreement, as a share of its training,
   beside what the recorder says beforehand; and what it says of VGG-16 over 169 snapshots.
3. A sweep in one process a core, one thread each, against one run after another with a thread a core.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

import specdyn as sd
from specdyn.training import Cost, evenly_spaced

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tasks.reference import Reference

CPU = torch.device("cpu")


def median(function: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of a call, after two to warm up."""
    seconds = []
    for i in range(repeats + 2):
        began = time.perf_counter()
        function()
        if i >= 2:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def step_against_torch_layer(repeats: int = 15) -> tuple[float, float]:
    """Seconds of a full-batch step, forward, backward and update: (PyTorch's layer, ours)."""
    task = sd.tasks.modular_addition("paper")
    data = task.data(0, CPU)
    seconds = []
    for wrap in (lambda model: Reference(model, task.heads, task.hidden), lambda model: model):
        model = wrap(sd.tasks.build(task, 0))
        optimizer = task.optimizer(model)

        def step(model: torch.nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(data.train), data.train_sums).backward()
            optimizer.step()

        seconds.append(median(step, repeats))
    return seconds[0], seconds[1]


def recording_against_training(snapshots: int = 100) -> tuple[float, float, Cost]:
    """Seconds of (training, recording) in a laptop-tier run, in one thread, and the cost stated beforehand."""
    torch.set_num_threads(1)
    task = sd.tasks.modular_addition("laptop")
    model, data = sd.tasks.build(task, 0), task.data(0, CPU)
    optimizer = task.optimizer(model)
    stated = sd.Recorder(model, evenly_spaced(task.steps, snapshots), task.pairs).cost()
    training, began = 0.0, time.perf_counter()
    recorder = sd.Recorder(model, evenly_spaced(task.steps, snapshots), task.pairs)
    recording = time.perf_counter() - began
    for step in range(1, task.steps + 1):
        began = time.perf_counter()
        optimizer.zero_grad()
        task.loss(model, task.batch(data, step, 0)).backward()
        optimizer.step()
        between = time.perf_counter()
        recorder(step)
        training += between - began
        recording += time.perf_counter() - between
    began = time.perf_counter()
    recorder.finish()
    return training, recording + time.perf_counter() - began, stated


def vgg() -> torch.nn.Module:
    """The matrices of VGG-16 for CIFAR-10."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = itertools.starmap(partial(torch.nn.Conv2d, kernel_size=3), itertools.pairwise(widths))
    return torch.nn.Sequential(*convolutions, torch.nn.Linear(512, 10))


def sweep_against_one_by_one() -> tuple[float, float]:
    """Seconds of as many short runs as twice the cores: (one by one, all cores a run; swept)."""
    cores = os.cpu_count() or 1
    task, seeds = sd.tasks.modular_addition("laptop", steps=300), list(range(2 * cores))
    seconds = []
    for swept in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SPECDYN_RUNS"] = folder
            sd.sweep(sd.tasks.modular_addition("smoke", steps=1), seed=seeds)  # starts the processes
            began = time.perf_counter()
            if swept:
                sd.sweep(task, seed=seeds)
            else:
                for seed in seeds:
                    sd.train(task, seed, threads=cores, progress=False)
            seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def main() -> None:
    """Print the three ratios and the costs."""
    print(f"{os.cpu_count()} cores, torch {torch.__version__}")
    theirs, ours = step_against_torch_layer()
    print(f"step, paper's size: torch layer {theirs * 1e3:.0f} ms, ours {ours * 1e3:.0f} ms: {theirs / ours:.1f} x")
    one_by_one, swept = sweep_against_one_by_one()
    print(f"sweep: one by one {one_by_one:.1f} s, swept {swept:.1f} s: {one_by_one / swept:.2f} x")
    training, recording, stated = recording_against_training()
    print(f"recording: {recording:.2f} s beside {training:.1f} s of training: {recording / training:.1%}; stated was")
    print(stated)
    model = vgg()
    pairs = itertools.pairwise(matrix.name for matrix in sd.matrices(model))
    print(f"VGG-16, {torch.get_num_threads()} thread:\n{sd.Recorder(model, range(169), pairs).cost()}")


if __name__ == "__main__":
    main()
