"""Claims of executed notebooks: their numbers beside the verdict, and all of them in one ledger."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from tools.book import BuildError, Chapter
from tools.notebook import Notebook, place

KEYS = ("id", "chapter", "task", "tier", "statement", "holds", "verdict", "measured", "chance")
VERDICTS = ("holds", "holds in part", "does not hold here", "interpretation", "not judged at this tier")

Claim = dict[str, Any]


def claims(chapter: Chapter, notebook: Notebook) -> list[Claim]:
    """Return the claims of a chapter as the ledger has them; one entry an id and task."""
    found: list[Claim] = []
    for index, output in _claim_outputs(notebook):
        claim = output["metadata"]["specdyn"]["claim"] | {"chapter": chapter.page}
        where = place(chapter, notebook, index)
        if set(claim) != set(KEYS):
            raise BuildError(f"{where}: a claim has the keys {', '.join(KEYS)}, not {', '.join(sorted(claim))}")
        if claim["verdict"] not in VERDICTS:
            raise BuildError(f"{where}: {claim['verdict']!r} is none of the verdicts: {', '.join(VERDICTS)}")
        if any((claim["id"], claim["task"]) == (other["id"], other["task"]) for other in found):
            raise BuildError(f"{where}: claim {claim['id']} on {claim['task']} is judged twice")
        found.append({key: claim[key] for key in KEYS})
    return found


def show_numbers(notebook: Notebook, seeds: list[int]) -> None:
    """Put the measured numbers below each verdict of a page."""
    for _, output in _claim_outputs(notebook):
        claim = output["metadata"]["specdyn"]["claim"]
        output["data"]["text/html"] += _numbers_table(claim, seeds)


def number(value: Any) -> str:
    """Return a measured number as people read it.

    >>> number(0.123456), number(1234567.0), number([1, None])
    ('0.1235', '1.235e+06', '1, none')
    """
    if isinstance(value, list):
        return ", ".join(number(item) for item in value)
    return "none" if value is None else f"{value:.4g}"


def _claim_outputs(notebook: Notebook) -> Iterator[tuple[int, Any]]:
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if "claim" in output.get("metadata", {}).get("specdyn", {}):
                yield index, output


def measurements(claim: Claim) -> list[tuple[str, Any]]:
    """Return the numbers behind a verdict by name, the chance level last where there is one."""
    chance = [] if claim["chance"] is None else [("chance level", claim["chance"])]
    return [*claim["measured"].items(), *chance]


def _numbers_table(claim: Claim, seeds: list[int]) -> str:
    numbers = [(html.escape(name), number(value)) for name, value in measurements(claim)]
    rows = [f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in numbers]
    several = "seed" if len(seeds) == 1 else "one number a seed: seeds"
    caption = f"measured, {several} {', '.join(map(str, seeds))}"
    return f"<table class='claim-numbers'><caption>{caption}</caption>{''.join(rows)}</table>" if rows else ""
