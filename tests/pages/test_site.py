"""The site: it builds without a warning, needs no network, and works in a real browser, opened from disk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.pages import ROOT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TYPICAL = ("index.html", "methods/var.html", "api/fixes.html", "faults.html")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site without reports and notebooks, which have tests of their own."""
    pytest.importorskip("mkdocs", reason="pip install 'headwise[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "HEADWISE_DOCS": "quick", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture
def page() -> Iterator[Any]:
    """A page without network that remembers what went wrong and what it asked for."""
    if BROWSER is None:
        pytest.skip("there is no system Chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=options)
        opened = browser.new_context(offline=True).new_page()
        opened.troubles = []
        opened.on("pageerror", lambda error: opened.troubles.append(str(error)))
        opened.on(
            "console", lambda said: said.type == "error" and opened.troubles.append(f"console: {said.text}")
        )
        opened.on(
            "request",
            lambda asked: (
                asked.url.startswith(("file:", "data:", "blob:")) or opened.troubles.append(asked.url)
            ),
        )
        yield opened
        browser.close()


def test_pages_name_nothing_outside_the_site(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    assert [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []


def test_formulas_are_mathml_and_what_builds_the_site_stays_out(site: Path) -> None:
    shown = (site / "methods" / "var.html").read_text(encoding="utf-8")
    assert shown.count("<math") > 10
    assert "arithmatex" not in shown
    assert not (site / "hooks").exists()
    assert not list(site.rglob("*.py"))


def test_examples_of_docstrings_are_set_as_code(site: Path) -> None:
    shown = (site / "api" / "analyses.html").read_text(encoding="utf-8")
    assert "&gt;&gt;&gt; " in shown
    assert "<blockquote>" not in shown


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", TYPICAL)
def test_a_page_opens_from_disk_and_is_as_wide_as_the_window(
    site: Path, page: Any, name: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((site / name).as_uri())
    page.wait_for_timeout(300)
    assert page.troubles == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_and_search_work_from_disk(site: Path, page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto((site / "methods" / "act.html").as_uri())
    page.click("label[title='Switch to dark mode']")
    assert page.evaluate("document.body.dataset.mdColorScheme") == "slate"
    page.keyboard.press("/")
    page.keyboard.type("sink rate", delay=30)
    first = page.locator(".md-search-result__link").first
    first.wait_for(state="attached", timeout=10_000)
    assert first.get_attribute("href").endswith("methods/sink_rate.html")
    assert page.troubles == []
