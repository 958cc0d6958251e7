"""Text the build writes itself: cost and provenance on a page, the claims page, the status page."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tools.book import Chapter, Settings
from tools.claims import Claim, measurements, number
from tools.notebook import Notebook

VERDICTS = ("holds", "holds in part", "does not hold here", "interpretation", "not judged at this tier")
SECTION = re.compile(r"^# \((?P<label>[\w-]+)\)=\n# #+ (?P<title>.+)$", re.MULTILINE)
KEEPS_RUNS = re.compile(r"\bsd\.(?:sweep|train)\(")
EXERCISE = re.compile(r"^# `{3,}\{exercise\} ?(?P<title>.*)\n# :label: (?P<label>[\w-]+)$", re.MULTILINE)


def title(notebook: Notebook) -> str:
    """Return the title of a chapter."""
    found = re.search(r"^# +(.+)$", notebook.cells[0].source, re.MULTILINE)
    return found[1] if found else "Untitled"


def cost(notebook: Notebook) -> str:
    """Return what a page cost where it was executed, as an admonition."""
    made = notebook.metadata["provenance"]
    measured, machine, inputs = made["measured"], made["environment"], made["inputs"]
    return (
        f"```{{admonition}} What this page cost\n:class: cost\n\n"
        f"Tier **{inputs['tier']}**: {measured['seconds']:.0f} seconds on {_machine(machine)}, "
        f"{_megabytes(measured['peak_memory'])} at the most. {_runs_trained(notebook)} {_downloaded(measured)}\n```"
    )


def _runs_trained(notebook: Notebook) -> str:
    """Return what was trained and kept. A page may train networks itself, and then no number of kept runs says so."""
    if not any(KEEPS_RUNS.search(cell.source) for cell in notebook.cells if cell.cell_type == "code"):
        return "It reads no finished runs: what it trains, it trains anew each time."
    count = notebook.metadata["provenance"]["measured"]["new_runs"]
    runs = {0: "no run had", 1: "one run had"}.get(count, f"{count} runs had")
    return f"For this, {runs} to be trained; runs that are there already are only read."


def _downloaded(measured: dict[str, Any]) -> str:
    """Return what a reader who has none of the published data has to download for a page."""
    size = sum(measured["downloads"].values())
    return (
        f"It reads {_megabytes(size)} of {{doc}}`published data </data>`, downloaded once." if size else "No download."
    )


def provenance(notebook: Notebook) -> str:
    """Return the section that says what a page was made from."""
    made = notebook.metadata["provenance"]
    inputs, machine, measured = made["inputs"], made["environment"], made["measured"]
    rows = {
        "executed": measured["date"],
        "parameters": f"tier {inputs['tier']}, seeds {number(inputs['seeds'])}, device {inputs['device']}",
        "device": machine["device"],
        "cores, threads": f"{machine['cores']}, {machine['threads'] or 'unknown'}",
        "Python, torch": f"{machine['python']}, {machine['torch'] or 'none'}",
        "seconds": f"{measured['seconds']:.1f}",
        "peak memory": _megabytes(measured["peak_memory"]),
        "runs trained and kept": measured["new_runs"],
        **{f"{name}, sha256": f"`{inputs[name][:16]}`" for name in ("source", "library", "recordings", "lock")},
    }
    table = _table("this page", "", rows=[_row(*row) for row in rows.items()])
    return f"## Provenance\n\n{table}"


def stand_ins(source: str) -> list[str]:
    """Return empty sections and exercises under a chapter's labels, so that references from other pages stay whole."""
    words = "Not part of this build."
    sections = [f"({found['label']})=\n## {found['title']}\n\n{words}" for found in SECTION.finditer(source)]
    exercises = [
        f"```{{exercise}} {found['title']}\n:label: {found['label']}\n\n{words}\n```"
        for found in EXERCISE.finditer(source)
    ]
    return [*sections, *exercises]


def placeholder(chapter_title: str, chapter: Chapter, reason: str) -> str:
    """Return the page of a chapter that is not part of this build."""
    return (
        f"# {chapter_title}\n\nThis page is not part of this build: {reason}.\n\n"
        f"```\nmake book CHAPTER={chapter.name}\n```\n"
    )


