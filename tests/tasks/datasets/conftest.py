"""A cache that is not the user's, a registry of small files, and a web server that can misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from specdyn.tasks.datasets import registry


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An empty cache of this test; real data are used by tests that ask for them."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda name: folder)
    if not request.node.get_closest_marker("skipif"):
        monkeypatch.delenv("SPECDYN_DATA", raising=False)
    return folder


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that SPECDYN_DATA names."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("SPECDYN_DATA", str(folder))
    return folder


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a registry in the place of the book's."""

    def register(text: str) -> None:
        rows = registry.parsed(text)
        monkeypatch.setattr(registry, "registry", lambda: rows)

    return register


@dataclass
class Server:
    """Serves ``files`` by path: (status, body, how many bytes it promises)."""

    address: str
    files: dict[str, tuple[int, bytes, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, path: str, body: bytes, *, status: int = 200, promised: int | None = None) -> str:
        self.files[path] = (status, body, len(body) if promised is None else promised)
        return self.address + path


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            status, body, promised = served.files.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        served = Server(f"http://127.0.0.1:{httpd.server_port}/")
        served.files = {}
        served.address = served.address.rstrip("/")
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield served
        httpd.shutdown()
