"""The three dependency files say the same thing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text().splitlines()
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def locked() -> dict[str, Version]:
    requirements = [Requirement(line) for line in LOCK]
    return {canonicalize_name(r.name): Version(str(r.specifier).removeprefix("==")) for r in requirements}


def declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *extras["book"], *extras["test"]]]


def test_every_locked_version_is_exact_public_and_needs_no_gpu() -> None:
    for line in LOCK:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!]+", line), f"{line!r} is no plain name==version"
        assert not re.match(r"nvidia|triton|cuda", line), f"{line!r} installs on GPU machines only"


def test_everything_declared_is_locked_within_its_range() -> None:
    versions = locked()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is in pyproject.toml, not in requirements.lock"
        assert requirement.specifier.contains(versions[name]), f"{name} {versions[name]} is outside {requirement}"


def test_the_versions_this_book_stands_on() -> None:
    assert "torch==2.13.0" in LOCK
    assert "jupyter-book==1.0.4.post1" in LOCK
    assert "torch>=2.11" in PROJECT["dependencies"]


def test_conda_installs_the_lock_on_the_same_pythons() -> None:
    python = next(entry for entry in CONDA if isinstance(entry, str) and entry.startswith("python"))
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    pip = next(entry["pip"] for entry in CONDA if isinstance(entry, dict))
    assert "-r requirements.lock" in pip
    assert "pip" in CONDA


def imported(folder: Path) -> set[str]:
    """Top-level modules that a folder's files import and that are neither Python's nor ours."""
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"specdyn", "tools"}


@pytest.mark.parametrize(("folder", "extras"), [("lib", []), ("book", []), ("tools", ["book"])])
def test_everything_imported_is_declared(folder: str, extras: list[str]) -> None:
    optional = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in optional[extra])]
    names = {canonicalize_name(Requirement(text).name) for text in texts}
    providers = packages_distributions()
    for module in imported(ROOT / folder):
        found = {canonicalize_name(name) for name in providers.get(module, [])}
        assert found & names, f"{folder}/ imports {module}, and no dependency in pyproject.toml brings it"
