"""Record a run of a higher tier, so that pages can show it beside the live one.

    python recordings/record.py grokking_paper [device] [threads]

The file holds the measurements and where they come from: settings, seed, device, versions, seconds, date
and the commit of the code, which has to be committed before a run is worth keeping.
"""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import specdyn as sd

HERE = Path(__file__).parent
RECORDED = {
    "grokking_paper": (sd.tasks.modular_addition("paper", every=200), 10),
}


def commit() -> str:
    """Return the commit that is checked out; stop where the code differs from it."""
    changed = subprocess.check_output(["git", "status", "--porcelain", "lib"], cwd=HERE.parent, text=True)
    if changed:
        sys.exit(f"commit the code first, a recording names its commit:\n{changed}")
    return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=HERE.parent, text=True).strip()


def main(name: str, device: str = "auto", threads: str = "2") -> None:
    """Train one of the recorded runs and keep its recording."""
    task, seed = RECORDED[name]
    made = {"commit": commit(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    recording = sd.train(task, seed, device=device, threads=int(threads)).recording
    replace(recording, provenance={**recording.provenance, **made}).save(HERE / f"{name}.npz")


if __name__ == "__main__":
    main(*sys.argv[1:])
