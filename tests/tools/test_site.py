"""The small book becomes a site that says where everything came from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tools.__main__ import current, main
from tools.book import SMOKE, Chapter
from tools.claims import KEYS
from tools.notebook import read, write
from tools.provenance import PROBE


def page(built: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((built / "_build" / "html" / f"{name}.html").read_text(), "html.parser")


def test_a_figure_has_both_twins_one_caption_and_its_data(built: Path) -> None:
    soup = page(built, "part/small")
    figure = soup.select_one("figure#fig-falling")
    images = figure.select("img")
    assert [image["class"] for image in images] == [["only-light"], ["only-dark"]]
    assert {image["alt"] for image in images} == {'the "line" falls: from 10 to 1'}
    assert "stroke='white'" in (built / "_build/html/part" / images[1]["src"]).read_text()
    assert len(figure.select("figcaption")) == 1
    assert figure.select_one("figcaption em").text == "falls"
    assert soup.select_one("a[href='#fig-falling'] .std-numref").text == "Fig. 1"
    data = built / "_build/html/part" / figure.select_one("a.download")["href"]
    assert data.read_text() == "x,y\n0,10\n1,1\n"
    # The theme hides every caption that follows a hidden image.
    assert not figure.select("img ~ figcaption")


def test_a_claim_shows_its_numbers_beside_the_verdict(built: Path) -> None:
    table = page(built, "part/small").select_one("div.claim.holds ~ table.claim-numbers")
    assert [row.text for row in table.select("tr")] == ["slope-0.1235", "chance level0.5"]


def test_the_ledger_has_exactly_the_agreed_keys(built: Path) -> None:
    ledger = json.loads((built / "_build" / "claims.json").read_text())
    assert [tuple(claim) for claim in ledger] == [KEYS]
    assert ledger[0]["chapter"] == "part/small"
    assert ledger[0]["holds"] == [True]
    assert ledger[0]["measured"] == {"slope": [-0.123456]}


def test_the_claims_page_links_to_the_chapter_and_keeps_the_statement_whole(built: Path) -> None:
    soup = page(built, "claims")
    assert soup.select_one("article a[href='part/small.html']").text == "A small chapter"
    cells = [cell.text for cell in soup.select("table tbody td")]
    assert cells[1] == "Lines fall | mostly"
    assert cells[2].startswith("holds")
    assert cells[3] == "slope: -0.1235chance level: 0.5"


def test_the_status_page_names_every_chapter_with_its_cost_and_origin(built: Path) -> None:
    costs, origins = (table.select("tbody tr") for table in page(built, "status").select("article table"))
    assert [row.select("td")[0].text for row in costs] == ["A small chapter", "Another chapter"]
    small = [cell.text for cell in costs[0].select("td")]
    assert small[1:3] == ["smoke", "10"]
    assert small[-1] == "holds: 1"
    made = read(built / "_build/notebooks/part/small.ipynb").metadata["provenance"]
    shown = [cell.text for cell in origins[0].select("td")]
    assert shown[1] == made["measured"]["date"]
    assert shown[3:] == [made["inputs"][name][:8] for name in ("source", "library", "recordings", "lock")]


def test_a_page_says_what_it_was_made_from_and_what_it_cost(built: Path) -> None:
    made = read(built / "_build/notebooks/part/small.ipynb").metadata["provenance"]
    assert made["inputs"]["tier"] == "smoke"
    assert made["inputs"]["seeds"] == [10]
    assert {"torch", "threads", "device", "cores", "python"} == set(made["environment"])
    assert made["measured"]["seconds"] > 0
    assert made["measured"]["peak_memory"] > 10e6, "a Python kernel alone needs more"
    soup = page(built, "part/small")
    section = soup.select_one("section#provenance").text
    for value in (made["inputs"]["source"][:16], made["environment"]["torch"] or "none", made["measured"]["date"]):
        assert value in section
    cost = soup.select_one(".admonition.cost")
    assert "Tier smoke" in cost.text
    before = [element.get_text() for element in reversed(cost.find_previous_siblings())]
    assert before[:2] == ["A small chapter#", "It falls, as Fig. 1 shows."]
    assert cost.find_next("h2").text.startswith("The phenomenon"), (
        "the cost stands where the prose goes on after the hook"
    )


def test_the_page_shows_the_defaults_and_its_provenance_what_was_run(built: Path) -> None:
    soup = page(built, "part/small")
    sources = [cell.get_text() for cell in soup.select("div.cell_input")]
    assert len([source for source in sources if "tier = " in source]) == 1
    rows = [row.get_text(" ") for row in soup.select("tr")]
    assert any("tier smoke" in row for row in rows)


def test_equations_are_drawn_without_another_host(built: Path) -> None:
    scripts = [script["src"] for script in page(built, "index").select("script[src]")]
    assert any("mathjax" in source for source in scripts)
    assert not [source for source in scripts if "//" in source]


def test_a_reader_downloads_the_notebook_as_it_was_executed(built: Path) -> None:
    link = page(built, "part/small").select_one("a[href$='.ipynb']")["href"]
    downloaded = (built / "_build" / "html" / "part" / link).resolve()
    assert downloaded.read_bytes() == (built / "_build/notebooks/part/small.ipynb").read_bytes()


def test_what_is_current_is_not_executed_again(small: Path) -> None:
    notebook = small / "_build/notebooks/part/small.ipynb"
    before = notebook.read_bytes()
    assert main(["book", "--tier", "smoke"]) == 0
    assert notebook.read_bytes() == before


def test_what_is_forced_is_executed_again(small: Path) -> None:
    notebook = small / "_build/notebooks/part/other.ipynb"
    before = read(notebook).metadata.papermill.start_time
    assert main(["book", "--tier", "smoke", "--chapter", "other", "--force"]) == 0
    assert read(notebook).metadata.papermill.start_time != before


@pytest.mark.parametrize("file", ["lib/specdyn/module.py", "requirements.lock", "book/part/other.py"])
def test_a_change_of_library_lock_or_source_makes_a_notebook_stale(small: Path, file: str) -> None:
    chapter = Chapter(small, "part/other")
    assert current(chapter, SMOKE)
    path = small / file
    path.write_text(path.read_text() + "# changed\n")
    assert not current(chapter, SMOKE)


def test_one_chapter_is_built_alone_and_the_others_say_why_they_are_missing(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["book", "--tier", "laptop", "--seeds", "10,11,12", "--chapter", "other"]) == 0
    assert "left out: part/small: tier, seeds changed since the notebook was executed" in capsys.readouterr().out
    assert "not part of this build" in page(small, "part/small").text
    index = page(small, "index")
    assert index.select_one("article a[href='part/small.html#fig-falling']").text == "Fig. 1"
    assert index.select_one("article a[href='part/small.html#the-phenomenon']").text == "The phenomenon"
    assert index.select_one("article a[href='part/small.html#ex-draw']").text == "Exercise 1"
    assert "tier, seeds changed" in page(small, "status").text
    assert "laptop on auto" in page(small, "part/other").text


def test_a_page_about_claims_finds_those_before_it_and_is_executed_again_when_they_change(
    small: Path, edit: Callable[[str, str, str], None]
) -> None:
    notebook = small / "_build/notebooks/part/other.ipynb"
    edit("book/part/other.py", "# jupyter:", "# jupyter:\n#   reads: claims")
    edit("book/part/other.py", 'print(f"{tier}', 'print(open("_build/claims.json").read(), f"{tier}')
    assert main(["book", "--tier", "smoke"]) == 0
    said = read(notebook).cells[-1].outputs[0].text
    assert [(claim["chapter"], claim["chance"]) for claim in json.loads(said[: said.rindex("]") + 1])] == [
        ("part/small", 0.5)
    ]
    before = notebook.read_bytes()
    assert main(["book", "--tier", "smoke"]) == 0
    assert notebook.read_bytes() == before
    edit("book/part/small.py", '"chance": 0.5', '"chance": 0.25')
    assert main(["book", "--tier", "smoke"]) == 0
    assert '"chance": 0.25' in read(notebook).cells[-1].outputs[0].text


def test_a_notebook_survives_being_written_and_read(small: Path) -> None:
    path = small / "_build/notebooks/part/small.ipynb"
    write(read(path), path)
    assert current(Chapter(small, "part/small"), SMOKE)


def test_the_environment_is_told_without_torch_too(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    command = [sys.executable, "-c", PROBE, "auto"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)})
    facts = json.loads(found.stdout)
    assert facts["torch"] is None
    assert facts["device"] == "auto"
