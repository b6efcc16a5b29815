"""Pages in the system's Chromium, without a network; whatever a page complains about is kept."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no system Chromium to open the page in"),
]
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESK = {"width": 1280, "height": 900}


@contextmanager
def launched():
    """A browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        yield opened
        opened.close()


def visit(browser, path: Path, address: str = "", **options):
    """Open a page in a window of its own; gives it and a list of everything it complained about."""
    options = {"viewport": DESK} | options
    page = browser.new_context(offline=True, **options).new_page()
    page.set_default_timeout(5_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url),
    )
    page.goto(path.as_uri() + address)
    return page, complaints


def hash_of(page) -> str:
    """The address within the page."""
    return page.evaluate("decodeURIComponent(location.hash)")


def wait_for_hash(page, address: str) -> None:
    """Wait until the page has this address."""
    page.wait_for_function("address => decodeURIComponent(location.hash) === address", arg=address)


def open_head(page, title: str) -> None:
    """Wait until the panel shows this head."""
    page.wait_for_function(
        "title => { const panel = document.getElementById('head');"
        " return !panel.hidden && panel.querySelector('h2')?.textContent === title; }",
        arg=title,
    )


def click_cell(page, grid: str, row: int, column: int, *, rows: int, columns: int) -> None:
    """Click a cell of a map, found by the pictures of its cells alone."""
    host = page.locator(grid)
    host.scroll_into_view_if_needed()
    box = page.evaluate(CELLS, grid)
    page.mouse.click(
        box["left"] + (column + 0.5) * box["width"] / columns, box["top"] + (row + 0.5) * box["height"] / rows
    )


CELLS = """grid => {
  const canvas = document.querySelector(`${grid} canvas`);
  const edge = canvas.getBoundingClientRect();
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const full = (x, y) => pixels[4 * (y * canvas.width + x) + 3] === 255;
  // the first line is all cells: the left-most and right-most of its painted pixels
  const y = 6;
  let left = canvas.width, right = 0;
  for (let x = 0; x < canvas.width; x++) {
    let run = 0;
    while (x + run < canvas.width && full(x + run, y)) run++;
    if (run > 20) { left = Math.min(left, x); right = Math.max(right, x + run); x += run; }
  }
  let top = y, bottom = y;
  while (top > 0 && full(left + 3, top - 1)) top--;
  while (full(left + 3, bottom) && bottom < canvas.height) bottom++;
  const scale = edge.width / canvas.width;
  return { left: edge.left + left * scale, top: edge.top + top * scale, width: (right - left) * scale,
           height: (bottom - top) * scale };
}"""


def painted(page, canvas: str) -> str:
    """What a canvas shows, to compare."""
    return page.locator(canvas).first.evaluate("canvas => canvas.toDataURL()")


def reds_of(page, canvas: str) -> list[int]:
    """The red of every pixel of a canvas, in raster order; it grows with the value on our scales."""
    return page.locator(canvas).evaluate(
        """canvas => {
          const copy = document.createElement('canvas');
          [copy.width, copy.height] = [canvas.width, canvas.height];
          const pen = copy.getContext('2d', { willReadFrequently: true });
          pen.drawImage(canvas, 0, 0);
          const data = pen.getImageData(0, 0, copy.width, copy.height).data;
          return Array.from({ length: data.length / 4 }, (_, place) => data[4 * place]);
        }"""
    )


def width_of(page) -> int:
    """How wide the page is; more than the window where it scrolls sideways."""
    return page.evaluate("document.documentElement.scrollWidth")
