"""How networks learn, seen through the singular values of their weights."""

from specdyn import interventions, show, spectra, tasks, training
from specdyn.show import claim
from specdyn.spectra import (
    SVD,
    agreement,
    agreement_chance,
    alignment,
    alignment_chance,
    decompose,
    describe,
    effective_rank,
    matrices,
    measure,
    singular_values,
    stable_rank,
    top_score,
    truncate,
)
from specdyn.training import Recorder, Recording, log_spaced, sweep, train

__all__ = [
    "SVD",
    "Recorder",
    "Recording",
    "agreement",
    "agreement_chance",
    "alignment",
    "alignment_chance",
    "claim",
    "decompose",
    "describe",
    "effective_rank",
    "interventions",
    "log_spaced",
    "matrices",
    "measure",
    "show",
    "singular_values",
    "spectra",
    "stable_rank",
    "sweep",
    "tasks",
    "top_score",
    "train",
    "training",
    "truncate",
]
