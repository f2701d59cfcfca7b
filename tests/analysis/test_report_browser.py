"""The page in a real browser: it draws, filters, sorts, turns dark, fits a phone, asks nobody."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_runs import HOSTILE, write_runs

from analysis.report.advice.advise import advise
from analysis.report.build import title_of
from analysis.report.content import page_content
from analysis.report.gather import gather
from analysis.report.page import render
from common.config.report import ReportConfig

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = pytest.mark.slow
Browser = webdriver.Chrome
FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "no-first-run", "disable-dev-shm-usage"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driven = webdriver.Chrome(options=options, service=Service(driver))
    yield driven
    driven.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("browsed")
    write_runs(folder / "runs")
    found = gather(ReportConfig(runs=str(folder / "runs")))
    content = page_content(found, advise(found.frame))
    (folder / "report.html").write_text(render(title_of(found), content), encoding="utf-8")
    return (folder / "report.html").as_uri()


def size(browser: Browser, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture
def page(browser: Browser, address: str) -> Browser:
    """The page, freshly loaded and drawn, as wide as a desk."""
    size(browser, 1280, 900)
    browser.get(address)
    drawn(browser, 1)
    return browser


def drawn(browser: Browser, turn: int) -> None:
    WebDriverWait(browser, 10, 0.02).until(
        lambda page: int(ask(page, "document.body.dataset.drawn") or 0) >= turn
    )


def ask(browser: Browser, expression: str) -> Any:
    return browser.execute_script(f"return {expression}")


def count(browser: Browser, selector: str) -> int:
    return ask(browser, f"document.querySelectorAll({json.dumps(selector)}).length")


def texts(browser: Browser, selector: str) -> list[str]:
    return ask(
        browser, f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)"
    )


def click(browser: Browser, selector: str) -> None:
    """A click, and everything that it draws."""
    turn = int(ask(browser, "document.body.dataset.drawn"))
    browser.execute_script(f"document.querySelector({json.dumps(selector)}).click()")
    drawn(browser, turn + 1)


def choose(browser: Browser, dimension: str, value: str) -> None:
    """A click on the filter of a value."""
    turn = int(ask(browser, "document.body.dataset.drawn"))
    boxes = f"[...document.querySelectorAll('input[name={dimension}]')]"
    browser.execute_script(f"{boxes}.find(e => e.value === arguments[0]).click()", value)
    drawn(browser, turn + 1)


def test_it_draws_everything_without_an_error_or_a_request(page: Browser, address: str) -> None:
    assert page.get_log("browser") == []
    panels = texts(page, "#curves h3")
    assert panels == ["cca_phone", "cca_word"]
    assert texts(page, "#curves .topic") == ["Phones", "Words"]
    assert count(page, "#curves svg .mark-line path") == 4  # three curves, and random weights
    assert count(page, "#curves svg .mark-area path") >= 4
    assert count(page, "#errors .card") == 1
    assert count(page, "#matrices .mark-rect path") >= 16
    assert count(page, "#heat .card") == 1
    assert count(page, "#advice .card") > 0
    assert "cannot be read" not in "".join(texts(page, "#runs"))
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [
        e["params"]["request"]["url"]
        for e in events
        if e["method"] == "Network.requestWillBeSent" and e["params"]["documentURL"] == address
    ]
    assert [url for url in asked if not url.startswith("data:")] == [address]


def test_a_hostile_name_is_text(page: Browser) -> None:
    assert "hacked" not in page.title
    assert count(page, "img") == 0
    assert HOSTILE in texts(page, "#filter-model .choice span")


def test_advice_folds_its_figures_away_and_has_one_place_for_caveats(page: Browser) -> None:
    cards = count(page, "#advice article")
    assert count(page, "#advice article .headline") == cards
    assert count(page, "#advice article .claim") == cards
    assert count(page, "#advice details[open]") == 0
    assert count(page, "#advice article details table") > 0
    assert count(page, "#advice .spark polyline") > 0
    assert "T2 0.504" in ask(page, "document.querySelector('#advice .spark').ariaLabel")
    assert count(page, "#advice .caveats") == 1
    caveats = texts(page, "#advice .caveats li")
    assert len(set(caveats)) == len(caveats)
    assert any("cca_phone" in text and "cca_word" in text for text in caveats)  # said once
    page.execute_script("document.querySelectorAll('#advice details').forEach(e => e.open = true)")
    assert ask(page, "document.documentElement.scrollWidth") <= 1280


def test_filters_act_on_curves_table_advice_and_runs(page: Browser) -> None:
    rows, marks = count(page, "#table tbody tr"), count(page, "#curves .mark-symbol path")
    runs = count(page, "#runs details.run")
    choose(page, "model", "small")
    assert count(page, "#table tbody tr") < rows
    assert count(page, "#curves .mark-symbol path") < marks
    assert count(page, "#runs details.run") < runs
    assert "small" not in texts(page, "#table tbody td:first-child")
    assert "small" not in "".join(texts(page, "#advice .models button"))
    choose(page, "model", "small")
    assert count(page, "#table tbody tr") == rows
    choose(page, "experiment", "cca_phone")
    assert texts(page, "#curves h3") == ["cca_word"]
    choose(page, "metric", "cer")  # no experiment's own figure: off at first
    assert count(page, "#errors .card") == 2
    click(page, "#filter-model button:last-child")
    assert count(page, "main svg.marks") == 0
    assert "No curve is left" in "".join(texts(page, "#curves"))


def test_depth_bands_and_controls_switch(page: Browser) -> None:
    areas = count(page, "#curves .mark-area path")
    click(page, "#bands")
    assert count(page, "#curves .mark-area path") < areas
    lines = count(page, "#curves .mark-line path")
    click(page, "#controls")
    assert count(page, "#curves .mark-line path") < lines
    click(page, "#relative")
    assert "T2" not in texts(page, "#curves svg text")
    assert "1.0" in texts(page, "#curves svg text")


def test_a_heading_sorts_and_sorts_back(page: Browser) -> None:
    header = '#table th[data-key="mean"]'
    column = texts(page, "#table thead th").index("value") + 1
    for direction, reverse in (("descending", True), ("ascending", False)):
        page.execute_script(f"document.querySelector('{header} button').click()")
        assert ask(page, f"document.querySelector('{header}').ariaSort") == direction
        values = [float(v) for v in texts(page, f"#table tbody td:nth-child({column})")]
        assert values == sorted(values, reverse=reverse)
        assert len(set(values)) > 2


def test_it_turns_dark(page: Browser) -> None:
    light = ask(page, "getComputedStyle(document.body).backgroundColor")
    click(page, "#theme")
    assert ask(page, "getComputedStyle(document.body).backgroundColor") != light
    assert ask(page, "document.documentElement.dataset.theme") == "dark"
    assert texts(page, "#theme") == ["Light"]


@pytest.mark.slow
def test_values_are_under_the_pointer(page: Browser) -> None:
    page.execute_script("document.querySelector('#curves').scrollIntoView()")
    mark = page.find_element("css selector", "#curves .mark-symbol.role-mark path[aria-label*=T2]")
    webdriver.ActionChains(page).move_to_element(mark).perform()
    tooltip = "#vg-tooltip-element.visible"
    WebDriverWait(page, 5, 0.02).until(lambda shown: count(shown, tooltip))
    assert "0.504" in "".join(texts(page, tooltip))


@pytest.mark.slow
def test_on_a_phone_nothing_is_wider_than_the_screen(
    page: Browser, address: str, tmp_path: Path
) -> None:
    size(page, 390, 844)
    page.get(address)
    drawn(page, 1)
    assert ask(page, "document.documentElement.scrollWidth") == 390
    assert ask(page, "document.getElementById('filters').open") is False
    tops = ask(page, "[...document.querySelectorAll('#curves .card')].map(e => e.offsetLeft)")
    assert len(set(tops)) == 1  # one column
    path = tmp_path / "phone.png"
    assert page.save_screenshot(str(path))
    colours = Image.open(path).convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 20
