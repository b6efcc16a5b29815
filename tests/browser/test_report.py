"""The report in a real browser, used by mouse, keyboard and address."""

from __future__ import annotations

from functools import partial

import pytest

from headwise.reports.page.page import write_page
from tests.kit.browser import (
    MARKS,
    click_cell,
    hash_of,
    open_head,
    painted,
    wait_for_hash,
)
from tests.kit.reports import zoo_content

pytestmark = MARKS
HEAD = "text · self, L1H2"
ADDRESS = "#head-text-01-02"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_page(zoo_content("vlm"), tmp_path_factory.mktemp("report") / "vlm.html").path


@pytest.fixture
def opened(seen, report):
    """Open the report of `zoo:vlm`."""
    return partial(seen, report)


def map_of(metric, tower):
    """Where a map stands: `#map-1-0`, its rows and its columns."""
    content = zoo_content("vlm")
    outer = next(i for i, one in enumerate(content.metrics) if one.key == metric)
    inner, panel = next(
        (i, one)
        for i, one in enumerate(content.metrics[outer].panels)
        if one.label.startswith(f"{tower} · self")
    )
    return f"#map-{outer}-{inner}", {"rows": len(panel.layers), "columns": len(panel.cells[0])}


def column_of(path, selector):
    """Every title or share of the tokens of an example."""
    return path.locator(selector).evaluate_all(
        "parts => parts.map((part) => part.style.getPropertyValue('--share'))"
    )


def test_a_click_opens_the_head_and_changes_the_address(opened):
    page = opened()
    grid, size = map_of("entropy", "text")
    click_cell(page, grid, 1, 2, **size)
    open_head(page, HEAD)
    assert hash_of(page) == ADDRESS
    content = zoo_content("vlm")
    cells = next(m for m in content.metrics if m.key == "entropy").panels[-1].cells
    rank = 1 + sum(cell > cells[1][2] for row in cells for cell in row)
    row = page.locator("#head table").first.locator("tr", has_text="Row entropy").first.inner_text()
    assert f"{100 * cells[1][2]:.1f}\u00a0%" in row
    assert f"{rank} of 32" in row


def test_a_click_leaves_the_map_under_the_pointer(opened):
    page = opened()
    grid, size = map_of("entropy", "text")
    page.locator(grid).evaluate("part => part.scrollIntoView({ block: 'center', behavior: 'instant' })")
    before = page.locator(grid).bounding_box()["y"]
    click_cell(page, grid, 1, 2, **size)
    open_head(page, HEAD)
    box, panel = page.locator(grid).bounding_box(), page.locator("#head").bounding_box()
    assert box["y"] == pytest.approx(before, abs=2)
    assert box["x"] + box["width"] <= panel["x"]


def test_keys_open_a_head_and_escape_brings_the_focus_back(opened):
    page = opened()
    grid, _ = map_of("strongest_key", "text")
    canvas = page.locator(f"{grid} canvas")
    page.locator("[name=view]").first.focus()
    for _step in range(8):
        page.keyboard.press("Tab")
        if canvas.evaluate("one => one === document.activeElement"):
            break
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    value = zoo_content("vlm").metrics[0].panels[-1].cells[1][2]
    assert page.locator(f"{grid} .said").inner_text() == f"L1H2: {100 * value:.1f}\u00a0%"
    page.keyboard.press("Enter")
    open_head(page, HEAD)
    assert hash_of(page) == ADDRESS
    assert page.locator("#head h2").evaluate("one => one === document.activeElement")
    page.keyboard.press("Escape")
    assert page.locator("#head").is_hidden()
    assert hash_of(page) == ""
    assert canvas.evaluate("one => one === document.activeElement")


def test_the_button_closes_and_a_link_gets_the_focus_back(opened):
    page = opened()
    link = page.locator("#verdict a[href^='#head-']").first
    link.focus()
    page.keyboard.press("Enter")
    page.locator("#head h2").wait_for()
    page.locator("#head .close").click()
    assert page.locator("#head").is_hidden()
    assert link.evaluate("one => one === document.activeElement")


def test_back_and_forward(opened):
    page = opened()
    page.evaluate("location.hash = 'head-text-01-02'")
    open_head(page, HEAD)
    page.evaluate("location.hash = 'head-vision-00-03'")
    open_head(page, "vision · self, L0H3")
    page.go_back()
    open_head(page, HEAD)
    page.go_back()
    page.locator("#head").wait_for(state="hidden")
    page.go_forward()
    open_head(page, HEAD)


def test_addresses_open_what_they_name(opened):
    open_head(opened(ADDRESS), HEAD)
    page = opened("#entropy-text-01-02")
    open_head(page, HEAD)
    page.wait_for_function(
        "grid => { const box = document.querySelector(grid).getBoundingClientRect();"
        " return box.top >= 0 && box.bottom <= innerHeight; }",
        arg=map_of("entropy", "text")[0],
    )
    page = opened("#example-2")
    assert page.locator("#example-2.chosen").count() == 1
    page.wait_for_function(
        "() => Math.abs(document.getElementById('example-2').getBoundingClientRect().top) < innerHeight"
    )
    page = opened(f"{ADDRESS}-example-1")
    open_head(page, HEAD)
    assert page.locator("#head-example").input_value() == "1"
    assert page.locator("#example-1.chosen").count() == 1


