"""The map of kinds in a browser: a head of it opens that head."""

from __future__ import annotations

import headwise as hw
from tests.kit.browser import MARKS, hash_of, open_head

pytestmark = MARKS


def test_a_head_of_the_map_opens_its_panel(seen, tmp_path):
    subject = hw.load("zoo:lm")
    inputs = [hw.zoo.sample("lm").inputs]
    page = seen(
        hw.report(subject, tmp_path / "r.html", examples=inputs, analyses=['head_kinds:prompts=["repeats"]'])
    )
    cell = page.locator("#words-head_kinds td a").nth(8)
    assert "L1H0: induction; score 0.9" in cell.get_attribute("title")
    cell.click()
    open_head(page, "text · self, L1H0")
    assert hash_of(page) == "#head-text-01-00"
