"""Every test session trains in a folder of its own: what `make book` left behind is neither read nor touched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

RUNS = tempfile.TemporaryDirectory(prefix="specdyn-runs-")
os.environ["SPECDYN_RUNS"] = RUNS.name  # notebooks that nbval executes inherit it


@pytest.fixture(scope="session", autouse=True)
def runs_folder() -> Iterator[str]:
    yield RUNS.name
    RUNS.cleanup()
