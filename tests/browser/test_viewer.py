"""The viewer in a real browser: a head chosen by mouse or keys shows its pattern, hostile text does nothing."""

from __future__ import annotations

import pytest

import headwise as hw
from tests.kit.browser import MARKS
from tests.kit.reports import HOSTILE, sink_trace
from tests.kit.viewer import in_browser

pytest.importorskip("anywidget", reason="the viewer is a widget of anywidget")
MAP, SHEET, PATTERN = (
    ".map canvas",
    ".columns > div:first-child > div:nth-child(2) canvas",
    ".columns > .head canvas",
)

pytestmark = MARKS


@pytest.fixture(scope="module")
def hostile():
    tokens = [*HOSTILE, "x" * 10_000, *(f"w{i}" for i in range(7))]
    return hw.view(sink_trace(tokens, meta={"model": HOSTILE[0]}))


@pytest.fixture(scope="module")
def seeing():
    """A model of the zoo that sees, and two of its pictures."""
    subject = hw.load("zoo:vlm")
    examples = [dict(one.inputs) for one in hw.zoo.samples("zoo:vlm", 2)]
    with hw.capture(subject, maps=True) as trace:
        for example in examples:
            subject.model(**subject.prepare(**example))
    return hw.view(trace, subject=subject, examples=examples)


def title(page):
    return page.locator(".columns > .head h2").text_content()


def picture(page, canvas):
    return page.locator(canvas).evaluate("(canvas) => canvas.toDataURL()")


def shares(page):
    script = "(tokens) => tokens.map((token) => token.style.getPropertyValue('--share'))"
    return page.locator(".tokens span[data-p]").evaluate_all(script)


def test_click_and_keys_choose_a_head(browser, hostile):
    with in_browser(browser, hostile, viewport={"width": 1000, "height": 900}) as (page, complaints):
        page.locator(PATTERN).wait_for()
        assert title(page) == "text · self, L2H0"  # the strongest key of all
        seen, shaded = picture(page, PATTERN), shares(page)
        page.locator(MAP).click(position={"x": 100, "y": 20})
        page.wait_for_function("document.querySelector('.head h2').textContent.endsWith('L0H1')")
        page.locator(PATTERN).wait_for()
        assert "L0H1: " in page.locator(".map .said").text_content()
        clicked = picture(page, PATTERN)
        assert clicked != seen
        assert shares(page) != shaded
        page.locator(SHEET).focus()
        for key in ("ArrowDown", "ArrowLeft", "Enter"):
            page.keyboard.press(key)
        page.wait_for_function("document.querySelector('.head h2').textContent.endsWith('L1H0')")
        assert picture(page, PATTERN) not in (seen, clicked)
        assert page.evaluate("document.activeElement.tagName") == "CANVAS"  # where the reader was
        assert page.evaluate("new Set(asked).size === asked.length")  # nothing is fetched twice
        assert complaints == []


