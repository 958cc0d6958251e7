"""What we do to a network to see whether an explanation breaks."""

from specdyn.interventions.norm import HoldNorm, rescaled
from specdyn.interventions.nuclear import ShrinkNuclear
from specdyn.interventions.truncation import Truncation, reestimate, truncations

__all__ = ["HoldNorm", "ShrinkNuclear", "Truncation", "reestimate", "rescaled", "truncations"]
