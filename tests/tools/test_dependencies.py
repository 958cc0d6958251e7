"""The three dependency files say the same thing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

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
