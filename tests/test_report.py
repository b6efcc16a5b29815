"""The report: what is on the page, that hostile text stays text, and that files appear whole or not at all."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import torch
from helpers_trace import axis, causal, make_trace, random_pattern

import headwise as hw
from headwise.analyses import Result, entropy, sinks
from headwise.probes.sites import Site
from headwise.reports import page
from headwise.reports.content import Metric, Panel, round_up
from headwise.reports.data import gather
from headwise.reports.figures import head_map
from headwise.reports.text import shell_quote, shortened, token_text, visible

META = {
    "model": "by hand",
    "dtype": "float32",
    "attention": ["sdpa"],
    "versions": {"torch": "2.x"},
    "seed": 3,
    "call": "model(**inputs)",
    "warnings": ["said by the engine"],
    "unreached": ["layers.9.attn"],
    "fallback": ["layers.8.attn"],
}
HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "\u202egnp.exe",
    "\x00\x1b[31m",
]


def sink_trace(tokens=None, *, layers=3, length=12, meta=META):
    """Causal heads that give the first key more and more, layer by layer."""
    patterns = {}
    for layer in range(layers):
        pattern = random_pattern(1, 2, length, length, seed=layer)
        pattern[..., 0] += layer
        patterns[Site("text", "self", layer, f"layers.{layer}")] = causal(pattern)
    tokens = tokens or ["[CLS]", *(f"w{i}" for i in range(1, length))]
    axes = {"text": axis("text", [["bos"] + ["content"] * (length - 1)], [tokens])}
    return make_trace(patterns, axes, meta=meta)


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.scripts, self._open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self._open:
            self.scripts[-1] += data
        elif "style" not in self._open:
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))

    def figures(self):
        return next(json.loads(text) for text in self.scripts if text.startswith("{"))


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert hw.report(sink_trace(), path, command="headwise report x") == path
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_page_says_what_was_found(html):
    words = Page(html).words
    result = sinks(sink_trace())
    for said in (
        result.summary,
        entropy(sink_trace()).summary,
        "said by the engine",
        "layers.9.attn",
        "layers.8.attn",
        "Attention sinks are present: [CLS], position 0",
        "model(**inputs)",
        "headwise report x",
        "torch version 2.x",
        "seed 3",
    ):
        assert said in words
    peak = result.frame["peak_received"].max()
    assert f"{100 * peak:.1f} %" in words
    assert f"{100 * peak:.0f} %" in words


def test_page_is_one_file_that_loads_nothing(html):
    parsed = Page(html)
    assert html.count("plotly.js v") == 1
    links = [
        value
        for _, attributes in parsed.tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not {"link", "iframe", "img", "object", "base", "form"} & {tag for tag, _ in parsed.tags}
    policy = next(a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "http" not in page._asset("report.css") + page._asset("report.js")


def test_headings_are_in_order_and_sections_have_names(html):
    tags = Page(html).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = {attributes.get("id") for _, attributes in tags}
    assert {a["href"][1:] for tag, a in tags if tag == "a"} <= ids
    assert all(a["aria-labelledby"] in ids for tag, a in tags if tag == "section")


def test_without_scripts_the_layers_are_in_a_table(html):
    parsed = Page(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    content = gather(sink_trace())
    table = next(table for table in content.tables if table.key == "layers")
    assert [row["layer"] for row in table.records()] == ["0", "1", "2"]
    for row in table.records():
        assert f"{100 * row['entropy']:.1f} %" in parsed.words
        assert f"{100 * row['strongest_key']:.1f} %" in parsed.words


def test_layer_table_is_the_mean_of_the_maps():
    trace = sink_trace()
    frame = entropy(trace).frame.groupby("layer")["normalised_entropy"].mean()
    table = next(table for table in gather(trace).tables if table.key == "layers")
    assert [row["entropy"] for row in table.records()] == pytest.approx(frame.tolist())


def test_every_panel_of_a_metric_has_one_scale():
    strong, weak = random_pattern(1, 2, 8, 8), random_pattern(1, 2, 8, 8, seed=1) * 0 + 1 / 8
    strong[..., 3] += 5
    patterns = {
        Site("encoder", "self", 0): strong / strong.sum(-1, keepdim=True),
        Site("decoder", "self", 0): causal(weak),
        Site("decoder", "cross", 0): weak,
    }
    content = gather(make_trace(patterns))
    metric = next(metric for metric in content.metrics if metric.key == "strongest_key")
    figures = [head_map(panel, metric) for panel in metric.panels]
    assert [panel.label for panel in metric.panels] == ["encoder · self", "decoder · self", "decoder · cross"]
    assert len({(figure["data"][0]["zmin"], figure["data"][0]["zmax"]) for figure in figures}) == 1
    assert metric.scale[1] >= max(v for panel in metric.panels for row in panel.values for v in row)


def test_strongest_key_is_the_largest_column_mean():
    pattern = torch.eye(6)[None, None].repeat(1, 2, 1, 1)
    pattern[0, 1] = 0
    pattern[0, 1, :, 0] = 1
    metric = gather(make_trace({Site("text", "self", 0): pattern})).metrics[0]
    ((inward, sink),) = metric.panels[0].values
    assert (inward, sink) == pytest.approx(
        (1 / 4, 1.0)
    )  # the key at 2 is seen by four rows, one of which is its own


def test_missing_values_stay_blank():
    metric = Metric("m", "m", "share", "", (Panel("text · self", ("0",), ((0.2, None),)),))
    assert head_map(metric.panels[0], metric)["data"][0]["z"] == [[0.2, None]]
    empty = Metric("m", "m", "share", "", (Panel("text · self", ("0",), ((None,),)),))
    assert empty.scale == (0.0, 1.0)


@pytest.mark.parametrize("where", ["token", "model", "call", "warning"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(tmp_path, where, text):
    tokens = [text, *(f"w{i}" for i in range(11))] if where == "token" else None
    meta = META | ({"model": text} if where == "model" else {})
    meta |= {"warnings": [text]} if where == "warning" else {}
    trace = sink_trace(tokens, meta=meta)
    path = hw.report(trace, tmp_path / "report.html", call=text if where == "call" else None)
    written = path.read_text(encoding="utf-8")
    parsed = Page(written)
    assert sum(tag == "script" for tag, _ in parsed.tags) == 3
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert not {"\u202e", "\x00", "\x1b"} & set(written)
    assert visible(text) in parsed.words.replace("␣", " ")


def test_endless_words_are_cut(tmp_path):
    tokens = ["x" * 10_000, *(f"w{i}" for i in range(11))]
    words = Page(hw.report(sink_trace(tokens), tmp_path / "r.html").read_text(encoding="utf-8")).words
    assert "x" * 41 not in words
    assert "x" * 39 + "…" in words
    assert "takes" in words  # the sentence behind the word is still there


def test_results_make_a_report_without_a_trace(tmp_path):
    results = [sinks(sink_trace()), entropy(sink_trace())]
    words = Page(hw.report(results, tmp_path / "two.html").read_text(encoding="utf-8")).words
    assert results[0].summary in words
    assert "Row entropy" in words
    alone = Page(hw.report(results[1], tmp_path / "one.html").read_text(encoding="utf-8")).words
    assert results[1].summary in alone
    assert "Strongest sinks" not in alone


def test_a_result_of_another_package_is_shown_by_its_own_name(tmp_path):
    own = entropy(sink_trace())
    other = Result("peakedness", own.frame, "share", "How peaked.", {}, "Peaked.", "normalised_entropy")
    written = hw.report(other, tmp_path / "other.html").read_text(encoding="utf-8")
    assert "Peakedness" in written
    assert "How peaked." in written


def test_several_captures_in_one_report_are_said():
    first, second = (entropy(sink_trace(meta=META | {"model": name})) for name in ("a", "b"))
    assert "several captures" in " ".join(gather([first, second]).warnings)
    assert "several captures" not in " ".join(gather([first, first]).warnings)


def test_an_input_too_short_for_sinks_still_has_a_report():
    content = gather(sink_trace(["a", "b", "c"], length=3))
    assert any(warning.startswith("No sinks: No key was seen by 4 rows.") for warning in content.warnings)
    assert content.sink_rate is None
    assert "entropy" in content.verdict[0]


def test_padding_is_said_and_left_out():
    axes = {
        "text": axis(
            "text", [["padding"] * 2 + ["bos"] + ["content"] * 7], [["[PAD]"] * 2 + list("abcdefgh")]
        )
    }
    content = gather(make_trace({Site("text", "self", 0): causal(random_pattern(1, 2, 10, 10))}, axes))
    assert any(warning.startswith("20 % of the text positions are padding") for warning in content.warnings)
    assert [token.text for token in content.examples[0].tokens] == list("abcdefgh")
    assert [token.position for token in content.examples[0].tokens] == list(range(2, 10))


def test_tokens_carry_the_attention_they_receive():
    content = gather(sink_trace())
    tokens = content.examples[0].tokens
    assert tokens[0].share == max(token.share for token in tokens if token.share is not None)
    assert [token.share is None for token in tokens] == [False] * 9 + [True] * 3
    assert content.largest_share == round_up(tokens[0].share)


def test_image_positions_are_one_token():
    axes = {
        "text": axis(
            "text", [["bos"] + ["image"] * 6 + ["content"] * 5], [["<s>"] + ["<image>"] * 6 + list("abcde")]
        )
    }
    content = gather(make_trace({Site("text", "self", 0): causal(random_pattern(1, 2, 12, 12))}, axes))
    assert [token.text for token in content.examples[0].tokens][:3] == ["<s>", "image × 6", "a"]


def test_a_model_without_tokens_has_no_input_section(tmp_path):
    trace = make_trace(
        {Site("vision", "self", 0): random_pattern(1, 2, 9, 9)}, {"vision": axis("vision", [["image"] * 9])}
    )
    assert gather(trace).examples == ()
    assert 'id="input"' not in hw.report(trace, tmp_path / "r.html").read_text(encoding="utf-8")


def test_thousand_heads_stay_small(tmp_path):
    site = Site("text", "self", 0)
    one = make_trace({site: causal(random_pattern(1, 32, 16, 16))})
    records = {Site("text", "self", layer, str(layer)): one.records[site] for layer in range(32)}
    path = hw.report(hw.Trace(records, one.layout, META), tmp_path / "large.html")
    assert path.stat().st_size < 6e6


@pytest.mark.parametrize("source", [None, [], "trace", [1], {"a": 1}])
def test_only_traces_and_results_are_reported(tmp_path, source):
    with pytest.raises(hw.InputError, match="made of a trace"):
        hw.report(source, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(hw.InputError, match="folder to write into does not exist") as error:
        hw.report(sink_trace(), tmp_path / "none" / "r.html")
    assert str(tmp_path / "none") in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_after_a_failure_the_old_file_is_untouched(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")
    monkeypatch.setattr(page, "render", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hw.report(sink_trace(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]
    assert path.read_text() == "old"


def test_text_is_made_visible():
    assert visible("a\u202eb\u2028\ud800\U000e0041") == "a\\u202eb\\u2028\\ud800\\U000e0041"
    assert visible("déjà vu 東京") == "déjà vu 東京"
    assert token_text(" the ") == "␣the␣"
    assert token_text("  ") == "␣␣"
    assert token_text("") == "(empty)"
    assert shortened("a " + "b" * 50 + " c") == "a " + "b" * 39 + "… c"
    assert shell_quote("it's\n") == "$'it\\'s\\n'"


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_at_least_four_and_a_half(dark):
    colours = _colours(page._asset("report.css"), dark=dark)
    for ground in ("paper", "card"):
        for text in ("ink", "soft", "accent"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert _contrast(colours["ink"], colours["band"]) >= 4.5
    assert _contrast(colours["ink"], colours["heat"]) >= 4.5  # a token with the deepest shading


def _colours(css, *, dark):
    blocks = css.split(":root {")
    found = {}
    for block in blocks[1:3] if dark else blocks[1:2]:
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block.split("}")[0]))
    return found


def _contrast(one, other):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
