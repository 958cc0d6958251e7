"""What there is already: the recordings of all finished runs."""

from __future__ import annotations

import json

from specdyn.training.files import runs_folder
from specdyn.training.loop import science_hash
from specdyn.training.recording import Recording


def finished() -> dict[str, Recording]:
    """Return the recordings of all runs in the folder of runs, by name, that the present code made and finished.

    Their ``provenance`` tells them apart: ``task`` (its settings), ``seed``, ``constraint``, and of a branch in
    ``start`` the run it left, the step, and a digest. Runs that diverged end nowhere, and are left out.

    >>> {recording.provenance["library"] for recording in finished().values()} <= {science_hash()}
    True
    """
    folders = sorted(marker.parent for marker in runs_folder().glob("*/finished"))
    ended = [folder for folder in folders if json.loads((folder / "finished").read_text())["diverged_at"] is None]
    found = {folder.name: Recording.load(folder / "recording.npz") for folder in ended}
    return {name: recording for name, recording in found.items() if recording.provenance["library"] == science_hash()}
