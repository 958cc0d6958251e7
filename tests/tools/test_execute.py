"""How a chapter is watched while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jupytext

from tools.execute import Watch, resident_memory

ROOT = Path(__file__).parents[2]
CHAPTER = """
# %% [markdown]
# # Title

# %%
1

# %% [markdown]
# ## The phenomenon

# %%
2
"""


def test_memory_of_children_is_counted() -> None:
    script = "x = bytearray(80_000_000); x[::4096] = bytes([1]) * len(x[::4096]); print('ready'); input()"
    before = resident_memory()
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        held = resident_memory() - before
        child.communicate("\n")
    assert 80e6 < held < 160e6


def test_progress_shows_the_section_and_the_last_line_noted(tmp_path: Path) -> None:
    notes = tmp_path / "progress"
    watch = Watch("small", notes).start(jupytext.reads(CHAPTER, fmt="py:percent"))
    assert watch.now(1) == "Title"
    notes.write_text("run 1 of 4: 10%\rrun 1 of 4: 20%\r\n")
    assert watch.now(3) == "The phenomenon: run 1 of 4: 20%"


def test_a_log_is_not_flooded(built: Path) -> None:
    command = [sys.executable, "-m", "tools", "book", "--tier", "smoke", "--chapter", "other", "--force"]
    done = subprocess.run(
        command, cwd=built, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert "4/4 cells" in done.stderr
    assert len(done.stderr) < 500
    assert "site:" in done.stdout
