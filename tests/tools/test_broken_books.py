"""A book that is wrong somewhere does not become a site, and the message names the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.__main__ import main
from tools.book import BuildError
from tools.figures import MIME, NEEDED, figure_cells
from tools.notebook import read, write

Edit = Callable[[str, str, str], None]
SMALL = "book/part/small.py"
OTHER = "book/part/other.py"
SHOW = 'print(f"{tier} on {device}")'


def fails(capsys: pytest.CaptureFixture[str], *chapter: str) -> str:
    """Build, expect failure, and return what was said."""
    assert main(["book", "--tier", "smoke", *chapter]) == 1
    return capsys.readouterr().err.split("error: ", 1)[1]


def shows(edit: Edit, html: str) -> None:
    """Let the other chapter show a piece of HTML."""
    edit(OTHER, SHOW, f"from IPython.display import HTML\n\nHTML({html!r})")


def test_a_failing_cell(small: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(OTHER, SHOW, "x = 1\nx / 0")
    site = small / "_build" / "html"
    site.mkdir()
    message = fails(capsys)
    assert message == "part/other, cell 3 ('x = 1') failed: ZeroDivisionError: division by zero\n"
    assert site.exists(), "the last good site stays"
    assert not (small / "_build" / "site").exists()


def test_a_kernel_that_dies(small: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(OTHER, SHOW, "import os\n\nos._exit(1)")
    assert "part/other: the kernel died" in fails(capsys)


def test_a_reference_to_a_figure_that_is_not_there(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(SMALL, "{numref}`fig-falling` shows.", "{numref}`fig-rising` shows.")
    message = fails(capsys)
    assert message.startswith("part/small, cell 1 ('# A small chapter'): ")
    assert "fig-rising" in message


def test_a_figure_without_alternative_text(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(SMALL, "display({", 'figure["alt"] = " "\ndisplay({')
    message = fails(capsys, "--chapter", "small")
    assert message.startswith("part/small, cell 4 ('from IPython.display import")
    assert "a figure has no alt" in message


@pytest.mark.parametrize("field", NEEDED)
def test_a_figure_that_lacks_something_else(small: Path, field: str) -> None:
    cell = read(small / "_build/notebooks/part/small.ipynb").cells[4]
    del cell.outputs[0].data[MIME][field]
    with pytest.raises(BuildError, match=f"somewhere: a figure has no {field}"):
        figure_cells(cell, small / "figures", "somewhere")
    assert not (small / "figures").exists()


def test_an_image_that_is_no_figure(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(OTHER, SHOW, "from IPython.display import SVG\n\nSVG(\"<svg xmlns='http://www.w3.org/2000/svg'/>\")")
    message = fails(capsys, "--chapter", "other")
    assert message.startswith("part/other, cell 3 ('from IPython.display import SVG'): an image has no alternative")


def test_two_figures_of_one_name(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(SMALL, 'print("the line")', "display({figure_type: figure, 'image/svg+xml': drawing('red')}, raw=True)")
    assert "there is another figure 'fig-falling'" in fails(capsys, "--chapter", "small")


def test_a_claim_judged_twice(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(SMALL, 'print("the line")', 'display(words, metadata={"specdyn": {"claim": claim}}, raw=True)')
    assert "claim C0.1 on lines is judged twice" in fails(capsys, "--chapter", "small")


def test_a_verdict_that_is_none(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(SMALL, '"verdict": "holds"', '"verdict": "mostly holds"')
    message = fails(capsys, "--chapter", "small")
    assert message.startswith("part/small, cell 5 ('claim = {'): 'mostly holds' is none of the verdicts")


def test_a_dead_link_in_prose(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit("book/index.md", "# A small book", "# A small book\n\nRead [that](part/gone.md) first.")
    message = fails(capsys)
    assert message.startswith("index.md, line 3: ")
    assert "part/gone.md" in message


def test_everything_the_finished_pages_have_wrong(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    shows(
        edit,
        "<a href='gone.html'>there</a> <a href='small.html#gone'>here</a> <img src='dot.png' alt='dot.png'>"
        " <img src='https://example.org/dot.png' alt='a dot'> <svg width='9'></svg>",
    )
    message = fails(capsys)
    for words in (
        "part/other.html: a dead link: gone.html",
        "part/other.html: a dead anchor: small.html#gone",
        "part/other.html: an image has no alternative text: dot.png",
        "part/other.html: <img> loads https://example.org/dot.png",
        'part/other.html: an svg needs role="img" and an aria-label: <svg width="9">',
    ):
        assert words in message


def test_a_notebook_without_outputs(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(OTHER, SHOW, "pass")
    assert "part/other: " in (message := fails(capsys, "--chapter", "other"))
    assert "is a notebook without outputs" in message


def test_a_notebook_edited_after_it_was_executed(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small / "_build/notebooks/part/small.ipynb"
    notebook = read(path)
    notebook.cells[-2].outputs[0].text = "a nicer result\n"
    write(notebook, path)
    kept = path.read_bytes()
    message = fails(capsys)
    assert message.startswith("part/small: _build/notebooks/part/small.ipynb was edited after it was executed")
    assert path.read_bytes() == kept, "what somebody wrote is not thrown away"


def test_a_chapter_without_parameters(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit(OTHER, ' tags=["parameters"]', "")
    assert "part/other: 0 cells are tagged 'parameters'" in fails(capsys, "--chapter", "other")


@pytest.mark.parametrize("content", ['{"cells": [', "{}", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}'])
def test_a_notebook_that_is_not_whole(small: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (small / "_build/notebooks/part/small.ipynb").write_text(content)
    message = fails(capsys)
    assert "part/small.ipynb: no whole notebook" in message
    assert "delete it and build again" in message


def test_a_chapter_edited_while_it_runs(edit: Edit, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(OTHER, SHOW, f"open({OTHER!r}, 'a').write('# later\\n')\n{SHOW}")
    assert "part/other: source changed since the notebook was executed" in fails(capsys, "--chapter", "other")
