"""The registry holds what publishers say, whole, and nothing that cannot be checked."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from specdyn.tasks.datasets import Dataset, available, describe

ROWS = [pytest.param(describe(name), id=name) for name in available()]


@pytest.mark.parametrize("row", ROWS)
def test_whatever_is_downloaded_can_be_checked(row: Dataset) -> None:
    for file in row.canonical:
        if file.urls:
            assert file.hash or row.contents, f"{file.name} would be taken as it comes"


@pytest.mark.parametrize("row", ROWS)
def test_how_much_there_is_to_download_is_known(row: Dataset) -> None:
    for file in row.canonical:
        assert file.bytes or file.about, f"{file.name} is of unknown size"


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_well_formed(row: Dataset) -> None:
    assert all((row.title, row.version, row.licence, row.copyright, row.note))
    assert urlsplit(row.home).scheme in ("https", "http")
    for form in row.forms:
        for file in form:
            assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+", file.name)
            assert ".." not in file.name
            assert file.hash is None or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.hash)
            assert all(urlsplit(url).scheme in ("https", "http") and urlsplit(url).netloc for url in file.urls)
            assert len(set(file.urls)) == len(file.urls)


def test_no_file_belongs_to_two_datasets() -> None:
    names = [file.name for name in available() for form in describe(name).forms for file in form]
    assert len(names) == len(set(names))


@pytest.mark.skipif("SPECDYN_DATA" not in os.environ, reason="needs the folder's list: set SPECDYN_DATA")
def test_the_registry_agrees_with_the_list_of_a_mirror() -> None:
    manifest = Path(os.environ["SPECDYN_DATA"], "manifest.json")
    if not manifest.exists():
        pytest.skip("this mirror brings no manifest.json of its own")
    listed = {file["file"]: file for file in json.loads(manifest.read_text())["files"]}
    files = [file for name in available() for form in describe(name).forms for file in form]
    both = [file for file in files if file.name in listed and file.hash]
    assert len(both) >= 12
    for file in both:
        assert file.bytes == listed[file.name]["bytes"]
        kind, _, digest = str(file.hash).partition(":")
        assert digest == listed[file.name][kind]
