"""How a run is made, watched, kept and repeated."""

from specdyn.training.checkpoint import Checkpoint
from specdyn.training.files import book_root
from specdyn.training.loop import Constraint, DivergedError, Run, train
from specdyn.training.recorder import Recorder, log_spaced
from specdyn.training.recording import Recording
from specdyn.training.sweep import Runs, sweep
from specdyn.training.timing import first_at_most, half_fall

__all__ = [
    "Checkpoint",
    "Constraint",
    "DivergedError",
    "Recorder",
    "Recording",
    "Run",
    "Runs",
    "book_root",
    "first_at_most",
    "half_fall",
    "log_spaced",
    "sweep",
    "train",
]
