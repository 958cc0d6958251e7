"""Record runs of a higher tier, so that pages can show them beside the live ones.

    python recordings/record.py grokking_paper [device]
    python recordings/record.py images_gpu [device]    # or generation_gpu, speech_gpu, language_gpu
    python recordings/record.py memorization_paper cpu    # six runs of a quarter of an hour each on one core

Those of a task's gpu tier are one run for each weight decay, in a file each, such as images_gpu_0.01.npz. Those of
memorization are the paper's own runs on CIFAR-10, with true and with permuted labels, three seeds each. All are kept in
the chapters' folder of runs: what was killed goes on, and what is finished is not repeated.

A file holds the measurements and where they come from: settings, seed, device, versions, seconds, date
and the commit of the code, which has to be committed before a run is worth keeping.
"""

import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

import specdyn as sd
from specdyn.interventions import Truncation

HERE = Path(__file__).parent
SEED = 10
SEEDS = (10, 11, 12)
LABELS = {"true": 0.0, "permuted": 1.0}


@dataclass(frozen=True)
class UpdateRank:
    """A probe of the effective rank of what training has added to each matrix since the initialisation of ``seed``."""

    seed: int

    def __call__(
        self, task: sd.tasks.Task, model: nn.Module, data: Any, snapshot: sd.spectra.Snapshot
    ) -> dict[str, float]:
        """Return a number for each matrix, such as ``update_rank_layers.1.weight``."""
        start = {matrix.name: matrix.view for matrix in sd.matrices(sd.tasks.build(task, self.seed))}
        added = {matrix.name: matrix.view.cpu() - start[matrix.name] for matrix in sd.matrices(model)}
        return {f"update_rank_{name}": sd.effective_rank(sd.singular_values(update)) for name, update in added.items()}


def recorded(tier: str = "gpu") -> dict[str, dict[str, dict[str, Any]]]:
    """Return what can be recorded: for each name, the files and the arguments of the run in each."""
    runs = {"grokking_paper": {"grokking_paper": {"task": sd.tasks.modular_addition("paper", every=200)}}}
    decays = sd.tasks.decay_values(tier)
    for name, task in sd.tasks.four_tasks(tier).items():
        runs[f"{name}_{tier}"] = {
            f"{name}_{tier}_{decay:g}": {"task": replace(task, weight_decay=decay), "probe": Truncation()}
            for decay in decays[name]
        }
    fewer = sd.tasks.noisy_labels("paper", evaluated=5_000, every=5 * 352)  # looked at less often: every five epochs
    runs["memorization_paper"] = {
        f"memorization_paper_{labels}_{seed}": {
            "task": replace(fewer, corrupted=share), "seed": seed, "probe": UpdateRank(seed)
        }
        for labels, share in LABELS.items() for seed in SEEDS
    }  # fmt: skip
    return runs


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
            run = sd.train(**{"seed": SEED, **settings}, device=device)
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
