"""The check of finished pages, on pages written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check import problems


def checked(site: Path, body: str) -> list[str]:
    (site / "page.html").write_text(f"<html><body>{body}</body></html>")
    (site / "other.html").write_text("<html><body><h1 id='top'>Other</h1></body></html>")
    return problems(site)


@pytest.mark.parametrize(
    "body",
    [
        "<a href='https://example.org'>a reader may click</a>",
        "<a href='other.html#top'>inside</a> <a href='#here' id='here'>here</a> <a href='#'>up</a>",
        "<a href='mailto:a@example.org'>write</a>",
        "<img src='a.png' alt='effective rank falls'>",
        "<svg role='img' aria-label='a curve'></svg> <span aria-hidden='true'><svg></svg></span>",
        "<link rel='canonical' href='https://example.org/page'>",
        "<script>const xmlns = 'http://www.w3.org/2000/svg'; fetch('data.json')</script>",
        "<div style='background: url(dot.png)'></div>",
    ],
)
def test_what_is_fine(tmp_path: Path, body: str) -> None:
    assert checked(tmp_path, body) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<img src='a.png'>", "no alternative text: a.png"),
        ("<img src='deep/a.png' alt='a'>", "no alternative text"),
        ("<img src='a.png' alt='  '>", "no alternative text"),
        ("<svg role='img'></svg>", "aria-label"),
        ("<svg aria-label='a curve'></svg>", "role"),
        ("<a href='gone.html'>x</a>", "a dead link: gone.html"),
        ("<a href='other.html#gone'>x</a>", "a dead anchor: other.html#gone"),
        ("<a href='../../etc/hosts'>x</a>", "a link leaves the site"),
        ("<script src='https://cdn.example/x.js'></script>", "<script> loads https://cdn.example/x.js"),
        ("<script src='//cdn.example/x.js'></script>", "<script> loads //cdn.example/x.js"),
        ("<link rel='stylesheet' href='https://cdn.example/x.css'>", "<link> loads"),
        ("<link rel='preload' href='https://cdn.example/x.woff'>", "<link> loads"),
        ("<img srcset='https://cdn.example/x.png 2x' src='x.png' alt='a curve'>", "<img> loads"),
        ("<iframe src='https://cdn.example'></iframe>", "<iframe> loads"),
        ("<video poster='https://cdn.example/x.png'></video>", "<video> loads"),
        ("<style>@import 'https://cdn.example/x.css';</style>", "a style loads https://cdn.example/x.css"),
        ("<p style='background: url(\"https://cdn.example/x.png\")'></p>", "a style loads"),
        ("<script>fetch('https://cdn.example/data.json')</script>", "a script loads https://cdn.example/data.json"),
        ("<script>import('https://cdn.example/x.js')</script>", "a script loads"),
        ("<script>new WebSocket('wss://cdn.example')</script>", "a script loads"),
    ],
)
def test_what_is_wrong(tmp_path: Path, body: str, words: str) -> None:
    (found,) = checked(tmp_path, body)
    assert found.startswith("page.html: ")
    assert words in found


def test_a_style_sheet_that_loads_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "book.css").write_text("p { background: url( 'https://cdn.example/x.png' ) }")
    assert checked(tmp_path, "") == ["book.css: loads https://cdn.example/x.png"]
