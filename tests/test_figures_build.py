"""The plotly.js that pages carry is the one whose version and sums are stated, and reads what plotly writes."""

import base64
import hashlib
from importlib.resources import files

from plotly.offline import get_plotlyjs_version

from headwise.figures.plotly_build import CDN, FILE, INTEGRITY, PLOTLY_VERSION, SHA256, plotly_script

ASSETS = files("headwise.reports").joinpath("assets")


def test_the_shipped_file_is_the_stated_one():
    content = ASSETS.joinpath(FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}" == INTEGRITY
    assert plotly_script().encode() == content
    assert f"plotly.js (cartesian - minified) v{PLOTLY_VERSION}" in plotly_script()[:200]
    assert PLOTLY_VERSION in CDN


def test_the_note_beside_it_says_the_same():
    note = ASSETS.joinpath("README.md").read_text(encoding="utf-8")
    assert f"plotly.js {PLOTLY_VERSION}" in note
    assert f"sha256 {SHA256}" in note
    assert "MIT" in ASSETS.joinpath("plotly-LICENSE.txt").read_text(encoding="utf-8")


def test_figures_of_the_installed_plotly_are_for_this_script():
    assert get_plotlyjs_version().split(".")[0] == PLOTLY_VERSION.split(".")[0]


def test_the_script_can_stand_in_a_page():
    assert "</script" not in plotly_script().lower()
    assert "<!--" not in plotly_script()
