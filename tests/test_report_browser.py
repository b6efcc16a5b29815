"""The report in a real browser: it draws offline, in the dark, on a phone, and hostile text does nothing."""

from __future__ import annotations

import shutil

import pytest

import headwise as hw
from tests.helpers_report import HOSTILE, sink_trace

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no system Chromium to open the page in"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=options)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open the report of a trace with hostile tokens; gives the page and everything it complained about."""
    tokens = [*HOSTILE, "x" * 10_000, *(f"w{i}" for i in range(7))]
    path = hw.report(sink_trace(tokens), tmp_path / "report.html", title=HOSTILE[0])

    def open_page(**options):
        page = browser.new_context(offline=True, **options).new_page()
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
        page.goto(path.as_uri())
        return page, complaints

    return open_page


@pytest.mark.parametrize("width", [400, 1024, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_draws_offline_and_fits(visit, width, scheme):
    page, complaints = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.wait_for_selector(".js-plotly-plot .heatmaplayer image, .js-plotly-plot .hm")
    assert page.locator(".map.js-plotly-plot").count() == page.locator(".map").count() > 0
    assert page.locator("#undrawn").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []


def test_hovering_a_cell_says_layer_head_and_value(visit):
    page, _ = visit(viewport={"width": 1024, "height": 900})
    page.locator("#map-0-0 .nsewdrag").hover()
    said = page.locator("#map-0-0 .hovertext")
    said.wait_for()
    assert "layer 1, head" in said.text_content()


def test_without_scripts_verdict_and_tables_are_there(visit):
    page, complaints = visit(java_script_enabled=False, viewport={"width": 1024, "height": 900})
    assert page.locator("#verdict .sentence").first.is_visible()
    assert page.locator("#layers table").is_visible()
    assert page.locator("#undrawn").is_visible()
    assert complaints == []
