"""The README's code runs as it stands, and its commands exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    assert (tmp_path / "run.npz").stat().st_size > 0
    assert "2.weight" in capsys.readouterr().out


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`make (\w+)", README))
    assert targets >= {"book", "test", "help"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_says_what_it_costs() -> None:
    rows = re.findall(r"^\| `make .*\| (.+) \|$", README, re.MULTILINE)
    assert len(rows) == 5
    assert all(re.search(r"\d min|minute", row) for row in rows), rows


def test_every_linked_file_exists() -> None:
    links = re.findall(r'(?:\]\(|src(?:set)?=")([^)":]+)[)"]', README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
