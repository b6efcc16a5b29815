"""What a report says, before it is a page: numbers, tables, tokens, warnings."""

from __future__ import annotations

import pytest
import torch

from headwise.analyses import entropy
from headwise.probes.attach.sites import Site
from headwise.reports.collect.build import build_content
from headwise.reports.content.content import Content, HeadMap, MapPanel
from headwise.reports.content.formatting import round_up
from headwise.reports.page.serialize import page_data
from headwise.text import shell_quote, shortened, token_text, visible
from tests.kit.reports import sink_trace
from tests.kit.traces import META, axis, causal, make_trace, random_pattern


def test_layer_table_is_the_mean_of_the_maps():
    trace = sink_trace()
    frame = entropy(trace).frame.groupby("layer")["normalised_entropy"].mean()
    table = next(table for table in build_content(trace).tables if table.key == "layers")
    assert [row["entropy"] for row in table.records()] == pytest.approx(frame.tolist())


def test_every_panel_of_a_metric_has_one_scale():
    strong, weak = random_pattern(1, 2, 8, 8), random_pattern(1, 2, 8, 8, seed=1) * 0 + 1 / 8
    strong[..., 3] += 5
    patterns = {
        Site("encoder", "self", 0): strong / strong.sum(-1, keepdim=True),
        Site("decoder", "self", 0): causal(weak),
        Site("decoder", "cross", 0): weak,
    }
    content = build_content(make_trace(patterns))
    metric = next(metric for metric in content.metrics if metric.key == "strongest_key")
    assert [panel.label for panel in metric.panels] == ["encoder · self", "decoder · self", "decoder · cross"]
    shown = next(one for one in page_data(content)["metrics"] if one["key"] == "strongest_key")
    assert (shown["low"], shown["high"]) == metric.scale
    assert metric.scale[1] >= max(v for panel in metric.panels for row in panel.cells for v in row)


def test_strongest_key_is_the_largest_column_mean():
    pattern = torch.eye(6)[None, None].repeat(1, 2, 1, 1)
    pattern[0, 1] = 0
    pattern[0, 1, :, 0] = 1
    metric = build_content(make_trace({Site("text", "self", 0): pattern})).metrics[0]
    ((inward, sink),) = metric.panels[0].cells
    assert (inward, sink) == pytest.approx(
        (1 / 4, 1.0)
    )  # the key at 2 is seen by four rows, one of which is its own


def test_share_of_heads_with_a_sink():
    pattern = torch.full((1, 4, 6, 6), 1 / 6)
    pattern[0, 0] = 0
    pattern[0, 0, :, 2] = 1
    trace = make_trace({Site("encoder", "self", 0): pattern})
    assert build_content(trace).sink_share == pytest.approx(1 / 4)
    assert build_content(trace).headlines[1].value == "25 %"


def test_missing_values_stay_blank():
    metric = HeadMap("m", "m", "share", "", (MapPanel("text · self", ("0",), ((0.2, None),)),))
    data = page_data(Content("t", metrics=(metric,)))
    assert data["metrics"][0]["panels"][0]["cells"] == [[0.2, None]]
    empty = HeadMap("m", "m", "share", "", (MapPanel("text · self", ("0",), ((None,),)),))
    assert empty.scale == (0.0, 1.0)


def test_roles_that_a_tower_does_not_have_are_left_out():
    axes = {"text": axis("text", [["bos"] + ["content"] * 7]), "vision": axis("vision", [["image"] * 8])}
    pattern = random_pattern(1, 2, 8, 8)
    trace = make_trace({Site("vision", "self", 0): pattern, Site("text", "self", 0): causal(pattern)}, axes)
    content = build_content(trace)
    panels = next(metric for metric in content.metrics if metric.key == "mass").panels
    expected = {"vision · self · image", "text · self · bos", "text · self · content"}
    assert {panel.label for panel in panels} == expected
    rows = next(table for table in content.tables if table.key == "roles").records()
    assert {f"{row['site']} · {row['role']}" for row in rows} == expected


def test_several_captures_in_one_report_are_said():
    first, second = (entropy(sink_trace(meta=META | {"model": name})) for name in ("a", "b"))
    assert "several captures" in " ".join(build_content([first, second]).warnings)
    assert "several captures" not in " ".join(build_content([first, first]).warnings)


def test_an_input_too_short_for_sinks_still_has_a_report():
    content = build_content(sink_trace(["a", "b", "c"], length=3))
    assert any(warning.startswith("No sinks: No key was seen by 4 rows.") for warning in content.warnings)
    assert content.sink_share is None
    assert "entropy" in content.verdict[0]


def test_padding_is_said_and_left_out():
    axes = {
        "text": axis(
            "text", [["padding"] * 2 + ["bos"] + ["content"] * 7], [["[PAD]"] * 2 + list("abcdefgh")]
        )
    }
    content = build_content(make_trace({Site("text", "self", 0): causal(random_pattern(1, 2, 10, 10))}, axes))
    assert any(warning.startswith("20 % of the text positions are padding") for warning in content.warnings)
    assert [token.text for token in content.examples[0].strips[0].tokens] == list("abcdefgh")
    assert [token.position for token in content.examples[0].strips[0].tokens] == list(range(2, 10))


def test_tokens_carry_the_attention_they_receive():
    content = build_content(sink_trace())
    tokens = content.examples[0].strips[0].tokens
    assert tokens[0].share == max(token.share for token in tokens if token.share is not None)
    assert [token.share is None for token in tokens] == [False] * 9 + [True] * 3
    assert content.largest_share == round_up(tokens[0].share)


def test_image_positions_are_one_token():
    axes = {
        "text": axis(
            "text", [["bos"] + ["image"] * 6 + ["content"] * 5], [["<s>"] + ["<image>"] * 6 + list("abcde")]
        )
    }
    content = build_content(make_trace({Site("text", "self", 0): causal(random_pattern(1, 2, 12, 12))}, axes))
    assert [token.text for token in content.examples[0].strips[0].tokens][:3] == ["<s>", "image × 6", "a"]


def test_text_is_made_visible():
    assert visible("a\u202eb\u2028\ud800\U000e0041") == "a\\u202eb\\u2028\\ud800\\U000e0041"
    assert visible("déjà vu 東京") == "déjà vu 東京"
    assert token_text(" the ") == "␣the␣"
    assert token_text("  ") == "␣␣"
    assert token_text("") == "(empty)"
    assert shortened("a " + "b" * 50 + " c") == "a " + "b" * 39 + "… c"
    assert shell_quote("it's\n") == "$'it\\'s\\n'"
