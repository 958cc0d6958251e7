"""The slider: right without scripts, and right in a real browser, with the keyboard alone."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from torch import nn

import specdyn as sd

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def recording() -> sd.Recording:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    recorder = sd.Recorder(model, steps=range(0, 500, 10))
    for step in range(0, 500, 10):
        recorder(step, train_error=1 - step / 500)
        with torch.no_grad():
            model[0].weight[2:].mul_(0.9)
    return recorder.finish({"seed": 3})


@pytest.fixture(scope="module")
def page(recording: sd.Recording) -> str:
    scrubber = sd.show.Scrubber(recording, {"training <error>": "train_error"}, name="slider", caption="A & B.")
    return scrubber._repr_mimebundle_()["text/html"]


def test_the_page_holds_the_recording_and_its_words(page: str, recording: sd.Recording) -> None:
    soup = BeautifulSoup(page, "html.parser")
    data = json.loads(soup.find("script", type="application/json").string)
    assert data["steps"] == recording.steps.tolist()
    np.testing.assert_allclose(data["spectra"]["1.weight"], recording.singular_values["1.weight"], rtol=5e-3)
    np.testing.assert_allclose(data["lines"]["mean effective rank"], recording.effective_rank(), rtol=5e-3)
    drawings = soup.find_all("svg")
    assert all(svg["role"] == "img" for svg in drawings)
    assert f"mean effective rank {recording.effective_rank()[0]:.2f}" in drawings[0]["aria-label"]
    assert soup.find("figcaption").text == "A & B."


def test_without_scripts_the_curves_are_there_and_the_controls_are_not(page: str) -> None:
    soup = BeautifulSoup(page, "html.parser")
    curves = [line["points"].split() for line in soup.find_all("polyline")]
    assert [len(points) for points in curves] == [50, 50]
    first, last = (tuple(map(float, curves[0][i].split(","))) for i in (0, -1))
    assert first == (40.0, 20.0)  # error 1 is at the top left
    assert last == (340.0, pytest.approx(190 - 170 * 0.02, abs=0.1))
    assert soup.select_one(".scrubber-controls").has_attr("hidden")


def test_nothing_is_asked_of_another_host(page: str) -> None:
    assert not re.search(r"(?:https?:)?//\w", page.replace("// who asked", ""))


def test_many_steps_are_thinned_and_the_ends_stay(recording: sd.Recording) -> None:
    scrubber = sd.show.Scrubber(recording, {}, name="slider", caption="c", frames=7)
    data = scrubber._data()
    assert len(data["steps"]) == 7
    assert (data["steps"][0], data["steps"][-1]) == (0, 490)


def test_a_metric_that_was_not_recorded_is_named(recording: sd.Recording) -> None:
    with pytest.raises(KeyError, match="speed"):
        sd.show.Scrubber(recording, {"speed": "speed"}, name="slider", caption="c")._repr_mimebundle_()


def test_a_metric_missing_at_a_step_is_null(recording: sd.Recording) -> None:
    gap = np.where(recording.steps == 0, np.nan, recording.metrics["train_error"])
    gappy = replace(recording, metrics={"train_error": gap})
    scrubber = sd.show.Scrubber(gappy, {"error": "train_error"}, name="slider", caption="c")
    soup = BeautifulSoup(scrubber._repr_mimebundle_()["text/html"], "html.parser")
    assert json.loads(soup.find("script", type="application/json").string)["lines"]["error"][0] is None
    assert "nan" not in soup.find("polyline")["points"]


@pytest.fixture
def browser(page: str, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    if not (BROWSER and DRIVER):
        pytest.skip("needs chromium and chromedriver")
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><html data-theme='dark'><meta charset='utf-8'><body>{page}</body></html>")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    for flag in ["--headless", "--no-sandbox", *quiet, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.get(file.as_uri())
    yield driver
    driver.quit()


def test_the_keyboard_moves_the_slider_and_the_words_follow(browser: webdriver.Chrome, recording: sd.Recording) -> None:
    slider = browser.find_element(By.CSS_SELECTOR, "input[type=range]")
    words = browser.find_element(By.CSS_SELECTOR, "output")
    assert words.text.startswith("step 490:")
    slider.send_keys(Keys.HOME)
    assert words.text.startswith("step 0: training <error> 1.00")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert words.text == slider.get_attribute("aria-valuetext")
    rank = recording.effective_rank()[2]
    assert words.text.startswith("step 20:")
    assert words.text.endswith(f"mean effective rank {float(f'{rank:.3g}'):.2f}")
    assert browser.get_log("browser") == []


def test_bars_are_the_singular_values_of_the_chosen_matrix(browser: webdriver.Chrome, recording: sd.Recording) -> None:
    browser.find_element(By.CSS_SELECTOR, "select").send_keys("1.weight")
    heights = re.findall(r"190V([\d.]+)", browser.find_element(By.CSS_SELECTOR, ".bars").get_attribute("d"))
    values = recording.singular_values["1.weight"]
    expected = 190 - 170 * values[-1] / values.max()
    np.testing.assert_allclose([float(height) for height in heights], expected, atol=1.5)


def test_play_runs_to_the_end_and_can_be_stopped(browser: webdriver.Chrome) -> None:
    button = browser.find_element(By.CSS_SELECTOR, "button")
    slider = browser.find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.HOME)
    button.send_keys(Keys.ENTER)
    assert button.text == "Stop"
    WebDriverWait(browser, 10).until(lambda _: int(slider.get_property("value")) > 2)
    button.send_keys(Keys.ENTER)
    assert button.text == "Play"
    assert int(slider.get_property("value")) < 49
