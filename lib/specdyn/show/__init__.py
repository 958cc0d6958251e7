"""How we look at a recording, and what we dare to say."""

from specdyn.show.claims import Claim, claim, ledger
from specdyn.show.figure import Figure
from specdyn.show.figures import curves, dots, over_steps, scatter, singular_values
from specdyn.show.heatmaps import fingerprint
from specdyn.show.landscape import landscape
from specdyn.show.pictures import against_theory, images, mosaic, spectra, unit
from specdyn.show.scrubber import Scrubber
from specdyn.show.settings import by_setting
from specdyn.show.theme import DARK, LIGHT, Theme
from specdyn.show.words import spread

__all__ = [
    "DARK",
    "LIGHT",
    "Claim",
    "Figure",
    "Scrubber",
    "Theme",
    "against_theory",
    "by_setting",
    "claim",
    "curves",
    "dots",
    "fingerprint",
    "images",
    "landscape",
    "ledger",
    "mosaic",
    "over_steps",
    "scatter",
    "singular_values",
    "spectra",
    "spread",
    "unit",
]
