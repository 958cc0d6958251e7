"""A claim: a statement with a test on every seed, and the verdict we dare to give."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from specdyn.training import book_root

Measured = float | Sequence[float]

ENOUGH_SEEDS = 3
"""Fewer seeds than this give no verdict."""


@dataclass(frozen=True)
class Claim:
    """A judged claim. It shows itself in words that are the same on every machine; numbers go apart."""

    id: str
    task: str
    tier: str
    statement: str
    holds: tuple[bool, ...]
    verdict: str
    measured: Mapping[str, Any]
    chance: float | None
    reason: str
    """Why there is no verdict, where there is none."""

    @property
    def sentence(self) -> str:
        """The verdict with its count of seeds, where one was given."""
        if self.verdict == "not judged at this tier":
            return f"{self.verdict}: {self.reason}"
        if self.verdict == "interpretation":
            return "interpretation: the paper offers it as a reading"
        return f"{self.verdict}: in {sum(self.holds)} of {len(self.holds)} seeds"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        kind = self.verdict.replace(" ", "-")
        words = {
            "text/plain": f"{self.id} ({self.task}): {self.statement}\n{self.sentence}",
            "text/html": (
                f'<div class="claim {kind}"><strong class="claim-id">{html.escape(self.id)}</strong> '
                f'<span class="claim-statement">{html.escape(self.statement)}</span> '
                f'<span class="claim-verdict">{html.escape(self.sentence)}</span></div>'
            ),
        }
        ledger = asdict(self)
        del ledger["reason"]
        return words, {"specdyn": {"claim": ledger}}


def claim(
    id: str,
    statement: str,
    *,
    holds: Sequence[bool],
    tier: str,
    task: str,
    measured: Mapping[str, Measured],
    chance: float | None = None,
    interpretation: bool = False,
    not_judged: str = "",
) -> Claim:
    """Judge a claim on its seeds: ``holds`` has one entry a seed, ``measured`` the numbers behind it.

    The verdict is *holds* where it does in every seed, *holds in part* in some, *does not hold here* in
    none. At the smoke tier, or with fewer than three seeds, there is none. ``interpretation`` marks what the
    paper offers as a reading; ``not_judged`` says why a claim cannot be judged on these runs. Raises
    ``ValueError`` where no seed was tested.

    >>> claim("C0.0", "Water is wet", holds=[True] * 3, tier="laptop", task="rain", measured={}).sentence
    'holds: in 3 of 3 seeds'
    """
    tested = tuple(bool(held) for held in holds)
    if not tested:
        raise ValueError(f"claim {id} was tested on no seed: give holds=[...], one entry a seed")
    reason = not_judged or _too_little(tested, tier)
    return Claim(
        id=id,
        task=task,
        tier=tier,
        statement=statement,
        holds=tested,
        verdict=_verdict(tested, reason, interpretation),
        measured={name: _plain(value) for name, value in measured.items()},
        chance=None if chance is None else _plain(chance),
        reason=reason,
    )


def ledger() -> pd.DataFrame:
    """Return the claims of the book as it was last built: a row for each ``id`` and ``task``, none before that.

    ``chapter`` is the page that judged it, ``holds`` one entry a seed, ``measured`` the numbers behind it by name. A
    page of which the header says ``reads: claims`` finds those of the pages before it, and is executed
    again when they change.

    >>> set(ledger()) >= {"id", "task", "chapter", "tier", "statement", "holds", "verdict", "measured", "chance"}
    True
    """
    file = book_root() / "_build" / "claims.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    return pd.DataFrame(rows, columns=[*(field.name for field in fields(Claim) if field.name != "reason"), "chapter"])


def _too_little(holds: tuple[bool, ...], tier: str) -> str:
    if tier == "smoke":
        return "the smoke tier only tests the code"
    return "" if len(holds) >= ENOUGH_SEEDS else f"fewer than {ENOUGH_SEEDS} seeds"


def _verdict(holds: tuple[bool, ...], reason: str, interpretation: bool) -> str:
    if reason:
        return "not judged at this tier"
    if interpretation:
        return "interpretation"
    return "holds" if all(holds) else "holds in part" if any(holds) else "does not hold here"


def _plain(value: Measured) -> Any:
    """Numbers as JSON has them, to four significant digits; a number that is missing is null."""
    if np.ndim(value):
        return [_plain(item) for item in np.asarray(value)]
    number = float(np.asarray(value))
    return float(f"{number:.4g}") if np.isfinite(number) else None
