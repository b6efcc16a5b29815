"""Reports of all four modalities on screens of all sizes, and for people who do not see them, or not well."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import headwise as hw
from headwise.reports.page.page import write_page
from tests.kit.browser import DESK, MARKS, open_head, reds_of, visit, width_of
from tests.kit.reports import ZOO, planted_trace, zoo_content

pytestmark = MARKS


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    return {name: write_page(zoo_content(name), folder / f"{name}.html").path for name in ZOO}


@pytest.fixture(scope="module")
def axe():
    """The script of axe-core."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python carries axe-core")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("width", [400, 1024, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_draws_offline_and_fits(browser, reports, name, width, scheme):
    page, complaints = visit(
        browser, reports[name], viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    page.wait_for_selector("#map-0-0 canvas")
    assert width_of(page) <= width
    group = zoo_content(name).groups[-1]
    page.goto(page.url + f"#head-{group.key}-00-01")
    open_head(page, f"{group.label}, L0H1")
    assert width_of(page) <= width
    assert page.locator("#head").bounding_box()["width"] <= width
    page.context.close()
    assert complaints == []


def test_the_first_screen_answers(browser, reports):
    page, _ = visit(browser, reports["vlm"], viewport=DESK)
    said = [
        page.locator("#verdict .headlines"),
        page.locator("#verdict .sentence").first,
        page.locator("#verdict a[href='#evaluation']").first,
        page.locator("#verdict a[href^='#head-']").first,
        page.locator("#verdict a[href^='#example-']").first,
    ]
    for part in said:
        box = part.bounding_box()
        assert box["y"] + box["height"] <= DESK["height"]
    assert "→" in said[0].inner_text()
    assert "95 % interval" in said[0].inner_text()
    page.context.close()


def test_the_overlay_lies_on_the_patch_that_is_looked_at(browser, tmp_path):
    path = hw.report(planted_trace(), tmp_path / "r.html", examples=[{"image": Image.new("RGB", (40, 30))}])
    page, complaints = visit(browser, path)
    places, other = 1 * 4 + 2, {"head-vision-00-00", "head-text-00-01"}
    for address in ("", "head-text-00-01", "head-vision-00-00"):
        page.evaluate("address => (location.hash = address)", address)
        top = "100" if address in other else page.locator(".patch-top").get_attribute("data-plain")
        page.wait_for_function(
            "top => document.querySelector('.patch-top').textContent.startsWith(top)", arg=top
        )
        for _wait in range(50):
            reds = reds_of(page, "#example-0 .overlay")
            if len(set(reds)) == (1 if "vision" in address else 2):
                break
            page.wait_for_timeout(50)
        assert len(reds) == 3 * 4
        if address == "head-vision-00-00":  # every place looks at itself
            assert len(set(reds)) == 1
        else:
            assert max(range(12), key=reds.__getitem__) == places
            assert len(set(reds)) == 2
    page.context.close()
    assert complaints == []


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, axe, reports, name, scheme):
    content = zoo_content(name)
    page, _ = visit(browser, reports[name], color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    page.evaluate(axe)
    page.locator("details.cells summary").first.click()
    found = violations(page)
    group = content.groups[-1]
    page.evaluate("address => (location.hash = address)", f"head-{group.key}-00-01")
    open_head(page, f"{group.label}, L0H1")
    found |= violations(page)
    page.context.close()
    assert found == set()


def violations(page):
    """(rule, element) of everything serious or critical."""
    scan = page.evaluate("() => axe.run()")
    assert scan["passes"]
    return {
        (item["id"], node["html"][:120])
        for item in scan["violations"]
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    }
