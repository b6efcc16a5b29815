"""Several runs of one capture become one: examples behind one another, rows at their absolute positions."""

from __future__ import annotations

import pytest
import torch

from headwise.layout import ROLES, ImageSpan, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import FIELDS, merge_layouts, merge_records
from headwise.probes.trace.trace import Trace
from tests.kit.traces import TEXT, axis, make_trace, plain_axis, random_pattern

VISION = Site("vision", "self", 0)
CROSS = Site("text", "cross", 1)

QUERY_AXIS = {"entropy": 2, "maps": 2, "z": 1}


def run(length, examples=1, seed=0, site=TEXT):
    record = dict(make_trace({TEXT: random_pattern(examples, 2, length, length, seed=seed)}).records[TEXT])
    rng = torch.Generator().manual_seed(seed)
    record["z"] = torch.randn(examples, length, 2, 3, generator=rng)
    record["residual"] = torch.randn(examples, length, 6, generator=rng)
    record["v"] = torch.randn(examples, 1, length, 3, generator=rng)
    return {site: record}


def test_one_run_is_handed_on_untouched():
    single = run(4)
    single[TEXT]["v_heads"] = torch.zeros(1, 2, 4, 3, requires_grad=True)
    merged = merge_records([single])
    assert merged[TEXT] is single[TEXT]
    layout = TokenLayout({})
    assert merge_layouts([layout]) is layout


def test_the_longer_run_is_kept_and_the_shorter_padded():
    long, short = run(5, seed=1), run(3, examples=2, seed=2)
    merged = merge_records([short, long])[TEXT]
    assert merged["positions"].tolist() == [0, 1, 2, 3, 4]
    for name, tensor in merged.items():
        if name == "positions":
            continue
        axes = FIELDS[name]
        first = tensor[:2]
        for dim, kind in enumerate(axes):
            if kind in ("query", "row", "key"):
                first = first.narrow(dim, 0, 3)
        torch.testing.assert_close(first, short[TEXT][name], equal_nan=True, rtol=0, atol=0)
        torch.testing.assert_close(tensor[2:], long[TEXT][name], equal_nan=True, rtol=0, atol=0)
    assert merged["maps"][:2, :, :3, 3:].eq(0).all()
    assert merged["maps"][:2, :, 3:].isnan().all()
    assert merged["received"][:2, :, 3:].isnan().all()
    assert merged["n_keys"][:2, 3:].isnan().all()
    assert merged["v"][:2, :, 3:].isnan().all()


def test_rows_go_to_their_absolute_positions():
    """One run kept rows 0 and 3, the other 2 and 3."""
    runs = []
    for rows, seed in (([0, 3], 1), ([2, 3], 2)):
        record = run(4, seed=seed)[TEXT]
        cut = {"positions": torch.tensor(rows)}
        for name in ("entropy", "maps", "z"):
            cut[name] = record[name].index_select(QUERY_AXIS[name], torch.tensor(rows))
        runs.append({TEXT: cut})
    merged = merge_records(runs)[TEXT]
    assert merged["positions"].tolist() == [0, 2, 3]
    for name, dim in (("entropy", 2), ("maps", 2), ("z", 1)):
        first, second = merged[name].unbind(0)
        assert first.select(dim - 1, 1).isnan().all()
        assert second.select(dim - 1, 0).isnan().all()
        torch.testing.assert_close(first.index_select(dim - 1, torch.tensor([0, 2])), runs[0][TEXT][name][0])
        torch.testing.assert_close(second.index_select(dim - 1, torch.tensor([1, 2])), runs[1][TEXT][name][0])


def test_a_site_that_one_run_did_not_reach_keeps_the_examples_in_step():
    with_cross = run(3, examples=2) | run(4, examples=2, site=CROSS, seed=3)
    for runs, missing in (([run(3), with_cross], slice(0, 1)), ([with_cross, run(3)], slice(2, 3))):
        record = merge_records(runs)[CROSS]
        assert record["maps"].shape[0] == 3
        assert record["maps"][missing].isnan().all()
        assert record["received"][missing].isnan().all()
        assert not record["received"].isnan().all()


def test_a_run_without_a_tower_adds_nothing_to_it():
    merged = merge_records([run(3), run(3) | run(4, site=VISION)])
    assert merged[TEXT]["maps"].shape[0] == 2
    assert merged[VISION]["maps"].shape[0] == 1


def test_several_runs_lose_their_graph():
    runs = [run(3), run(3)]
    for part in runs:
        part[TEXT]["maps"] = part[TEXT]["maps"].requires_grad_()
        part[TEXT]["v_heads"] = torch.zeros(1, 2, 3, 3, requires_grad=True)
    merged = merge_records(runs)[TEXT]
    assert "v_heads" not in merged
    assert not merged["maps"].requires_grad


def test_a_merged_trace_gives_each_example_the_numbers_it_has_alone():
    texts = [make_trace({TEXT: random_pattern(1, 2, n, n, seed=n)}) for n in (3, 6)]
    merged = Trace(
        merge_records([trace.records for trace in texts]),
        merge_layouts([trace.layout for trace in texts]),
        {},
    )
    for level in ("head", "query", "key"):
        frame = merged.to_frame(level)
        for example, trace in enumerate(texts):
            mine = frame[frame["example"] == example].drop(columns="example").reset_index(drop=True)
            assert mine.equals(trace.to_frame(level).drop(columns="example"))


class TestLayouts:
    def test_examples_follow_one_another(self):
        image = axis("text", [["bos", "image", "image", "content"]], [["<s>", "i", "i", "a"]])
        image = type(image)("text", image.roles, tokens=image.tokens, images=(ImageSpan(0, 0, 1, 2, (1, 2)),))
        merged = merge_layouts(
            [TokenLayout({"text": plain_axis("text", 2, 3)}), TokenLayout({"text": image})]
        )
        text = merged.axes["text"]
        assert text.roles.shape == (3, 4)
        assert text.roles.dtype == torch.uint8
        assert text.roles[0, 3] == ROLES.index("padding")
        assert text.tokens == (("[CLS]", "w1", "w2", ""), ("[CLS]", "w1", "w2", ""), ("<s>", "i", "i", "a"))
        assert text.images == (ImageSpan(2, 0, 1, 2, (1, 2)),)

    def test_what_one_run_does_not_know_is_dropped(self):
        known = plain_axis("text", 1, 2)
        known = type(known)("text", known.roles, ids=torch.tensor([[1, 2]]), tokens=known.tokens)
        bare = type(known)("text", known.roles)
        merged = merge_layouts([TokenLayout({"text": known}), TokenLayout({"text": bare})]).axes["text"]
        assert merged.ids is None
        assert merged.tokens is None
        both = merge_layouts([TokenLayout({"text": known})] * 2).axes["text"]
        assert both.ids is not None
        assert both.ids.tolist() == [[1, 2], [1, 2]]

    @pytest.mark.parametrize(("shift", "kept"), [(0.0, True), (0.5, False)])
    def test_seconds_are_kept_where_runs_agree(self, shift, kept):
        def sound(length, shift=0.0):
            start = torch.arange(length) * 0.02 + shift
            base = axis("encoder", [["audio"] * length])
            return TokenLayout(
                {"encoder": type(base)("encoder", base.roles, seconds=torch.stack([start, start + 0.02], 1))}
            )

        seconds = merge_layouts([sound(3, shift), sound(5)]).axes["encoder"].seconds
        assert (seconds is not None and len(seconds) == 5) == kept
