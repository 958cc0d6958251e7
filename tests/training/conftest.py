from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a folder of runs of its own."""
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"
