"""The reference pages hold every public name once, made from its docstring, and fail where a docstring is wrong."""

from __future__ import annotations

import doctest
import inspect
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag

import specdyn
from specdyn import interventions, show, spectra, tasks, training
from specdyn.tasks import datasets
from tools.book import SMOKE, Book, BuildError
from tools.site import build_site
from tools.stage import stage

ROOT = Path(__file__).parents[2]
ROOMS = (spectra, tasks, datasets, training, interventions, show)


def exported(room: ModuleType) -> dict[str, Any]:
    """What a room's ``__init__`` imports by name from its files."""
    return {name: thing for name, thing in vars(room).items() if name[0] != "_" and not inspect.ismodule(thing)}


by_room = pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)


@pytest.fixture(scope="module")
def pages(reference: Path) -> dict[str, BeautifulSoup]:
    files = (reference / "_build" / "html" / "api").glob("*.html")
    return {file.stem: BeautifulSoup(file.read_text(), "html.parser") for file in files}


@pytest.fixture(scope="module")
def entries(pages: dict[str, BeautifulSoup]) -> dict[str, list[Tag]]:
    """The description of each documented name, by its full name; more than one where a name is on several pages."""
    found: dict[str, list[Tag]] = {}
    for soup in pages.values():
        for head in soup.select("dt.sig-object[id]"):
            found.setdefault(str(head["id"]), []).append(head.find_parent("dl"))
    return found


@by_room
def test_every_name_of_a_room_is_on_one_page(entries: dict[str, list[Tag]], room: ModuleType) -> None:
    for name in exported(room):
        times = len(entries.get(f"{room.__name__}.{name}", []))
        assert times == 1, f"{room.__name__}.{name} is {times} times on the pages under book/api: give it one place"


def test_a_page_documents_nothing_that_its_room_does_not_export(entries: dict[str, list[Tag]]) -> None:
    public = {f"{room.__name__}.{name}" for room in ROOMS for name in exported(room)}
    parts = {full for full in entries if full.rpartition(".")[0] in public}
    assert set(entries) - parts == public


def test_the_first_page_leads_to_every_name_at_the_top(pages: dict[str, BeautifulSoup]) -> None:
    links = {str(link["href"]).split("#")[-1] for link in pages["index"].select("article a[href]")}
    for name in specdyn.__all__:
        thing = getattr(specdyn, name)
        homes = [room for room in ROOMS if exported(room).get(name) is thing]
        target = f"{name}.html" if inspect.ismodule(thing) else f"{homes[0].__name__}.{name}"
        assert target in links, f"specdyn.{name} is missing from the map in book/api/index.md"


def members(kind: type) -> list[str]:
    """Methods and properties that a class adds to its fields and its bases."""
    fields = set(getattr(kind, "_fields", ())) | set(getattr(kind, "__dataclass_fields__", ()))
    return [name for name in vars(kind) if (name[0] != "_" or name == "__call__") and name not in fields]


@by_room
def test_every_method_has_words_of_its_own(entries: dict[str, list[Tag]], room: ModuleType) -> None:
    for name, kind in exported(room).items():
        for member in members(kind) if inspect.isclass(kind) else ():
            full = f"{room.__name__}.{name}.{member}"
            assert full in entries, f"{full} has no docstring, so the reference does not show it"
            assert entries[full][0].select_one("dd p"), f"{full} is shown without a word"


@by_room
def test_examples_are_shown_as_code(entries: dict[str, list[Tag]], room: ModuleType) -> None:
    for name, thing in exported(room).items():
        blocks = entries[f"{room.__name__}.{name}"][0].select("dd div.doctest pre")
        shown = "\n".join(line.rstrip() for block in blocks for line in block.get_text().splitlines())
        for example in doctest.DocTestParser().get_examples(inspect.getdoc(thing) or ""):
            first, *more = example.source.splitlines()
            code = "\n".join([f">>> {first}", *(f"... {line}" for line in more)])
            assert f"{code}\n{example.want}".strip() in shown, f"an example of {name} is not shown as code"


def test_a_function_for_many_types_has_one_signature(entries: dict[str, list[Tag]]) -> None:
    (entry,) = entries["specdyn.spectra.read_module"]
    assert len(spectra.read_module.registry) > 2
    assert len(entry.find_all("dt", recursive=False)) == 1


def test_types_are_short_and_lead_to_their_own_description(entries: dict[str, list[Tag]]) -> None:
    signature = entries["specdyn.spectra.measure"][0].select_one("dt")
    assert "model: Module" in signature.get_text().replace("\xa0", " ")
    assert signature.select_one("a[href='#specdyn.spectra.Snapshot']").get_text() == "Snapshot"


def test_a_name_in_a_docstring_is_a_link(entries: dict[str, list[Tag]]) -> None:
    links = [link["href"] for link in entries["specdyn.spectra.agreement"][0].select("dd p a")]
    assert "#specdyn.spectra.agreement_chance" in links


def test_a_constant_is_described_where_it_is_assigned(entries: dict[str, list[Tag]]) -> None:
    entry = entries["specdyn.tasks.TIERS"][0]
    assert "'laptop'" in entry.select_one("dt").get_text()
    assert "never the code path" in entry.select_one("dd").get_text()


def test_source_is_one_click_away(entries: dict[str, list[Tag]], reference: Path) -> None:
    link = entries["specdyn.spectra.effective_rank"][0].select_one("dt a[href*='_modules']")
    source = (reference / "_build" / "html" / "api" / str(link["href"]).split("#")[0]).resolve()
    assert "torch.exp" in BeautifulSoup(source.read_text(), "html.parser").get_text()


SAMPLE = {
    "sample/__init__.py": '"""A library."""\nfrom sample.inside import LIMIT, double\n',
    "sample/inside.py": '''\
LIMIT = 3


def double(x: int) -> int:
    """Return twice the number.

    Half of it gives `halve`.
    """
    return 2 * x
''',
}
PAGE = """\
# A small book

```{eval-rst}
.. currentmodule:: sample
.. autofunction:: double
.. autodata:: LIMIT
```
"""


def test_what_is_wrong_in_a_docstring_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book(tmp_path)
    pages = {"book/index.md": PAGE, "book/references.bib": "", "_toc.yml": "format: jb-book\nroot: index\n"}
    for name, text in {**SAMPLE, **pages}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    stage(book, {}, {}, SMOKE)
    with pytest.raises(BuildError) as caught:
        build_site(book, [])
    assert str(caught.value).splitlines() == [
        "sample.LIMIT has no docstring: write one below its assignment",
        "docstring of sample.inside.double, line 3: py:obj reference target not found: halve",
    ]
