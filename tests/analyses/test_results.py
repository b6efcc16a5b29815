"""Results: tables, figures, files; and analyses by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pandas as pd
import pytest
import torch

from headwise import analyses, plugins
from headwise.analyses.registry import ANALYSES
from headwise.errors import HeadwiseError, InputError
from headwise.probes.attach.sites import Site
from tests.kit.analyses import NAMES
from tests.kit.traces import TEXT, axis, causal, detailed, make_trace, plain_axis, random_pattern

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def trace():
    sites = {
        Site("text", "self", layer): causal(random_pattern(2, 3, 6, 6, seed=layer)) for layer in range(4)
    }
    sites |= {Site("vision", "self", layer): random_pattern(2, 2, 5, 5, seed=layer) for layer in range(2)}
    roles = [["bos", "image", "content", "content", "punctuation", "content"]] * 2
    axes = {
        "text": axis("text", roles, [[EVIL, "a", "b", "c", "d", "<i>"]] * 2),
        "vision": plain_axis("vision", 2, 5),
    }
    return detailed(make_trace(sites, axes, meta={"model": EVIL, "versions": {"torch": "2"}, "seed": 1}))


@pytest.fixture(scope="module", params=NAMES["trace"])
def result(request, trace):
    return analyses.get(request.param)(trace)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.seen = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)


def test_a_result_says_what_it_is(result):
    assert repr(result).count("\n") == 0
    assert result.summary.endswith(".")
    assert any(letter.isdigit() for letter in result.summary)
    assert result.value in result.frame
    assert result.provenance["seed"] == 1
    assert result.provenance["analysis"] == result.name
    assert {"tower", "kind"} <= set(result.frame)
    with pytest.raises(AttributeError):
        result.name = "other"


def test_html_is_escaped_and_the_cell_is_static(result, tmp_path):
    cell, page = result._repr_html_(), result.save(tmp_path / "x.html").read_text(encoding="utf-8")
    assert "script" not in Tags(cell).seen
    for text in (cell, page):
        assert "i" not in Tags(text).seen
        assert EVIL not in text
        assert "<table" in text


def test_files(result, tmp_path):
    back = json.loads(result.save(tmp_path / "x.json").read_text())
    assert back["provenance"]["model"] == EVIL
    assert list(back["columns"]) == result.frame.columns.tolist()
    assert {len(row) for row in back["rows"]} == {len(back["columns"])}
    rows = [dict(zip(back["columns"], row, strict=True)) for row in back["rows"]]
    assert len(rows) == len(result.frame)
    values = [np.nan if row[result.value] is None else row[result.value] for row in rows]
    if result.kind == "classes":
        assert values == result.frame[result.value].tolist()
    else:
        np.testing.assert_allclose(values, result.frame[result.value], rtol=1e-6)
    parquet = pd.read_parquet(result.save(tmp_path / "x.parquet"))
    pd.testing.assert_frame_equal(parquet, result.frame)
    assert parquet.attrs["summary"] == result.summary
    csv = pd.read_csv(result.save(tmp_path / "x.csv"))
    assert csv.columns.tolist() == result.frame.columns.tolist()
    assert result.frame.attrs == {}
    assert sorted(os.listdir(tmp_path)) == ["x.csv", "x.json", "x.parquet"]


def test_other_files_are_refused(result, tmp_path):
    for name in ("x.pkl", "x"):
        with pytest.raises(InputError, match=r"Use .json, .parquet, .csv, .html"):
            result.save(tmp_path / name)
    with pytest.raises(InputError, match="folder to write into does not exist"):
        result.save(tmp_path / "none" / "x.json")
    assert os.listdir(tmp_path) == []


def test_figures_share_one_scale(result):
    figure = result.plot()
    text = figure.to_json()
    assert EVIL not in json.loads(text)["layout"].get("title", {}).get("text", "")
    if result.kind == "positions":
        assert {bar.type for bar in figure.data} == {"bar"}
        assert figure.layout.xaxis.range == (0.0, 1.0) or result.unit != "share"
        assert result.unit in figure.layout.xaxis.title.text
        assert EVIL not in text
        return
    if result.kind == "layers":
        assert {line.type for line in figure.data} == {"scatter"}
        assert result.unit in figure.layout.yaxis.title.text
        return
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}
    scale = figure.layout.coloraxis
    assert scale.cmin == 0
    if result.kind == "classes":
        assert (scale.cmax, scale.colorbar.title.text) == (1, "share of examples")
    else:
        assert result.unit in scale.colorbar.title.text
        assert scale.cmax >= result.frame.groupby(["tower", "kind"])[result.value].max().max() * 0.5
    panels = [a.text for a in figure.layout.annotations]
    assert any(title.startswith("text self") for title in panels)
    seen = "vision" in set(result.frame["tower"])
    assert any(title.startswith("vision self") for title in panels) == seen


def test_a_map_shows_the_mean_over_examples(trace):
    result = analyses.entropy(trace)
    grid = np.array(result.plot().data[0].z)
    frame = result.frame.query("tower == 'text'")
    for layer in range(4):
        for head in range(3):
            cell = frame.query("layer == @layer and head == @head")[result.value].mean()
            np.testing.assert_allclose(grid[layer, head], cell, rtol=1e-6)
    assert list(result.plot().data[0].y) == ["0", "1", "2", "3"]


def test_calls_of_one_layer_have_rows_of_their_own():
    sites = {Site("vision", "self", 0, call=call): random_pattern(1, 2, 4, 4, seed=call) for call in range(3)}
    figure = analyses.entropy(make_trace(sites)).plot()
    assert list(figure.data[0].y) == ["0.0", "0.1", "0.2"]


def test_the_mean_over_examples_keeps_the_heads(trace):
    mean = analyses.mass(trace).mean()
    assert "example" not in mean
    assert len(mean) * 2 == len(analyses.mass(trace).frame)
    with pytest.raises(InputError, match="positions, not heads"):
        analyses.sinks(trace).mean()


def entry(name, value):
    return EntryPoint(name, value, ANALYSES.group)


@pytest.fixture
def install(monkeypatch):
    def put(*points):
        monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints(points))

    return put


class TestRegistry:
    def test_own_analyses(self):
        assert {"entropy", "head_types", "look_back", "pattern_types", "rhythm", "sinks", "top_mass"} <= set(
            analyses.names()
        )
        assert analyses.get("sinks") is analyses.sinks

    def test_another_package_adds_one(self, install):
        install(entry("spread", "headwise.analyses:entropy"), entry("broken", "no_such_module:x"))
        assert "spread" in analyses.names()
        assert analyses.get("spread") is analyses.entropy
        with pytest.raises(HeadwiseError, match=r"'broken' could not be loaded.*no_such_module"):
            analyses.get("broken")

    def test_unknown_names_list_close_ones(self):
        with pytest.raises(InputError, match=r"no analysis 'entropi'.*close: entropy"):
            analyses.get("entropi")
        with pytest.raises(InputError, match=f"close: {', '.join(analyses.names()[:5])}, "):
            analyses.get("zzz")

    def test_duplicates_raise(self, install):
        install(entry("sinks", "other:sinks"))
        with pytest.raises(HeadwiseError, match=r"analysis 'sinks' is defined twice.*other:sinks"):
            analyses.names()
        install(entry("mine", "a:f"), entry("mine", "b:f"))
        with pytest.raises(HeadwiseError, match="a:f and b:f"):
            analyses.get("mine")


def test_importing_analyses_loads_no_tables_and_no_figures():
    code = "import sys, headwise.analyses; print({'pandas', 'plotly', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_a_flat_map_of_a_short_text_gives_its_first_key_is_no_finding():
    flat = torch.ones(8, 8).tril()
    pattern = (flat / flat.sum(-1, keepdim=True)).expand(1, 2, 8, 8)
    summary = analyses.sinks(make_trace({TEXT: pattern})).summary
    assert summary.endswith("(alpha > 0.3); in so short an input a flat map gives it 34 %, too.")


def test_the_summary_of_a_real_sink_reads_like_a_sentence():
    pattern = torch.zeros(1, 2, 8, 8)
    pattern[..., 0] = 1
    assert analyses.sinks(make_trace({TEXT: pattern})).summary == (
        "[CLS] (position 0) takes 100 % of the attention in layer 0; 2 of 2 heads have a sink (alpha > 0.3)."
    )
