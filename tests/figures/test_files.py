"""Figures as files: pages that load nothing, cells that run nothing, and what is said when a browser is missing."""

import importlib
import re
import sys
from html.parser import HTMLParser
from itertools import accumulate

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from headwise.errors import InputError
from headwise.evaluation.results.evaluation import Evaluation
from headwise.evaluation.statistics.estimate import Estimate
from headwise.figures.cell import ROWS
from tests.figures.test_figures import HOSTILE, heads, sinks
from tests.kit.results import every_kind, made
from tests.kit.stored import comparison, evaluation, harness_result, search, trace

NO_FORMULAS = "tex2jax_ignore mathjax_ignore"
"""Classes of an element in which MathJax 2, 3 and 4 look for no formulas."""


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def replied(replies):
    estimate = Estimate("accuracy", 0.5, 0.25, 0.75, len(replies), "share", True, "by hand")
    frame = pd.DataFrame({"id": range(len(replies)), "response": replies, "correct": 1.0})
    return Evaluation("questions", {"accuracy": estimate}, frame, {"model": {"name": HOSTILE[0]}, "seed": 3})


def test_a_page_holds_the_figure_the_finding_the_table_and_the_provenance(tmp_path):
    result = heads(2, examples=2)
    page = result.save(tmp_path / "x.html").read_text(encoding="utf-8")
    read = Tags(page)
    assert "Found 1." in read.text
    assert "High is more." in read.text
    assert "a model" in read.text
    assert [tag for tag, _ in read.tags].count("tr") >= len(result.frame)
    assert '"type":"heatmap"' in page
    assert page.count(get_plotlyjs()) == 1


def test_a_page_may_run_its_own_scripts_only_and_load_nothing(tmp_path):
    page = replied(HOSTILE).save(tmp_path / "x.html").read_text(encoding="utf-8")
    read = Tags(page.replace(get_plotlyjs(), ""))
    policy = next(a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert not any({"src", "href"} & set(attributes) for tag, attributes in read.tags if tag != "img")
    assert [tag for tag, _ in read.tags].count("script") == 3
    assert not {"b", "img", "br"} & {tag for tag, _ in read.tags}
    for wrong in (HOSTILE[0], "\u202e", "\x00", "\x1b"):
        assert wrong not in page
    assert "x" * 10_000 in page


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_without_kaleido_the_remedy_is_told(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    monkeypatch.delitem(sys.modules, "kaleido.errors", raising=False)
    with pytest.raises(InputError, match=r"kaleido 1.0 or newer.*headwise\[figures\].*save as .html"):
        heads().save(tmp_path / f"x.{kind}")
    assert list(tmp_path.iterdir()) == []


def test_without_a_browser_the_remedy_is_told(tmp_path, monkeypatch):
    pytest.importorskip("kaleido.errors", reason="kaleido draws pictures")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    chromium = importlib.import_module("choreographer.browsers.chromium").Chromium
    monkeypatch.setattr(chromium, "find_browser", lambda **_: None)
    with pytest.raises(InputError, match=r"none was found.*Install Chrome or Chromium.*save as .html"):
        heads().save(tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused_and_all_formats_named(tmp_path):
    for found in (heads(), replied(["yes", "no"])):
        with pytest.raises(InputError, match=r"Use .json, .parquet, .csv, .html, .svg, .png"):
            found.save(tmp_path / "x.pdf")
        with pytest.raises(InputError, match="folder to write into does not exist"):
            found.save(tmp_path / "none" / "x.html")


PICTURES = ("data:image/png;base64,", "data:image/svg+xml;base64,")
LARGE = {
    "many": lambda: heads(12, layers=96, heads=128, examples=2),
    "large": lambda: heads(1, layers=1000, heads=300),
    "hostile": lambda: heads(roles=HOSTILE),
    "signed": lambda: heads(low=-1.0, unit="difference"),
    "tokens": lambda: sinks(HOSTILE * 20),
    "replies": lambda: replied(["&\u202e" * 5000] * 500),
    "wide": lambda: made(
        "wide",
        "rows",
        pd.DataFrame(
            {f"{'&' * 500}{number}": ["&" * 500] * 50 for number in range(60)} | {"row": range(50), "v": 1.0}
        ),
        ("row",),
        "v",
        description="&" * 9000,
        summary="& " * 9000,
    ),
}


@pytest.mark.parametrize("show", [evaluation, comparison, search, harness_result, trace, *every_kind()])
def test_a_cell_holds_no_formulas(show):
    """All of it lies in one element of which MathJax, which notebooks have, keeps away."""
    cell = (every_kind()[show] if isinstance(show, str) else show())._repr_html_()
    assert cell.startswith(f'<div class="{NO_FORMULAS}"')
    open_divs = accumulate(1 if tag == "<div" else -1 for tag in re.findall("<div|</div", cell))
    assert list(open_divs).index(0) == len(re.findall("<div|</div", cell)) - 1
    assert cell.endswith("</div>")


@pytest.mark.parametrize("name", LARGE)
def test_a_cell_is_small_static_and_escaped(name):
    cell = LARGE[name]()._repr_html_()
    assert len(cell.encode()) <= 200_000
    read = Tags(cell)
    assert {tag for tag, _ in read.tags} <= {
        *("div", "p", "figure", "figcaption", "img", "code"),
        *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    }
    assert not any(name in attributes for _, attributes in read.tags for name in ("onerror", "href"))
    assert [attributes["class"] for _, attributes in read.tags if "class" in attributes] == [NO_FORMULAS]
    pictures = [attributes for tag, attributes in read.tags if tag == "img"]
    assert all(picture["src"].startswith(PICTURES) and picture["alt"] for picture in pictures)
    assert [tag for tag, _ in read.tags].count("tr") <= 2 * (ROWS + 1)
    assert "\u202e" not in cell
    assert "\x00" not in cell


def test_a_cell_prints_the_scale_and_names_the_ends_of_a_map():
    cells = [(0, 0, 0.25), (0, 1, 0.5), (1, 0, 0.125), (1, 1, np.nan)]
    frame = pd.DataFrame(cells, columns=["layer", "head", "score"]).assign(tower="s", kind="self")
    keys = ("tower", "kind", "layer", "head")
    cell = made("metric", "heads", frame, keys, "score")._repr_html_()
    (alt, _) = re.findall(r'alt="([^"]*)"', cell)
    assert alt == ("score (share), s self: 2 layers × 2 heads; lowest 0.125 in L1H0; highest 0.5 in L0H1")
    assert re.search(r"<p [^>]*>0 <img .*> 1 score \(share\); layers down, heads across</p>", cell)


@pytest.mark.slow
def test_maps_that_do_not_fit_are_counted():
    cell = heads(30, layers=128, heads=128)._repr_html_()
    shown = cell.count("<figure")
    assert 0 < shown < 30
    assert f"and {30 - shown} more maps" in cell