def claims_page(ledger: dict[str, list[Claim]], titles: dict[str, str]) -> str:
    """Return the page with every claim of every chapter."""
    parts = [
        "# Claims\n\nEvery claim this book tests, with the verdict of this build and the numbers behind it, one a seed "
        "where there are several. A claim that does not hold is shown as such. Claims C are the paper's; the others "
        f"are the book's own.\n\n{_tally([claim for claims in ledger.values() for claim in claims])}"
    ]
    judged = [(page, claims) for page, claims in ledger.items() if claims]
    judged.sort(key=lambda item: not any(_from_the_paper(claim) for claim in item[1]))  # the paper's claims first
    for page, claims in judged:
        rows = [_claim_row(claim) for claim in claims]
        table = _table("claim", "statement", "verdict", "measured", rows=rows)
        noun = "claim" if len(claims) == 1 else "claims"
        parts.append(f"## {titles[page]}\n\n{len(claims)} {noun}, tested in {{doc}}`/{page}`.\n\n{table}")
    if not any(ledger.values()):
        parts.append("No chapter of this build tests a claim.")
    return "\n\n".join(parts) + "\n"


def _tally(claims: list[Claim]) -> str:
    """Return how many of the paper's claims, and of the book's own, got each verdict."""
    lines = []
    for whose, chosen in (
        ("The paper's", [claim for claim in claims if _from_the_paper(claim)]),
        ("The book's own", [claim for claim in claims if not _from_the_paper(claim)]),
    ):
        counts = Counter(claim["verdict"] for claim in chosen)
        said = ", ".join(f"{verdict}: {counts[verdict]}" for verdict in VERDICTS if counts[verdict])
        lines += [f"- {whose}: {said}."] if chosen else []
    return "\n".join(lines)


def _from_the_paper(claim: Claim) -> bool:
    return str(claim["id"]).startswith("C")


def status_page(
    made: dict[str, Notebook], ledger: dict[str, list[Claim]], absent: dict[str, str], settings: Settings
) -> str:
    """Return the page that says of every chapter when, where and from what it was made."""
    costs = [_cost_row(page, notebook, ledger[page]) for page, notebook in made.items()]
    origins = [_origin_row(page, notebook) for page, notebook in made.items()]
    left = "\n".join(f"- {{doc}}`/{page}`: {reason}" for page, reason in absent.items())
    heads = ("chapter", "tier", "seeds", "seconds", "memory", "download", "runs trained and kept", "verdicts")
    missing = f"## Not part of this build\n\n{left}\n\n" if absent else ""
    return (
        f"# Status of this build\n\nWhat each chapter was executed from, on what, and what it cost. "
        f"This build is of tier **{settings.tier}**.\n\n"
        f"{_table(*heads, rows=costs)}\n\n"
        f"{missing}## Made from, and on\n\nHashes are the first eight digits of sha256.\n\n"
        f"{_table('chapter', 'executed', 'device', 'source', 'library', 'recordings', 'lock', rows=origins)}\n"
    )


def _cost_row(page: str, notebook: Notebook, claims: list[Claim]) -> str:
    inputs, measured = (notebook.metadata["provenance"][part] for part in ("inputs", "measured"))
    verdicts = Counter(claim["verdict"] for claim in claims)
    return _row(
        f"{{doc}}`/{page}`",
        inputs["tier"],
        number(inputs["seeds"]),
        f"{measured['seconds']:.0f}",
        _megabytes(measured["peak_memory"]),
        _megabytes(size) if (size := sum(measured["downloads"].values())) else "none",
        measured["new_runs"],
        "<br>".join(f"{verdict}: {verdicts[verdict]}" for verdict in VERDICTS if verdicts[verdict]) or "no claims",
    )


def _origin_row(page: str, notebook: Notebook) -> str:
    made = notebook.metadata["provenance"]
    hashes = (f"`{made['inputs'][name][:8]}`" for name in ("source", "library", "recordings", "lock"))
    return _row(f"{{doc}}`/{page}`", made["measured"]["date"], made["environment"]["device"], *hashes)


def table_of(*head: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    return _table(*head, rows=[_row(*row) for row in rows])


def _table(*head: str, rows: list[str]) -> str:
    return "\n".join([_row(*head), _row(*["---"] * len(head)), *rows])


def _row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _claim_row(claim: Claim) -> str:
    name = f"**{_text(claim['id'])}**<br>{_text(claim['task'])}, {claim['tier']}"
    kind = claim["verdict"].replace(" ", "-")
    verdict = f'<span class="claim-verdict {kind}">{claim["verdict"]}</span>'
    if claim["verdict"] != "not judged at this tier":
        verdict += f"<br>in {sum(claim['holds'])} of {len(claim['holds'])} seeds"
    numbers = [f"{_text(label)}: {number(value)}" for label, value in measurements(claim)]
    return _row(name, _text(claim["statement"]), verdict, "<br>".join(numbers))


def _text(words: str) -> str:
    return html.escape(words).replace("|", "\\|")


def _machine(machine: dict[str, Any]) -> str:
    cores = machine["cores"]
    return f"{machine['device']}, {cores} core{'s' if cores != 1 else ''}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
