"""The report: what is on the page, hostile text stays text, files appear whole or not at all."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

import headwise as hw
from headwise.analyses import entropy, sinks
from headwise.probes.attach.sites import Site
from headwise.reports.collect.build import build_content
from headwise.reports.page import page
from headwise.text import visible
from tests.kit.reports import HOSTILE, Page, sink_trace
from tests.kit.results import every_kind
from tests.kit.traces import META, axis, causal, make_trace, random_pattern
from tests.tiny.telling import crossed


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
        "Attention sinks are present: [CLS] (position 0) is a sink in",
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
    assert "plotly.js" not in html  # no chart needs it
    links = [
        value
        for _, attributes in parsed.tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in parsed.tags}
    policy = next(a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "http" not in page.asset("templates", "report.css") + page.page_script()


def test_headings_are_in_order_and_sections_have_names(html):
    tags = Page(html).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = {attributes.get("id") for _, attributes in tags}
    links = {a["href"][1:] for tag, a in tags if tag == "a"}
    assert {link for link in links if not link.startswith("head-")} <= ids
    assert {link for link in links if link.startswith("head-")} <= {
        f"head-text-{layer:02d}-{head:02d}" for layer in range(3) for head in range(2)
    }
    assert all(a["aria-labelledby"] in ids for tag, a in tags if tag == "section")


def test_without_scripts_the_layers_are_in_a_table(html):
    parsed = Page(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    content = build_content(sink_trace())
    table = next(table for table in content.tables if table.key == "layers")
    assert [row["layer"] for row in table.records()] == ["0", "1", "2"]
    for row in table.records():
        assert f"{100 * row['entropy']:.1f} %" in parsed.words
        assert f"{100 * row['strongest_key']:.1f} %" in parsed.words


PLACES = ["token", "model", "call", "warning"]


@pytest.mark.parametrize(("where", "text"), crossed(PLACES, HOSTILE, PLACES))
def test_hostile_text_stays_text(tmp_path, where, text):
    tokens = [text, *(f"w{i}" for i in range(11))] if where == "token" else None
    meta = META | ({"model": text} if where == "model" else {})
    meta |= {"warnings": [text]} if where == "warning" else {}
    trace = sink_trace(tokens, meta=meta)
    path = hw.report(trace, tmp_path / "report.html", call=text if where == "call" else None)
    written = path.read_text(encoding="utf-8")
    parsed = Page(written)
    kinds = [attributes.get("type", "run") for tag, attributes in parsed.tags if tag == "script"]
    assert kinds.count("run") == 1
    assert set(kinds) == {"run", "application/json", "text/plain"}
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
    other = replace(own, name="peakedness", description="How peaked.", provenance={}, summary="Peaked.")
    written = hw.report(other, tmp_path / "other.html").read_text(encoding="utf-8")
    assert "Peakedness" in written
    assert "How peaked." in written


def test_names_of_metrics_make_no_names_of_files(tmp_path):
    """Too long for one, or the same for a file system that knows no capitals."""
    names = ("peak", "Peak", "\N{GREEK SMALL LETTER ALPHA}/" * 200)
    found = [replace(every_kind()["heads"], name=name) for name in names]
    folder = hw.report(found, tmp_path / "r.html", limit=1).parent
    files = [path.name.casefold() for path in folder.glob("data-*/*")]
    assert len(set(files)) == len(names)
    assert all(re.fullmatch(r"[0-9]+\.js", name) for name in files)


def test_a_model_without_tokens_has_no_input_section(tmp_path):
    trace = make_trace(
        {Site("vision", "self", 0): random_pattern(1, 2, 9, 9)}, {"vision": axis("vision", [["image"] * 9])}
    )
    assert build_content(trace).examples == ()
    assert 'id="input"' not in hw.report(trace, tmp_path / "r.html").read_text(encoding="utf-8")


def test_thousand_heads_stay_small(tmp_path):
    site = Site("text", "self", 0)
    one = make_trace({site: causal(random_pattern(1, 32, 16, 16))})
    records = {Site("text", "self", layer, str(layer)): one.records[site] for layer in range(32)}
    path = hw.report(hw.Trace(records, one.layout, META), tmp_path / "large.html")
    assert path.stat().st_size < 6e6


@pytest.mark.parametrize("source", [None, ["trace", 1], [1], {"a": 1}])
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
    monkeypatch.setattr(page, "render", lambda content, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hw.report(sink_trace(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_at_least_four_and_a_half(dark):
    colours = _colours(page.asset("templates", "report.css"), dark=dark)
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


def test_a_page_whose_numbers_alone_are_too_large_is_rendered_once(tmp_path, monkeypatch):
    rendered = []
    real = page.render
    monkeypatch.setattr(page, "render", lambda *args, **given: rendered.append(given) or real(*args, **given))
    content = build_content(sink_trace())
    for limit, times in ((10, 1), (10_000_000, 1)):
        rendered.clear()
        page.write_page(content, tmp_path / f"r{limit}.html", limit=limit)
        assert len(rendered) == times


@pytest.mark.parametrize("path", [".", "/", "..", ""])
def test_a_path_without_a_name_holds_what_is_not_ours(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(hw.InputError, match=r"not written by headwise|holds something"):
        hw.report(sink_trace(), path, limit=10)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
