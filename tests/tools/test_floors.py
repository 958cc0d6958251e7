"""Nothing in the library imports from a floor above, and the tools know nothing of the library."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "lib" / "specdyn"
FLOORS = {"spectra": 1, "tasks": 1, "training": 2, "interventions": 3, "show": 3, "exercises": 4}
ROOMS = sorted(path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists())


def rooms_imported(file: Path, package: str = "specdyn") -> set[str]:
    """Rooms of ``package`` that a file imports; the package itself counts as the room ''."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide which floor they reach"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] == package]
    found = {part[1] for part in parts if len(part) > 1 and part[1] in FLOORS}
    whole = "specdyn" in names and not any(name.startswith(f"{package}.") for name in names)
    return found | ({""} if whole else set())


def test_every_room_has_a_floor() -> None:
    assert set(ROOMS) <= set(FLOORS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_itself_and_floors_below(room: str) -> None:
    for file in (LIBRARY / room).rglob("*.py"):
        for other in rooms_imported(file) - {room}:
            assert other, f"{file} imports all of specdyn, and with it the floors above"
            assert FLOORS[other] < FLOORS[room], f"{file} imports {other}, which is not below {room}"


def test_the_tools_know_nothing_of_the_library() -> None:
    for file in (ROOT / "tools").rglob("*.py"):
        assert not rooms_imported(file), f"{file} imports specdyn: it should read executed notebooks"


@pytest.mark.parametrize(
    ("line", "rooms"),
    [
        ("from specdyn.show.figure import Figure", {"show"}),
        ("from specdyn import spectra, training", {"spectra", "training"}),
        ("import specdyn.tasks as t", {"tasks"}),
        ("import specdyn as sd", {""}),
        ("import numpy", set()),
    ],
)
def test_imports_are_seen_in_every_form(tmp_path: Path, line: str, rooms: set[str]) -> None:
    file = tmp_path / "module.py"
    file.write_text(line)
    assert rooms_imported(file) == rooms