def test_hostile_tokens_are_text(browser, hostile):
    with in_browser(browser, hostile, viewport={"width": 1000, "height": 900}) as (page, complaints):
        page.locator(".tokens").wait_for()
        words = page.locator(".tokens").text_content()
        assert HOSTILE[0] in words
        assert HOSTILE[1] in words
        assert "\\u202egnp.exe" in words
        page.locator(".facts table").first.wait_for()  # the kernel is asked for these
        assert HOSTILE[0] in page.locator(".facts").text_content()
        assert HOSTILE[0] in page.locator(".finding").text_content()
        assert page.locator(".headwise-viewer img[src=x], .headwise-viewer script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1000
        assert complaints == []


def test_a_row_of_the_pattern_shades_the_tokens(browser):
    trace = sink_trace(layers=1)
    with in_browser(browser, hw.view(trace), viewport={"width": 1000, "height": 900}) as (page, complaints):
        page.locator(PATTERN).wait_for()
        whole = shares(page)
        page.locator(PATTERN).focus()
        for key in (*["ArrowDown"] * 3, "Enter"):
            page.keyboard.press(key)
        page.wait_for_function("document.querySelector('.shading').textContent.includes('from row 3')")
        assert "from row 3, reading w3" in page.locator(".shading").text_content()
        head = int(title(page)[-1])
        row = trace.maps[trace.site(layer=0)][0, head, 3].sqrt()
        assert [float(share[:-1]) / 100 for share in shares(page)] == pytest.approx(row.tolist(), abs=0.003)
        page.keyboard.press("Enter")  # takes it back
        page.wait_for_function("!document.querySelector('.shading').textContent.includes('from row')")
        assert shares(page) == whole
        assert complaints == []


def test_pictures_examples_and_towers(browser, seeing):
    with in_browser(browser, seeing, viewport={"width": 1000, "height": 900}) as (page, complaints):
        overlay, opacity = page.locator(".overlay"), "(canvas) => canvas.style.opacity"
        overlay.wait_for()
        page.locator(".opacity").fill("20")
        assert overlay.evaluate(opacity) == "0.2"
        page.get_by_label("the picture alone").check()
        assert overlay.evaluate(opacity) == "0"
        of_head = picture(page, ".overlay")
        page.get_by_label("Shade by").select_option(label="the mean over all heads")
        page.wait_for_function(
            "document.querySelector('.shading').textContent.includes('mean over all heads')"
        )
        assert picture(page, ".overlay") != of_head
        first = picture(page, PATTERN)
        page.get_by_label("Pattern on").select_option(label="example 1")
        page.wait_for_selector(".example[data-number='1']")
        page.wait_for_function(
            "([canvas, before]) => document.querySelector(canvas)?.toDataURL() !== before",
            arg=[PATTERN, first],
        )
        assert page.locator(".shown-example .controls select").first.input_value() == "1"
        page.get_by_label("Tower").select_option(label="vision · self")
        page.wait_for_function("document.querySelector('.head h2').textContent.startsWith('vision · self')")
        page.get_by_label("Map").select_option(label="Row entropy")
        assert page.locator(".map .caption").text_content() == "Row entropy"
        assert complaints == []


def test_two_viewers_stand_on_one_page_and_their_style_stays_inside(browser, hostile):
    with in_browser(browser, hostile, places=("cell", "second")) as (page, complaints):
        page.locator("#second .tokens").wait_for()
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((part) => part.id)")
        assert len(set(ids)) == len(ids)
        outside = page.evaluate("""() => {
            const table = "<table id='plain'><tr><th class='number'>a</th></tr></table>";
            document.body.insertAdjacentHTML("beforeend", table);
            const style = getComputedStyle(document.querySelector("#plain th"));
            return [style.textAlign, style.position, getComputedStyle(document.body).backgroundColor];
        }""")
        assert outside == ["center", "static", "rgba(0, 0, 0, 0)"]
        page.locator(f"#second {MAP}").click(position={"x": 100, "y": 20})
        page.wait_for_function("document.querySelector('#second .head h2').textContent.endsWith('L0H1')")
        assert page.locator("#cell .columns > .head h2").text_content() == "text · self, L2H0"
        assert complaints == []


@pytest.mark.parametrize(
    ("scheme", "body", "dark"),
    [
        ("dark", "", True),
        ("light", "", False),
        ("light", "data-jp-theme-light=false style='--jp-layout-color0:#111;--jp-ui-font-color0:#eee'", True),
        ("dark", "data-jp-theme-light=true", False),
    ],
)
def test_colours_are_those_of_the_host(browser, hostile, scheme, body, dark):
    with in_browser(browser, hostile, body=body, color_scheme=scheme) as (page, _):
        page.locator(PATTERN).wait_for()
        script = "(root) => [getComputedStyle(root).backgroundColor, getComputedStyle(root).color]"
        paper, ink = page.locator(".headwise-viewer").evaluate(script)
        light = [sum(map(int, colour[4:-1].split(","))) for colour in (paper, ink)]
        assert (light[0] < light[1]) == dark
        assert abs(light[0] - light[1]) > 400


def test_maps_of_a_result_and_its_table(browser):
    result = hw.analyses.mass(sink_trace())
    with in_browser(browser, hw.view(result), viewport={"width": 1000, "height": 900}) as (page, complaints):
        page.locator(MAP).hover(position={"x": 60, "y": 10})
        assert page.locator(".map .said").text_content().startswith("L0H0: ")
        assert page.evaluate("asked") == []
        page.get_by_text("Summary and table").click()
        page.locator("details table").first.wait_for()
        assert result.summary in page.locator("details").text_content()
        assert complaints == []


def test_without_the_kernel_the_maps_are_there_and_the_reader_is_told(browser, monkeypatch):
    widget = hw.view(sink_trace())
    monkeypatch.setattr(type(widget), "text", lambda self, name: None)
    with in_browser(browser, widget) as (page, _):
        page.locator(MAP).wait_for()
        page.wait_for_function(
            "document.querySelector('.status').textContent.startsWith('The kernel has no')"
        )
        assert page.get_by_label("Map").count() == 1


def test_a_silent_kernel_is_waited_for_aloud(browser):
    with in_browser(browser, hw.view(sink_trace()), silent=True) as (page, complaints):
        assert page.locator(".status").text_content() == ""
        page.wait_for_function(
            "document.querySelector('.status').textContent.startsWith('Waiting for the kernel')"
        )
        assert complaints == []