def test_the_pattern_of_one_example_is_chosen_in_the_panel(opened):
    page = opened(ADDRESS)
    open_head(page, HEAD)
    every = painted(page, "#head .pattern canvas")
    page.locator("#head-example").focus()
    page.locator("#head-example").select_option("1")
    wait_for_hash(page, f"{ADDRESS}-example-1")
    page.wait_for_function(
        "before => document.querySelector('#head .pattern canvas').toDataURL() !== before", arg=every
    )
    assert page.locator("#head-example").input_value() == "1"
    assert page.locator("#head-example").evaluate("one => one === document.activeElement")


@pytest.mark.parametrize(
    "address", ["#head-text-99-02", "#head-nothing-00-00", "#head-text-", "#%E0%A4%A", "#example-99", "#-"]
)
def test_addresses_of_nothing_do_nothing(opened, address):
    page = opened(address)
    page.wait_for_selector("#map-0-0 canvas")
    assert page.locator("#head").is_hidden()


def test_the_slider_and_the_picture_alone(opened):
    page = opened()
    overlay, slider = page.locator("#example-1 .overlay"), page.locator("#example-1 .opacity")

    def opacity():
        return float(overlay.evaluate("one => getComputedStyle(one).opacity"))

    assert opacity() == 0.6
    slider.fill("20")
    assert opacity() == 0.2
    page.locator("#example-1 .plain").check()
    assert opacity() == 0
    assert slider.is_disabled()
    page.locator("#example-1 .plain").uncheck()
    assert opacity() == 0.2
    assert float(page.locator("#example-0 .overlay").evaluate("one => getComputedStyle(one).opacity")) == 0.6


def test_maps_show_before_after_and_the_difference(opened):
    page = opened()
    grid, _ = map_of("entropy", "text")
    pictures = {}
    for view in ("before", "after", "difference"):
        page.locator(f"[name=view][value={view}]").check()
        pictures[view] = painted(page, f"{grid} canvas")
        plain, change = (
            page.locator(f"#metric-entropy {part}") for part in (".plain-scale", ".change-scale")
        )
        assert (plain.is_visible(), change.is_visible()) == (view != "difference", view == "difference")
    assert len(set(pictures.values())) == 3
    panel = next(m for m in zoo_content("vlm").metrics if m.key == "entropy").panels[-1]
    changes = [
        (abs(new - old), i, j, new - old)
        for i, rows in enumerate(zip(panel.cells, panel.after, strict=True))
        for j, (old, new) in enumerate(zip(*rows, strict=True))
    ]
    _, row, column, change = max(changes)
    page.locator(f"{grid} canvas").focus()
    for key in ["Home"] + ["ArrowDown"] * row + ["ArrowRight"] * column:
        page.keyboard.press(key)
    sign = "−" if change < 0 else "+"
    said = f"L{row}H{column}: {sign}{100 * abs(change):.1f} points"
    assert page.locator(f"{grid} .said").inner_text() == said


def test_shading_without_sinks_and_of_an_open_head(opened):
    page = opened()
    tokens = "#example-0 .tokens [data-p]"
    strip = zoo_content("vlm").examples[0].strips[0]
    content = zoo_content("vlm")
    plain = column_of(page, tokens)
    assert float(plain[0].rstrip("%")) == pytest.approx(
        100 * strip.tokens[0].share / content.largest_share, abs=0.1
    )
    page.locator("[name=sinks][value=without]").check()
    without = column_of(page, tokens)
    assert strip.tokens[0].rest is None  # a sink
    assert without[0] == "0%"
    assert without != plain
    page.locator("[name=sinks][value=with]").check()
    page.evaluate("location.hash = 'head-text-01-02'")
    group = next(group for group in content.groups if group.key == "text")
    code = int(group.received[0, 1, 2, 0])
    page.wait_for_function(
        "share => Math.abs(parseFloat(document.querySelector('#example-0 .tokens [data-p]')"
        ".style.getPropertyValue('--share')) - share) < 0.1",
        arg=100 * code / 254,
    )
    assert "L1H2" in page.locator(".shading").inner_text()


def test_numbers_of_a_map_are_a_table_with_links(opened):
    page = opened()
    grid, size = map_of("entropy", "text")
    details = page.locator(grid.replace("map", "cells"))
    details.locator("summary").click()
    links = details.locator("td a")
    links.first.wait_for()
    assert links.count() == size["rows"] * size["columns"]
    links.nth(size["columns"] + 2).click()
    open_head(page, HEAD)
    assert hash_of(page) == "#entropy-text-01-02"


def test_a_change_to_dark_repaints(opened):
    page = opened(ADDRESS, color_scheme="light")
    open_head(page, HEAD)
    grid, _ = map_of("entropy", "text")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light, chart = (
        painted(page, f"{grid} canvas"),
        page.locator("#chart-0 text.mark").first.evaluate("one => getComputedStyle(one).fill"),
    )
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("([grid, before]) => document.querySelector(grid).toDataURL() !== before",
                           arg=[f"{grid} canvas", light])  # fmt: skip
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    assert page.locator("#chart-0 text.mark").first.evaluate("one => getComputedStyle(one).fill") != chart
