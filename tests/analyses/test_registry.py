"""The table of analyses: every name gives the analysis of that name, is public, and has a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwise import analyses
from headwise.analyses.registry import ANALYSES, get

PAGES = Path(__file__).parents[2] / "docs" / "methods"
OWN = sorted(ANALYSES.own)


@pytest.mark.parametrize("name", OWN)
def test_every_analysis_is_public_and_has_a_page(name: str) -> None:
    assert get(name).name == name
    assert name in analyses.__all__
    assert (PAGES / f"{name}.md").is_file()
