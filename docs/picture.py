"""Draw the picture of a report that the README and the home page show: `python docs/picture.py`.

Needs playwright and a Chromium; CHROMIUM names one that is not found by itself.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from headwise.cli.demo import write_demo

PICTURE = Path(__file__).parent / "assets" / "report.png"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Photograph the first screen of the first report of `headwise demo`, with the head open that its verdict names."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        first = write_demo(Path(folder))[1]
        chromium = playwright.chromium.launch(executable_path=browser, args=OPTIONS)
        tab = chromium.new_page(viewport={"width": 1720, "height": 980}, color_scheme="light")
        tab.goto(first.resolve().as_uri())
        tab.locator("#verdict a[href^='#head-']").first.click()
        tab.wait_for_selector("#head .pattern canvas")
        tab.mouse.move(5, 5)
        tab.wait_for_timeout(1000)
        tab.screenshot(path=PICTURE)
        chromium.close()


if __name__ == "__main__":
    main()
