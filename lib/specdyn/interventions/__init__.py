"""What we do to a network to see whether an explanation breaks."""

from specdyn.interventions.norm import HoldNorm
from specdyn.interventions.truncation import truncations

__all__ = ["HoldNorm", "truncations"]
