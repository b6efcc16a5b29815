"""The report for people who do not see it, or not well: an axe scan of all four modalities."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwise.reports.page import write_page
from tests.helpers_browser import MARKS, launched, open_head, visit
from tests.helpers_report import ZOO, zoo_content

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser():
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def axe():
    """The script of axe-core."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python carries axe-core")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, axe, tmp_path, name, scheme):
    content = zoo_content(name)
    path = write_page(content, tmp_path / "r.html").path
    page, _ = visit(browser, path, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    page.evaluate(axe)
    page.locator("details.cells summary").first.click()
    found = violations(page)
    group = content.groups[-1]
    page.evaluate("address => (location.hash = address)", f"head-{group.key}-00-01")
    open_head(page, f"{group.label}, layer 0, head 1")
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
