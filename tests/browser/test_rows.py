"""Rows and tokens that belong together, in the browser: the row under the pointer and the token it writes."""

from __future__ import annotations

import pytest

from headwise.reports.page.page import write_page
from headwise.text import token_text
from tests.kit.browser import MARKS, open_head
from tests.kit.reports import zoo_content

pytestmark = MARKS
CANVAS = "#example-0 .matrix canvas"
CHANGED = """before => {
  const canvas = document.querySelector('#example-0 .matrix canvas');
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext('2d', { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const now = pen.getImageData(0, 0, copy.width, copy.height).data;
  if (!before) { window.kept = now; return null; }
  const rows = [];
  for (let y = 0; y < copy.height; y++) {
    const [start, end] = [4 * y * copy.width, 4 * (y + 1) * copy.width];
    if (now.subarray(start, end).some((value, place) => value !== before[start + place])) rows.push(y);
  }
  return rows.length ? ((rows[0] + rows.at(-1)) / 2) * (canvas.clientHeight / copy.height) : null;
}"""
"""The middle of what a canvas shows otherwise than before, in pixels of the page."""


@pytest.fixture(params=["speech", "nmt"])
def shown(request, seen, tmp_path):
    """The page of a model with cross-attention, and its example."""
    content = zoo_content(request.param)
    page = seen(write_page(content, tmp_path / "r.html").path)
    page.locator(CANVAS).scroll_into_view_if_needed()
    return page, content.examples[0]


def swept(page, host):
    """What is said and which tokens are highlighted, down a column of a map; the middle of every row found."""
    box = page.locator(f"{host} canvas").bounding_box()
    found = {}
    for y in range(4, int(box["height"]), 8):
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + y)
        said = page.locator(f"{host} .said").inner_text().partition(" → ")[0]
        if said:
            marked = page.locator("#example-0 .tokens [data-row]").all_inner_texts()
            found.setdefault((said, tuple(marked)), []).append(y)
    return {pair: sum(ys) / len(ys) for pair, ys in found.items()}


def test_the_row_under_the_pointer_marks_its_token_and_a_token_marks_the_row_that_wrote_it(shown):
    page, example = shown
    found = swept(page, "#example-0 .matrix")
    names = [token_text(name) for name in example.matrix.rows]
    assert {said for said, _ in found} == set(names)
    assert all(marked == ((said,) if said != "(unread)" else ()) for said, marked in found)
    page.mouse.move(0, 0)
    assert page.locator("[data-row]").count() == 0
    middles = {said: y for (said, _), y in found.items()}
    strip = page.locator("#example-0 .tokens").last.locator("[data-p]")
    page.evaluate(f"({CHANGED})(null)")
    for place, token in enumerate(strip.all()):
        token.hover()
        y = page.evaluate(f"({CHANGED})(window.kept)")
        if place == 0:
            assert y is None  # no row wrote what the decoder begins with
        elif names.count(names[place - 1]) == 1:
            assert token.inner_text() == names[place - 1]
            assert y == pytest.approx(middles[names[place - 1]], abs=8)
    page.mouse.move(0, 0)
    assert page.evaluate(f"({CHANGED})(window.kept)") is None


def test_the_pattern_of_a_head_says_what_names_its_rows(seen, tmp_path):
    content = zoo_content("speech")
    path = write_page(content, tmp_path / "r.html").path
    tokens = [token_text(name) for name in content.examples[0].matrix.rows]
    for kind, address, verb, names in (
        ("cross", "decoder-cross", "writing", tokens),
        ("self", "decoder", "reading", ["<|startoftranscript|>", *tokens[:-1]]),
    ):
        page = seen(path, f"#head-{address}-01-00")
        open_head(page, f"decoder · {kind}, L1H0")
        page.locator("#head .pattern canvas").scroll_into_view_if_needed()
        said = {said for said, _ in swept(page, "#head .pattern")}
        assert said == {f"decoder {verb} {name}" for name in names}
        notes = " ".join(page.locator("#head .note").all_inner_texts())
        assert ("the token that it writes" in notes) == (kind == "cross")
        assert ("the token that it reads" in notes) == (kind == "self")
