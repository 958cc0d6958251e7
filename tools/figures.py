"""Figures of an executed notebook become files beside the page and directives in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tools.book import BuildError
from tools.notebook import Cell, markdown

MIME = "application/vnd.specdyn.figure+json"
NEEDED = ("name", "caption", "alt", "dark", "csv")
IMAGES = ("image/svg+xml", "image/png", "image/jpeg")


def figure_cells(cell: Cell, folder: Path, where: str) -> list[Cell]:
    """Take the figures out of a code cell's outputs; write their files and return the cells that show them.

    Raises ``BuildError`` where a figure lacks its name, caption, words or data, or an image is no figure.
    """
    shown, kept = [], []
    for output in cell.outputs:
        data = output.get("data", {})
        if MIME in data:
            shown.append(_directive(data, folder, where))
        else:
            _check_image(data, cell, where)
            kept.append(output)
    cell.outputs = kept
    return [markdown(text) for text in shown]


def stand_ins(source: str, folder: Path, where: str) -> list[str]:
    """Return directives in place of a chapter's figures, so that references to them from other pages stay whole."""
    words = "not part of this build"
    empty = "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"
    found = []
    for name in dict.fromkeys(re.findall(r"""name=["'](fig-[\w-]+)["']""", source)):
        figure = {"name": name, "caption": f"{words.capitalize()}.", "alt": words, "dark": empty, "csv": words}
        found.append(_directive({"image/svg+xml": empty, MIME: figure}, folder, where))
    return found


def _directive(data: dict[str, Any], folder: Path, where: str) -> str:
    figure = data[MIME]
    for field in NEEDED:
        if not str(figure.get(field, "")).strip():
            raise BuildError(f"{where}: a figure has no {field}")
    name = figure["name"]
    if not name.startswith("fig-"):
        raise BuildError(f"{where}: the figure's name {name!r} does not begin with 'fig-'")
    files = {"light.svg": data["image/svg+xml"], "dark.svg": figure["dark"], "csv": figure["csv"]}
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in files.items():
        file = folder / f"{name}.{ending}"
        if file.exists():
            raise BuildError(f"{where}: there is another figure {name!r} in this part of the book")
        file.write_text(text)
    alt = json.dumps(figure["alt"].replace("\n", " "), ensure_ascii=False)
    return f"```{{twin-figure}} {folder.name}/{name}\n:name: {name}\n:alt: {alt}\n\n{figure['caption']}\n```"


def _check_image(data: dict[str, Any], cell: Cell, where: str) -> None:
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    if any(kind in data for kind in IMAGES) and not alt.strip():
        raise BuildError(f"{where}: an image has no alternative text: show it as a specdyn.show.Figure")
