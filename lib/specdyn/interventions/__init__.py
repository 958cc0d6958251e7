"""What we do to a network to see whether an explanation breaks."""

from specdyn.interventions.branches import with_weights
from specdyn.interventions.combination import combined
from specdyn.interventions.interpolation import Line, line
from specdyn.interventions.low_rank import LowRank, rank_within
from specdyn.interventions.masks import Mask, Masked, magnitude_mask, random_mask, shuffled_mask
from specdyn.interventions.matching import match_activations, match_weights
from specdyn.interventions.mixing import Mixer
from specdyn.interventions.norm import HoldNorm, rescaled
from specdyn.interventions.nuclear import ShrinkNuclear
from specdyn.interventions.perturbation import perturbed
from specdyn.interventions.plane import Plane
from specdyn.interventions.repair import repaired
from specdyn.interventions.symmetries import Symmetry, permuted, symmetries
from specdyn.interventions.truncation import Truncation, reestimate, truncations

__all__ = [
    "HoldNorm",
    "Line",
    "LowRank",
    "Mask",
    "Masked",
    "Mixer",
    "Plane",
    "ShrinkNuclear",
    "Symmetry",
    "Truncation",
    "combined",
    "line",
    "magnitude_mask",
    "match_activations",
    "match_weights",
    "permuted",
    "perturbed",
    "random_mask",
    "rank_within",
    "reestimate",
    "repaired",
    "rescaled",
    "shuffled_mask",
    "symmetries",
    "truncations",
    "with_weights",
]
