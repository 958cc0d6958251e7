"""What a finished site has to keep: words for every image, links that lead somewhere, nothing from other hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
    "input": ("src",),
}
"""What a browser fetches by itself; links that a reader clicks are not among it."""

LOADING_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest"}
FOREIGN = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
IN_CSS = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
IN_SCRIPT = re.compile(
    r"""(?:fetch|import|importScripts|\.open|WebSocket|EventSource|Worker|sendBeacon)\s*\([^)]*?["'`]((?:https?:|wss?:)?//[^"'`]+)""",
    re.IGNORECASE,
)


def problems(site: Path) -> list[str]:
    """Return what is wrong with a site, each with the page and the thing; empty where all is well."""
    found = [f"{sheet.relative_to(site)}: loads {url}" for sheet in site.rglob("*.css") for url in _in_css(sheet)]
    for page in sorted(site.rglob("*.html")):
        if "_static" in page.relative_to(site).parts:
            continue
        soup = _parsed(page)
        name = page.relative_to(site).as_posix()
        for words in (*_without_words(soup), *_dead_links(soup, page, site), *_foreign(soup)):
            found.append(f"{name}: {words}")
    return found


def _without_words(soup: BeautifulSoup) -> Iterator[str]:
    for image in soup.find_all("img"):
        alt, source = _attribute(image, "alt").strip(), _attribute(image, "src")
        if not alt or alt in (source, Path(source).name, Path(source).stem):
            yield f"an image has no alternative text: {source[:80]}"
    for drawing in soup.find_all("svg"):
        hidden = drawing.find_parent(attrs={"aria-hidden": "true"}) or _attribute(drawing, "aria-hidden") == "true"
        if not hidden and not (_attribute(drawing, "role") == "img" and _attribute(drawing, "aria-label").strip()):
            yield f'an svg needs role="img" and an aria-label: {str(drawing)[:80]}'


def _dead_links(soup: BeautifulSoup, page: Path, site: Path) -> Iterator[str]:
    for link in soup.find_all("a", href=True):
        target = _attribute(link, "href")
        address = urlsplit(target)
        if address.scheme or address.netloc or target in ("#", ""):
            continue
        file = (page.parent / unquote(address.path)).resolve() if address.path else page
        file = file / "index.html" if file.is_dir() else file
        if not file.is_relative_to(site.resolve()) and file != page:
            yield f"a link leaves the site: {target}"
        elif not file.exists():
            yield f"a dead link: {target}"
        elif address.fragment and file.suffix == ".html" and unquote(address.fragment) not in _anchors(file):
            yield f"a dead anchor: {target}"


def _foreign(soup: BeautifulSoup) -> Iterator[str]:
    for tag, attributes in LOADED.items():
        for element in soup.find_all(tag):
            for name in attributes:
                if FOREIGN.match(_attribute(element, name)):
                    yield f"<{tag}> loads {_attribute(element, name)}"
    for link in soup.find_all("link", href=True):
        kinds = {kind.lower() for kind in link.get_attribute_list("rel") if kind}
        if kinds & LOADING_LINKS and FOREIGN.match(_attribute(link, "href")):
            yield f"<link> loads {_attribute(link, 'href')}"
    styles = [element.get_text() for element in soup.find_all("style")]
    styles += [_attribute(element, "style") for element in soup.find_all(style=True)]
    for style in styles:
        yield from (f"a style loads {url}" for url in IN_CSS.findall(style))
    for script in soup.find_all("script"):
        yield from (f"a script loads {url}" for url in IN_SCRIPT.findall(script.get_text()))


def _in_css(sheet: Path) -> list[str]:
    found: list[str] = IN_CSS.findall(sheet.read_text(errors="replace"))
    return found


@cache
def _parsed(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(), "html.parser")


@cache
def _anchors(page: Path) -> frozenset[str]:
    soup = _parsed(page)
    names = [_attribute(element, "id") for element in soup.find_all(id=True)]
    return frozenset([*names, *(_attribute(element, "name") for element in soup.find_all("a", attrs={"name": True}))])


def _attribute(element: Tag, name: str) -> str:
    value = element.get(name, "")
    return value if isinstance(value, str) else " ".join(value or ())
