"""How a run is made, watched, kept and repeated."""

from specdyn.training.cadence import evenly_spaced, log_spaced
from specdyn.training.checkpoint import Checkpoint
from specdyn.training.cost import Cost
from specdyn.training.files import book_root
from specdyn.training.finished import finished
from specdyn.training.loop import Constraint, DivergedError, Probe, Run, train
from specdyn.training.on_test_data import OnTestData
from specdyn.training.recorder import Recorder
from specdyn.training.recording import Recording
from specdyn.training.side_by_side import side_by_side
from specdyn.training.sweep import Runs, sweep
from specdyn.training.timing import first_at_most, half_fall

__all__ = [
    "Checkpoint",
    "Constraint",
    "Cost",
    "DivergedError",
    "OnTestData",
    "Probe",
    "Recorder",
    "Recording",
    "Run",
    "Runs",
    "book_root",
    "evenly_spaced",
    "finished",
    "first_at_most",
    "half_fall",
    "log_spaced",
    "side_by_side",
    "sweep",
    "train",
]
