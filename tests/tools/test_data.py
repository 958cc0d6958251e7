"""Where chapters look for data, what they have a reader download, and the page that lists it all."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tools.__main__ import main
from tools.book import Book
from tools.data import REGISTRY, data_page
from tools.execute import datasets_read
from tools.notebook import read

ROOT = Path(__file__).parents[2]
ENTRIES = tomllib.loads((ROOT / REGISTRY).read_text())

READS = """\
# %%
import os
print("looks in", os.environ.get("SPECDYN_DATA"))
with open(os.environ["SPECDYN_DOWNLOADS"], "a") as log:
    log.write("digits 2000000\\nclothes 30000000\\ndigits 2000000\\n")
"""


def page(book: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((book / "_build" / "html" / f"{name}.html").read_text(), "html.parser")


def test_the_page_lists_every_dataset_with_its_licence(built: Path) -> None:
    rows = page(built, "data").select("table")[0].select("tbody tr")
    cells = [[cell.get_text() for cell in row.select("td")] for row in rows]
    assert [row[0] for row in cells] == [entry["title"] for entry in ENTRIES.values()]
    licences = [row[1].replace("\u2019", "'") for row in cells]  # Sphinx sets apostrophes
    assert licences == [entry["licence"] for entry in ENTRIES.values()]
    assert cells[list(ENTRIES).index("cifar10")][3] == "170.5 MB"
    assert cells[list(ENTRIES).index("fsdd")][3] == "about 16 MB"
    assert cells[list(ENTRIES).index("gpt-neox-20b")][3] == "by hand"


def test_the_page_gives_every_file_its_checksum_and_every_address_as_a_link(built: Path) -> None:
    soup = page(built, "data")
    text, links = soup.select_one("article").get_text(), {str(link["href"]) for link in soup.select("article a[href]")}
    for entry in ENTRIES.values():
        assert entry["home"] in links
        for file in (file for form in entry["forms"] for file in form["files"]):
            assert file["name"] in text
            assert file.get("hash", "").partition(":")[2] in text
            assert set(file.get("urls", [])) <= links


def test_the_page_says_that_not_all_comes_from_the_publisher_itself() -> None:
    text = " ".join(data_page(Book(ROOT)).split())
    assert 'from its publisher or a mirror when it is first needed, except where "by hand" stands' in text


def test_a_book_without_datasets_says_so(tmp_path: Path) -> None:
    assert "reads no published data" in data_page(Book(tmp_path))


def test_a_page_says_what_there_is_to_download(small: Path, edit: Callable[[str, str, str], None]) -> None:
    assert "No download." in page_cost(small, "small")
    source = small / "book/part/other.py"
    source.write_text(source.read_text() + READS)
    assert main(["book", "--tier", "smoke", "--chapter", "other"]) == 0
    assert "It reads 32 MB of published data, downloaded once." in page_cost(small, "other")
    costs = page(small, "status").select("article table")[0].select("tbody tr")
    assert [row.select("td")[5].text for row in costs] == ["none", "32 MB"]


def page_cost(book: Path, chapter: str) -> str:
    if not (book / "_build" / "html").exists():
        assert main(["book", "--tier", "smoke"]) == 0
    return re.sub(r"\s+", " ", page(book, f"part/{chapter}").select_one(".admonition.cost").get_text())


def test_nothing_read_is_nothing_to_download(tmp_path: Path) -> None:
    assert datasets_read(tmp_path / "log") == {}


def test_chapters_look_for_data_where_the_command_says(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_DATA", "/elsewhere")
    source = small / "book/part/other.py"
    source.write_text(source.read_text() + READS)
    (small / "mine").mkdir()
    assert main(["book", "--tier", "smoke", "--chapter", "other", "--data-dir", "mine"]) == 0
    outputs = [
        str(cell.outputs) for cell in read(small / "_build/notebooks/part/other.ipynb").cells if "outputs" in cell
    ]
    assert f"looks in {small / 'mine'}" in "".join(outputs)
    assert os.environ["SPECDYN_DATA"] == "/elsewhere"


def test_a_data_folder_that_is_not_there_is_named(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["book", "--data-dir", "nowhere"]) == 2
    assert "there is no folder 'nowhere' to read data from" in capsys.readouterr().err
    assert os.environ.get("SPECDYN_DATA") != "nowhere"
