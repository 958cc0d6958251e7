"""The probe of a GPU, tried out on the CPU: it has to work the first time it meets a device."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import probe_gpu

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_gpu, "CASES", [(2, 40, 60), (1, 30, 30), (1, 4000, 4000)])
    monkeypatch.setattr(probe_gpu, "SIDES", [4, 16, 4000])


def test_the_table_holds_every_way_and_its_error(tmp_path: Path) -> None:
    table = probe_gpu.run(CPU, 64, 0.0, tmp_path / "probe.json")
    assert json.loads((tmp_path / "probe.json").read_text()) == table
    assert table["provenance"]["device"] == "cpu"
    rows = table["decompositions"]
    assert len({row["method"] for row in rows}) == 8
    assert len(rows) == 2 * 2 * 8
    for row in rows:
        single = row["dtype"] == "float32" and "gram64" not in row["method"]
        bound = 0.1 if "warm" in row["method"] else 1e-2 if single else 1e-7
        assert row["error"] < bound, row
        assert row["ms"] > 0
        assert ("times one matrix" in row) == (row["batch"] == 2)
    assert [(row["side"], row["batch"]) for row in table["gram matrices"]] == [(4, 1), (4, 8), (16, 1), (16, 8)]


def test_a_way_that_is_refused_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("no such driver\nand a long trace")

    known = probe_gpu.methods
    monkeypatch.setattr(probe_gpu, "methods", lambda W: {"new": refuse, **known(W)})
    rows = probe_gpu.run(CPU, 30, 0.0, None)["decompositions"]
    assert rows[0]["failed"] == "no such driver"
    assert "ms" not in rows[0]
    assert all("failed" not in row for row in rows[1:9])


@pytest.mark.parametrize(
    ("device", "cpu", "side"),
    [([9, 9, 9], [1, 1, 1], 4), ([1, 1, 1], [9, 9, 9], 0), ([9, 9, 1], [1, 1, 9], 3), ([9, 1, 9], [1, 9, 1], 2)],
)
def test_the_cpu_wins_up_to_where_it_first_loses(device: list[float], cpu: list[float], side: int) -> None:
    rows = [{"side": s, "device ms": a, "cpu ms": b} for s, a, b in zip((2, 3, 4), device, cpu, strict=True)]
    assert probe_gpu.last_won_by_cpu(rows) == side


def test_without_a_device_it_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["probe_gpu.py", "--save", str(tmp_path / "probe.json")])
    probe_gpu.main()
    assert "nothing to probe" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_device_is_probed_with_every_driver() -> None:
    rows = probe_gpu.run(torch.device("cuda"), 64, 0.0, None)["decompositions"]
    assert {f"svd {driver}" for driver in probe_gpu.DRIVERS} < {row["method"] for row in rows}
    assert any("ms" in row for row in rows if row["method"] == "gram64 eigh in cpu threads")
