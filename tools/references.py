"""Small executed notebooks that nbval runs again: every chapter at the smoke tier, verdicts only."""

from __future__ import annotations

from tools.book import SMOKE, Chapter
from tools.execute import execute
from tools.notebook import Notebook, has_tag, read, read_source, write

COMPARED = "nbval-check-output"


def renew(chapter: Chapter) -> None:
    """Execute a chapter at the smoke tier and keep the outputs that tests compare."""
    write(slim(execute(chapter, SMOKE)), chapter.reference)


def slim(notebook: Notebook) -> Notebook:
    """Return the notebook with the outputs of compared cells only, and nothing of the machine it ran on."""
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"  # random by nature, and then different in every version
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output["metadata"] = {}  # the numbers behind a verdict
        if cell.cell_type == "code" and not has_tag(cell, COMPARED):
            cell.outputs = []
    source = notebook.metadata["provenance"]["inputs"]["source"]
    kernel = notebook.metadata["kernelspec"]
    notebook.metadata = {"kernelspec": kernel, "provenance": {"source": source}}
    return notebook


def disagreement(chapter: Chapter) -> str | None:
    """Say what is wrong with a chapter's reference, or nothing.

    nbval compares no cell without an execution count, and only those tagged: both must be there.
    """
    if not chapter.reference.exists():
        return f"{chapter.page} has no reference: run make references CHAPTER={chapter.name}"
    reference = read(chapter.reference)
    code = [cell for cell in reference.cells if cell.cell_type == "code"]
    own = [cell.source for cell in code if not has_tag(cell, "injected-parameters")]
    if own != [cell.source for cell in read_source(chapter).cells if cell.cell_type == "code"]:
        return f"the reference of {chapter.page} is stale: run make references CHAPTER={chapter.name}"
    if any(cell.execution_count is None for cell in code if cell.source.strip()):
        return f"the reference of {chapter.page} was not executed: nbval would compare nothing"
    if not any(has_tag(cell, COMPARED) and cell.outputs for cell in code):
        return f"the reference of {chapter.page} compares nothing: tag its verdict cells {COMPARED!r}"
    return None
