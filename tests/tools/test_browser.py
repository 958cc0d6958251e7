"""The small book's site, and the reference pages, in a real browser: light, dark, narrow, and alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with its driver on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def visit(browser: webdriver.Chrome, built: Path, page: str, *, width: int = 1200, theme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get((built / "_build" / "html" / f"{page}.html").as_uri())
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of two sRGB colours as WCAG 2 defines it."""

    def luminance(colour: list[float]) -> float:
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (c / 255 for c in colour[:3])]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", ["index", "part/small", "claims", "status"])
def test_a_page_asks_no_other_host_for_anything(browser: webdriver.Chrome, built: Path, page: str) -> None:
    browser.get_log("performance")
    visit(browser, built, page)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert any(url.endswith(f"{page}.html") for url in asked)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("page", ["index", "part/small", "claims", "status"])
def test_a_page_fits_a_phone(browser: webdriver.Chrome, built: Path, page: str) -> None:
    visit(browser, built, page, width=375)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("page", ["index", "spectra", "training", "tasks", "interventions", "show"])
def test_a_reference_page_fits_a_phone(browser: webdriver.Chrome, reference: Path, page: str) -> None:
    visit(browser, reference, f"api/{page}", width=375)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_signatures_and_examples_can_be_read(browser: webdriver.Chrome, reference: Path, theme: str) -> None:
    visit(browser, reference, "api/spectra", theme=theme)
    for place in (".sig-name", ".sig-param", ".doctest .highlight"):
        colours = browser.execute_script(
            """const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
            let behind = document.querySelector(arguments[0]);
            const ink = rgb(getComputedStyle(behind).color);
            while ((rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
            return [ink, rgb(getComputedStyle(behind).backgroundColor)];""",
            f".bd-article dl.py {place}",
        )
        assert contrast(*colours) >= 4.5, f"{place} is hard to read in the {theme} theme: {colours}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_theme_shows_its_own_twin_as_it_was_drawn(browser: webdriver.Chrome, built: Path, theme: str) -> None:
    visit(browser, built, "part/small", theme=theme)
    (shown,) = [image for image in browser.find_elements(By.CSS_SELECTOR, ".twins img") if image.is_displayed()]
    assert f".{theme}.svg" in str(shown.get_attribute("src"))
    assert shown.value_of_css_property("filter") == "none"
    assert shown.value_of_css_property("background-color") == "rgba(0, 0, 0, 0)"
    assert browser.find_element(By.CSS_SELECTOR, ".twin-figure figcaption").is_displayed()


def test_there_is_one_search_box(browser: webdriver.Chrome, built: Path) -> None:
    visit(browser, built, "index")
    boxes = browser.find_elements(By.CSS_SELECTOR, ".search-button-field")
    assert sum(box.is_displayed() for box in boxes) == 1
