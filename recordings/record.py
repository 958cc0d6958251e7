"""Record runs of a higher tier, so that pages can show them beside the live ones.

    python recordings/record.py grokking_paper [device]
    python recordings/record.py images_gpu [device]    # or generation_gpu, speech_gpu, language_gpu, memorization_gpu
    python recordings/record.py memorization_cifar10 cpu    # true and permuted labels, about three minutes on one core

Those of a task's gpu tier are one run for each weight decay, in a file each, such as images_gpu_0.01.npz, and for
memorization one with true and one with permuted labels. They are runs of the chapters, kept in the same folder: what
was killed goes on, and what is finished is not repeated. memorization_cifar10 learns from 10,000 of the images.

A file holds the measurements and where they come from: settings, seed, device, versions, seconds, date
and the commit of the code, which has to be committed before a run is worth keeping.
"""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import specdyn as sd
from specdyn.interventions import Truncation

HERE = Path(__file__).parent
SEED = 10
LABELS = {"true": 0.0, "permuted": 1.0}


def recorded(tier: str = "gpu") -> dict[str, dict[str, dict[str, Any]]]:
    """Return what can be recorded: for each name, the files and the arguments of the run in each."""
    runs = {"grokking_paper": {"grokking_paper": {"task": sd.tasks.modular_addition("paper", every=200)}}}
    decays = sd.tasks.decay_values(tier)
    for name, task in sd.tasks.four_tasks(tier).items():
        runs[f"{name}_{tier}"] = {
            f"{name}_{tier}_{decay:g}": {"task": replace(task, weight_decay=decay), "probe": Truncation()}
            for decay in decays[name]
        }
    for name, task in memorized(tier).items():
        runs[name] = {f"{name}_{labels}": {"task": replace(task, corrupted=share)} for labels, share in LABELS.items()}
    return runs


def memorized(tier: str) -> dict[str, sd.tasks.NoisyLabels]:
    """Return the settings with which true and permuted labels are recorded: a tier's, and some that a CPU has time for.

    An epoch of the latter is 79 batches, and permuted labels are fitted after about 70 of them.
    """
    fewer = sd.tasks.noisy_labels("gpu", train_size=10_000, steps=120 * 79, every=2 * 79)
    return {f"memorization_{tier}": sd.tasks.noisy_labels(tier), "memorization_cifar10": fewer}


def commit() -> str:
    """Return the commit that is checked out; stop where the code differs from it."""
    changed = subprocess.check_output(["git", "status", "--porcelain", "lib"], cwd=HERE.parent, text=True)
    if changed:
        sys.exit(f"commit the code first, a recording names its commit:\n{changed}")
    return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=HERE.parent, text=True).strip()


def record(runs: dict[str, dict[str, Any]], folder: Path, device: str, made: str) -> None:
    """Train the runs, one after another, and keep the recording of each as soon as it is there."""
    for name, settings in runs.items():
        try:
            run = sd.train(seed=SEED, device=device, **settings)
        except sd.training.DivergedError as error:
            run = error.run
            print(f"{name} diverged at step {run.diverged_at}: its recording ends there")
        origin = {**run.recording.provenance, "commit": made, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        replace(run.recording, provenance=origin).save(folder / f"{name}.npz")


def main(name: str = "", device: str = "auto") -> None:
    """Record what has a name here; stop with the names where there is none."""
    if name not in recorded():
        sys.exit(f"there is nothing {name!r} to record: choose one of {', '.join(recorded())}")
    record(recorded()[name], HERE, device, commit())


if __name__ == "__main__":
    main(*sys.argv[1:])
