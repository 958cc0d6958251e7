"""Execute a chapter: source to notebook with outputs, watched while it runs."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import papermill
import psutil
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm
from traitlets.config import Config

from tools import provenance
from tools.book import BuildError, Chapter, Settings
from tools.notebook import Notebook, has_tag, headings, place, read_source

WEIGHING = 0.01
"""Looking at the memory halts what is looked at, for some 30 ms: it may take this share of the time."""


class Watch:
    """Looks at a running notebook: shows how far it is and notes the most memory it held."""

    def __init__(self, name: str, notes: Path) -> None:
        self.name, self.notes = name, notes
        self.peak_memory = 0
        self._done = threading.Event()

    def start(self, notebook: Notebook) -> Self:
        """Name the notebook to look at; use as a context manager around its execution."""
        self._notebook, self._headings = notebook, headings(notebook)
        return self

    def __enter__(self) -> Self:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=len(self._notebook.cells),
            desc=self.name,
            unit="cell",
            dynamic_ncols=True,
            mininterval=0.2 if terminal else 20,  # a log is not flooded
            bar_format="{desc} |{bar:20}| {n_fmt}/{total_fmt} cells [{elapsed}]{postfix}",
        )
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._done.set()
        self._thread.join()
        self._bar.set_postfix_str("")
        self._bar.update(len(self._notebook.cells) - self._bar.n if reason[0] is None else 0)
        self._bar.close()

    def _look(self) -> None:
        started, weigh_again = time.monotonic(), 0.0
        while not self._done.wait(0.25):
            if (began := time.monotonic()) >= weigh_again:
                self.peak_memory = max(self.peak_memory, resident_memory())
                taken = time.monotonic() - began
                # often at first: a short notebook is over before its share of the time has come round
                weigh_again = began + min(taken / WEIGHING, (began - started) / 2)
            finished = sum(cell.metadata.papermill.status == "completed" for cell in self._notebook.cells)
            self._bar.set_postfix_str(self.now(min(finished, len(self._headings) - 1)), refresh=False)
            self._bar.update(finished - self._bar.n)
            if sys.stderr.isatty():
                self._bar.refresh()

    def now(self, index: int) -> str:
        """Say where it is: the section, and the last line that a long sweep has noted."""
        with suppress(OSError):
            lines = self.notes.read_text(errors="replace").replace("\r", "\n").split("\n")
            noted = [line.strip() for line in lines if line.strip()]
            return ": ".join([self._headings[index], *noted[-1:]])
        return self._headings[index]


class WatchedEngine(NBClientEngine):
    """Papermill's own engine with somebody looking."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, watch: Watch, **options: Any) -> None:
        with watch.start(nb_man.nb):
            super().execute_managed_notebook(nb_man, kernel_name, **options)


papermill_engines.register("watched", WatchedEngine)


def execute(chapter: Chapter, settings: Settings) -> Notebook:
    """Return a chapter's notebook with outputs and provenance; raise ``BuildError`` naming the cell that fails."""
    made_from = provenance.inputs(chapter, settings)  # now: what is edited meanwhile is not what is executed
    source, machine = read_source(chapter), provenance.environment(settings.device)
    runs = Path(os.environ.get("SPECDYN_RUNS", chapter.root / "_build" / "runs"))
    runs_before, began = _entries(runs), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        watch, log = Watch(chapter.name, notes=Path(folder, "progress")), Path(folder, "downloads")
        os.environ |= {"SPECDYN_PROGRESS": str(watch.notes), "SPECDYN_DOWNLOADS": str(log)}
        try:
            notebook = papermill.execute_notebook(
                source,
                None,
                parameters=settings.parameters(),
                engine_name="watched",
                kernel_name="python3",
                cwd=str(chapter.root),
                config=Config({"KernelManager": {"transport": "ipc"}}),  # no port of this machine is opened
                watch=watch,
                progress_bar=False,
            )
        except PapermillExecutionError as error:
            raise BuildError(_failure(chapter, source, error)) from error
        except DeadKernelError as error:
            raise BuildError(f"{chapter.page}: the kernel died, perhaps for want of memory") from error
        finally:
            del os.environ["SPECDYN_PROGRESS"], os.environ["SPECDYN_DOWNLOADS"]
        downloads = datasets_read(log)
    measured = {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_memory": watch.peak_memory,
        "downloads": downloads,
        "new_runs": len(_entries(runs) - runs_before),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    provenance.stamp(notebook, made_from, machine, measured)
    return notebook


def datasets_read(log: Path) -> dict[str, int]:
    """Return the bytes to download of each dataset that was read, from a file of lines "name bytes"."""
    lines = log.read_text().splitlines() if log.exists() else []
    return {name: int(size) for name, size in map(str.split, lines)}


def resident_memory() -> int:
    """Return the bytes that the kernel and its workers hold; shared pages count once where the system tells."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.uss)
    return total


def _failure(chapter: Chapter, source: Notebook, error: PapermillExecutionError) -> str:
    injected = 1 + next(i for i, cell in enumerate(source.cells) if has_tag(cell, "parameters"))
    number = error.cell_index - (error.cell_index >= injected)
    return f"{place(chapter, source, number)} failed: {error.ename}: {error.evalue}"


def _entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
