"""The numbers of a report against the analyses, and against patterns worked by hand."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from headwise.analyses import distance, entropy
from headwise.errors import InputError
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from headwise.reports.collect.build import build_content
from headwise.reports.collect.examples import trimmed
from headwise.reports.content.shown_example import Matrix
from headwise.reports.page.page import render
from headwise.reports.page.serialize import UNKNOWN, page_blobs, page_data
from tests.kit.reports import planted_trace
from tests.kit.traces import axis, causal, make_trace, random_pattern

TEXT = [Site("text", "self", layer, f"layers.{layer}") for layer in range(2)]


def two_layers(seed=0, *, examples=3, length=9):
    """Two causal layers of four heads."""
    patterns = {
        site: causal(random_pattern(examples, 4, length, length, seed=seed + number))
        for number, site in enumerate(TEXT)
    }
    return make_trace(patterns)


def metric_of(content, key):
    return next(metric for metric in content.metrics if metric.key == key)


def unpacked(content, name):
    return zlib.decompress(base64.b64decode(page_blobs(content)[name]))


@pytest.mark.parametrize(("key", "analysis", "value"), [
    ("entropy", entropy, "normalised_entropy"), ("distance", distance, "distance"),
])  # fmt: skip
def test_a_cell_is_the_mean_of_the_analysis_over_examples(key, analysis, value):
    trace = two_layers()
    frame = analysis(trace).frame
    (panel,) = metric_of(build_content(trace), key).panels
    for layer in range(2):
        for head in range(4):
            own = frame[(frame["layer"] == layer) & (frame["head"] == head)]
            assert panel.cells[layer][head] == pytest.approx(own[value].mean(), rel=1e-6)
            assert panel.by_example[:, layer, head] == pytest.approx(own[value].to_numpy(), rel=1e-6)


def test_the_values_of_examples_survive_their_two_bytes():
    content = build_content(two_layers())
    beyond = 0
    for metric, shown in zip(content.metrics, page_data(content)["metrics"], strict=True):
        if shown["panels"][0]["examples"] is None:
            continue
        codes = np.frombuffer(unpacked(content, f"examples-{metric.key}-0"), "<u2").reshape(3, 2, 4)
        low, high = shown["panels"][0]["ends"]
        values = low + codes * (high - low) / (UNKNOWN - 1)
        assert values == pytest.approx(metric.panels[0].by_example, abs=1e-4)
        beyond += values.max() > shown["high"]
    assert beyond  # an example can lie beyond the scale of the means


def test_a_difference_is_after_minus_before():
    before, after = two_layers(), two_layers(seed=5)
    content = build_content([before, after])
    (panel,) = metric_of(content, "entropy").panels
    (alone,) = metric_of(build_content(after), "entropy").panels
    assert panel.cells == metric_of(build_content(before), "entropy").panels[0].cells
    assert panel.after == alone.cells
    changes = np.array(panel.after) - np.array(panel.cells)
    assert metric_of(content, "entropy").spread >= np.abs(changes).max()


def test_traces_and_examples_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="not of the same model on the same examples"):
        build_content([two_layers(), two_layers(examples=2)])
    with pytest.raises(InputError, match="not those of the trace"):
        build_content(two_layers(), examples=[{"text": "only one"}])


def test_the_page_says_over_how_many_examples_its_means_are():
    content = build_content(two_layers(examples=20))
    assert len(content.examples) == 16
    assert "mean over 20 examples" in render(content)


def test_patterns_are_the_largest_weight_over_examples():
    trace = two_layers()
    (group,) = build_content(trace).groups
    maps = torch.stack([trace.maps[site] for site in trace.maps], 1)  # (example, layer, head, row, key)
    assert group.patterns.shape == (2, 4, 9, 9)
    expected = (255 * maps.amax(0).sqrt()).round().numpy()
    assert np.abs(group.patterns - expected).max() <= 1
    own = {(one.example, one.layer, one.head): one.pixels for one in group.own}
    assert len(own) == 3 * 2 * 4
    assert np.abs(own[2, 1, 3] - (255 * maps[2, 1, 3].sqrt()).round().numpy()).max() <= 1


def test_patterns_begin_at_the_first_real_token():
    axes = {"text": axis("text", [["padding"] * 3 + ["bos"] + ["content"] * 6, ["bos"] + ["content"] * 9])}
    pattern = torch.zeros(2, 1, 10, 10)
    pattern[0, 0, 3:, 3] = 1
    pattern[1, 0, :, 0] = 1
    (group,) = build_content(make_trace({TEXT[0]: pattern}, axes)).groups
    own = {one.example: one.pixels for one in group.own}
    assert own[0][:7, 0].tolist() == [255] * 7
    assert own[0][7:].max() == 0  # behind the shorter example
    assert own[0][:, 1:].max() == 0
    assert own[1][:, 0].tolist() == [255] * 10
    assert {(key.example, key.position, key.share) for key in group.top[0][0]} == {(0, 3, 1.0), (1, 0, 1.0)}


def test_room_that_was_not_used_is_not_shown():
    from headwise.reports.collect.heads import groups_of
    from headwise.reports.collect.patterns import pattern_thumbnails
    from headwise.reports.collect.shares import key_shares

    trace = two_layers(length=6)
    thumbnails = pattern_thumbnails(trace, {}, longest={"text": 10})
    (group,) = groups_of(trace, key_shares(trace), thumbnails, ())
    assert group.patterns.shape == (2, 4, 6, 6)


def test_the_histogram_counts_rows_by_entropy():
    pattern = torch.zeros(1, 2, 5, 5)
    pattern[0, 0, :, 0] = 1  # one key: entropy 0
    pattern[0, 1] = causal(torch.ones(5, 5))  # flat: entropy 1
    (group,) = build_content(make_trace({TEXT[0]: pattern})).groups
    assert group.histogram[0, 0].tolist() == [4, *[0] * 9]  # the first row sees one key and has no entropy
    assert group.histogram[0, 1].tolist() == [*[0] * 9, 4]


def test_top_keys_are_the_largest_mean_received_attention():
    pattern = torch.zeros(1, 1, 8, 8)
    pattern[0, 0, :, 0] = 0.5
    pattern[0, 0, range(8), range(8)] += 0.5
    pattern[0, 0, 4:, 2] = 0.4
    pattern[0, 0, 4:, 0] = 0.1
    trace = make_trace({TEXT[0]: pattern})
    (group,) = build_content(trace).groups
    first, second = group.top[0][0][:2]
    zero = (1.0 + 3 * 0.5 + 4 * 0.1) / 8
    two = (0.5 + 0 + 4 * 0.4) / 6  # seen by the rows 2 to 7
    assert [(first.position, first.share), (second.position, second.share)] == [
        (0, pytest.approx(zero)), (2, pytest.approx(two)),
    ]  # fmt: skip
    assert first.text == "[CLS]"
    codes = group.received[0, 0, 0]
    assert (codes[0] / 254) ** 2 == pytest.approx(zero, abs=0.005)
    assert codes[5:].tolist() == [255] * 3  # fewer than four rows see them


@pytest.fixture
def planted():
    return planted_trace()


def test_the_overlay_is_in_raster_order_and_of_the_text(planted):
    picture = build_content(planted, examples=[{"image": Image.new("RGB", (40, 30))}]).examples[0].picture
    assert picture.grid == (3, 4)
    assert picture.shares.shape == (3, 4)
    assert picture.shares[1, 2] == pytest.approx(0.4)  # mean of 0 and 0.8
    assert np.delete(picture.shares.ravel(), 6).max() == 0
    assert (picture.group, picture.start) == ("text", 2)
    assert picture.places == {"text": ((3, 4), 2), "vision": ((3, 4), 0)}


def test_a_tower_whose_rows_are_images_lends_no_overlay(planted):
    tower = planted.layout.axes["vision"]
    rows = replace(tower, roles=tower.roles.repeat(2, 1), ids=None, images=(*tower.images, *tower.images))
    layout = replace(planted.layout, axes={**planted.layout.axes, "vision": rows})
    several = Trace(planted.records, layout, planted.meta)
    picture = build_content(several, examples=[{"image": Image.new("RGB", (40, 30))}]).examples[0].picture
    assert picture.places == {"text": ((3, 4), 2)}


def test_the_head_of_a_planted_patch_has_it_as_its_first_key(planted):
    group = next(group for group in build_content(planted).groups if group.key == "text")
    assert group.top[0][1][0].position == 2 + 6
    assert group.received[0, 0, 1, 8] == round(254 * 0.8**0.5)
    assert group.columns == "text"


def without_patterns(trace):
    records = {
        site: {name: value for name, value in record.items() if name != "maps"}
        for site, record in trace.records.items()
    }
    return Trace(records, trace.layout, trace.meta)


def test_shading_without_sinks_is_of_what_they_leave():
    pattern = torch.zeros(1, 2, 8, 8)
    pattern[0, :, :, 0] = 0.6  # a sink of every head
    pattern[0, :, :, 1] = 0.1
    pattern[0, :, range(8), range(8)] += 0.3
    pattern[0, :, 0] = 0
    pattern[0, :, 0, 0] = 1
    trace = make_trace({TEXT[0]: pattern})
    tokens = build_content(trace).examples[0].strips[0].tokens
    share = (7 * 0.1 + 0.3) / 7  # the rows 1 to 7 see it, and the first gives it 0.4
    assert tokens[0].share == pytest.approx((1 + 7 * 0.6) / 8)
    assert tokens[0].rest is None
    assert tokens[1].share == pytest.approx(share)
    assert tokens[1].rest == pytest.approx((1 + 6 * 0.25) / 7)
    assert tokens[2].rest == pytest.approx(0.75 / 6)
    estimate = build_content(without_patterns(trace)).examples[0].strips[0].tokens[1]
    assert estimate.share == pytest.approx(share)
    assert estimate.rest == pytest.approx(share / (1 - (1 + 7 * 0.6) / 8))


def test_no_share_without_sinks_is_more_than_all():
    pattern = torch.zeros(1, 2, 8, 8)
    pattern[0, :, :, 0] = 0.8
    pattern[0, :, :, 1] = 0.2
    pattern[0, :, 0] = 0
    pattern[0, :, 0, 0] = 1
    for trace in (make_trace({TEXT[0]: pattern}), without_patterns(make_trace({TEXT[0]: pattern}))):
        assert build_content(trace).examples[0].strips[0].tokens[1].rest == pytest.approx(1)


@pytest.mark.parametrize("tower", ["text", "encoder"])
def test_shares_per_role_sum_to_one_with_and_without_sinks(tower):
    roles = [["bos", "content", "punctuation", "content", *["content"] * 5, "eos"]] * 2
    patterns = {}
    for layer in range(2):
        pattern = random_pattern(2, 4, 10, 10, seed=layer)
        pattern[..., 0] += 2 * layer + 1
        pattern = pattern / pattern.sum(-1, keepdim=True)
        patterns[Site(tower, "self", layer)] = causal(pattern) if tower == "text" else pattern
    content = build_content(make_trace(patterns, {tower: axis(tower, roles)}))
    table = next(table for table in content.tables if table.key == "roles").records()
    assert {row["role"] for row in table} == {"bos", "content", "punctuation", "eos"}
    assert sum(row["mean"] for row in table) == pytest.approx(1, abs=1e-5)
    assert sum(row["without_sinks"] or 0 for row in table) == pytest.approx(1, abs=1e-5)
    assert next(row["without_sinks"] for row in table if row["role"] == "bos") in (None, 0, pytest.approx(0))


def test_cross_attention_is_trimmed_to_the_sound():
    weights = np.full((2, 10), 0.1)
    matrix = Matrix("decoder-cross", weights, ("a", "b"), (), seconds=2.0)
    shown = trimmed(matrix, 1.3)  # ends within the seventh column, which is kept
    assert shown.weights.shape == (2, 7)
    assert shown.seconds == pytest.approx(1.4)
    assert shown.beyond == pytest.approx(0.3)
    assert trimmed(matrix, 2.0) is matrix
    assert trimmed(matrix, 30.0) is matrix


def test_a_result_beside_its_trace_is_shown_once():
    trace = two_layers()
    keys = [metric.key for metric in build_content([trace, entropy(trace)]).metrics]
    assert keys == [metric.key for metric in build_content(trace).metrics]
    both = build_content([entropy(trace), entropy(two_layers(seed=3))])
    assert [metric.key for metric in both.metrics] == ["entropy", "entropy_2"]
