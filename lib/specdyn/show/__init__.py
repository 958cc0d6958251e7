"""How we look at a recording, and what we dare to say."""

from specdyn.show.claims import Claim, claim
from specdyn.show.figure import Figure

__all__ = ["Claim", "Figure", "claim"]
