"""Pictures and pages of figures in a real browser: drawn without a network, and nothing stays behind."""

import json
import shutil
import struct
from xml.etree import ElementTree

import pytest

from headwise.figures.images import SCALE, image
from tests.figures.test_figures import HOSTILE, heads, sinks
from tests.figures.test_files import replied

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no system Chromium to draw with"),
]


@pytest.fixture
def kaleido(monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(BROWSER))
    return pytest.importorskip("kaleido", reason="kaleido draws pictures")


def children():
    psutil = pytest.importorskip("psutil", reason="psutil lists processes")
    return [process for process in psutil.Process().children(recursive=True) if process.is_running()]


def test_a_png_has_the_size_of_the_figure_and_no_browser_stays(kaleido, tmp_path):
    result = heads(2)
    before = len(children())
    content = result.save(tmp_path / "x.png").read_bytes()
    layout = result.plot().layout
    assert content[:4] == b"\x89PNG"
    assert struct.unpack(">II", content[16:24]) == (SCALE * layout.width, SCALE * layout.height)
    assert len(children()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_an_svg_holds_hostile_text_as_text(kaleido, tmp_path):
    drawn = sinks(HOSTILE).save(tmp_path / "x.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    root = ElementTree.fromstring(drawn)
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    texts = {"".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")}
    assert {
        "<b>bold</b>, position 1",
        "$\\alpha$, position 2",
        "%{x}, position 6",
        "a<br>b, position 7",
    } <= texts


def test_titles_labels_and_panels_do_not_overlap(kaleido, playwright_page, tmp_path):
    """The boxes of all texts, measured by the browser that draws them."""
    for name, result in {"maps": heads(5, layers=12, heads=32), "bars": sinks(HOSTILE)}.items():
        path = result.save(tmp_path / f"{name}.html")
        page, _ = playwright_page(path)
        found = page.evaluate(
            """() => [...document.querySelectorAll(".main-svg text")]
                .filter(text => text.textContent.trim())
                .map(text => { const box = text.getBoundingClientRect();
                    return [text.textContent, box.left, box.top, box.right, box.bottom]; })"""
        )
        sheet = page.locator(".main-svg").first.bounding_box()
        assert len(found) > 10
        for place, (text, left, top, right, bottom) in enumerate(found):
            assert left >= sheet["x"] - 1, text
            assert right <= sheet["x"] + sheet["width"] + 1, text
            assert top >= sheet["y"] - 1, text
            assert bottom <= sheet["y"] + sheet["height"] + 1, text
            for other, *box in found[place + 1 :]:
                apart = right <= box[0] + 2 or box[2] <= left + 2 or bottom <= box[1] + 3 or box[3] <= top + 3
                assert apart, (text, other)


@pytest.mark.parametrize("found", [heads(3), sinks(HOSTILE), replied(HOSTILE)], ids=["maps", "bars", "dots"])
def test_a_page_draws_offline_without_complaints(found, playwright_page, tmp_path):
    page, complaints = playwright_page(found.save(tmp_path / "x.html"))
    assert page.locator("#figure .main-svg").count() > 0
    assert complaints == []
    page, complaints = playwright_page(tmp_path / "x.html", java_script_enabled=False)
    assert page.locator("table").first.is_visible()
    assert complaints == []


@pytest.fixture
def playwright_page():
    """Open a file without a network; gives the page and everything it complained about."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=options)

        def visit(path, **wishes):
            page = browser.new_context(
                offline=True, viewport={"width": 1024, "height": 900}, **wishes
            ).new_page()
            complaints = []
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
            page.on(
                "request", lambda request: request.url.startswith("file:") or complaints.append(request.url)
            )
            page.goto(path.as_uri())
            return page, complaints

        yield visit
        browser.close()


def test_the_browser_of_a_picture_asks_nothing_that_is_answered(kaleido):
    """What the drawing page loads: the script of plotly and kaleido's own, no MathJax, nothing remote."""
    seen = []

    class Spy(kaleido.PageGenerator):
        def __init__(self, **options):
            super().__init__(**options)
            seen.append(self.generate_index())

    original, kaleido.PageGenerator = kaleido.PageGenerator, Spy
    try:
        assert image(heads().plot(), "svg").startswith(b"<svg")
    finally:
        kaleido.PageGenerator = original
    (index,) = seen
    assert "http" not in index
    assert index.count("<script") == 2
    assert "plotly.min.js" in json.dumps(index)
