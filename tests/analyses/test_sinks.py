"""Attention sinks and their rates: known answers, laws, slow twins, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headwise import analyses
from headwise.analyses import _received
from headwise.errors import CaptureError, InputError
from headwise.layout import TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from tests.kit.analyses import NAMES
from tests.kit.traces import (
    TEXT,
    axis,
    causal,
    detailed,
    make_trace,
    padded_batch,
    plain_axis,
    random_pattern,
    uniform,
)

T = 64
VISION = Site("vision", "self", 0)
DECODER = Site("decoder", "self", 0)
CROSS = Site("decoder", "cross", 0)


def rates(trace, epsilon=0.3):
    frame = analyses.sink_rate(trace, epsilon=epsilon).frame
    return frame.groupby("offset")["rate"].mean().to_numpy()


class TestSinkRate:
    """Known answers of language.md 2.1 (g)."""

    def test_a_flat_map_has_none(self):
        trace = make_trace({TEXT: uniform()})
        assert (rates(trace) == 0).all()
        alpha = analyses.sink_rate(trace).frame["mean_received"].to_numpy()
        np.testing.assert_allclose(alpha[[0, 1, 63]], [0.0741, 0.0594, 0.0156], atol=5e-5)

    def test_all_mass_on_the_first_key(self):
        pattern = torch.zeros(1, 1, T, T)
        pattern[..., 0] = 1
        rate = rates(make_trace({TEXT: pattern}))
        assert rate[0] == 100
        assert (rate[1:] == 0).all()

    def test_the_trap_of_the_identity(self):
        """Each of the last three keys is seen by so few rows that looking at oneself passes for a sink."""
        trace = make_trace({TEXT: torch.eye(T)[None, None]})
        frame = analyses.sink_rate(trace).frame
        assert frame.loc[frame["rate"] > 0, "offset"].tolist() == [61, 62, 63]
        assert frame["rows"].tolist() == list(range(T, 0, -1))
        np.testing.assert_allclose(frame["mean_received"].tail(3), [1 / 3, 1 / 2, 1])
        assert (analyses.sinks(trace).frame["heads"] == 0).all()
        assert (analyses.sinks(trace, min_rows=2).frame.query("heads > 0")["position"].tolist()) == [62, 61]
        assert "first key is a sink in 0.0 %" in analyses.sink_rate(trace).summary

    def test_shares_of_triples(self):
        """Two examples, two layers, two heads; four of the eight triples have the sink."""
        sink = torch.zeros(T, T)
        sink[:, 0] = 1
        flat = uniform()[0, 0]
        layers = {
            Site("text", "self", 0): torch.stack([torch.stack([sink, flat]), torch.stack([sink, sink])]),
            Site("text", "self", 1): torch.stack([torch.stack([sink, flat]), torch.stack([flat, flat])]),
        }
        frame = analyses.sink_rate(make_trace(layers)).frame.query("offset == 0")
        assert frame["rate"].tolist() == [75.0, 25.0]
        assert frame["triples"].tolist() == [4, 4]
        assert "50.0 % of (example, layer, head) triples" in analyses.sink_rate(make_trace(layers)).summary

    def test_the_most_frequent_position_is_named(self):
        pattern = torch.zeros(1, 1, 12, 12)
        pattern[..., 2] = 1
        summary = analyses.sink_rate(make_trace({VISION: pattern})).summary
        assert summary.endswith("most often position 2, 100.0 %.")

    @pytest.mark.parametrize("padding", [(0, 3), (3, 0)])
    def test_left_padding_changes_nothing(self, padding):
        batch, alone = padded_batch(padding)
        frames = [analyses.sink_rate(trace).frame for trace in (batch, *alone)]
        for offset in range(5):
            rate, *single = (frame[frame["offset"] == offset].iloc[0] for frame in frames)
            assert rate["triples"] == sum(row["triples"] for row in single)
            hits = sum(row["rate"] * row["triples"] for row in single)
            np.testing.assert_allclose(rate["rate"] * rate["triples"], hits)


class TestSinks:
    def planted(self, share=0.8, length=16, layers=(1, 2), total=4, position=0):
        """`share` of every row on one key in two of the three heads of the given layers."""
        sites = {}
        for layer in range(total):
            pattern = torch.full((1, 3, length, length), 1 / length)
            if layer in layers:
                pattern[:, :2] = (1 - share) / (length - 1)
                pattern[:, :2, :, position] = share
            sites[Site("vision", "self", layer)] = pattern
        axes = {
            "vision": axis(
                "vision", [["special"] + ["image"] * (length - 1)], [["[CLS]"] + ["·"] * (length - 1)]
            )
        }
        return make_trace(sites, axes)

    def test_the_planted_sink_is_found(self):
        result = analyses.sinks(self.planted())
        assert len(result.frame) == 1
        row = result.frame.iloc[0]
        assert (row["position"], row["offset"], row["token"], row["role"]) == (0, 0, "[CLS]", "special")
        assert (row["heads"], row["share"]) == (4, 4 / 12)
        assert row["peak_layer"] in (1, 2)
        np.testing.assert_allclose(row["peak_received"], (0.8 + 0.8 + 1 / 16) / 3, rtol=1e-5)
        np.testing.assert_allclose(row["mean_received"], (4 * 0.8 + 8 / 16) / 12, rtol=1e-5)
        assert result.summary == (
            "[CLS] (position 0) takes 55 % of the attention in layers 1–2; "
            "4 of 12 heads have a sink (alpha > 0.3)."
        )

    def test_the_same_numbers_by_loops(self):
        site, other = TEXT, Site("text", "self", 1)
        patterns = {
            site: causal(random_pattern(2, 3, 9, 9)),
            other: causal(random_pattern(2, 3, 9, 9, seed=1)),
        }
        frame = analyses.sinks(make_trace(patterns), epsilon=0.15).frame
        stacked = torch.cat(list(patterns.values()), dim=1).double().numpy()
        for example in range(2):
            alpha = np.array([[np.mean(stacked[example, h, j:, j]) for j in range(6)] for h in range(6)])
            listed = frame[frame["example"] == example].sort_values("position")
            assert listed["position"].tolist() == np.nonzero((alpha > 0.15).any(0))[0].tolist()
            np.testing.assert_allclose(listed["mean_received"], alpha.mean(0)[listed["position"]], rtol=1e-5)
            np.testing.assert_array_equal(listed["heads"], (alpha > 0.15).sum(0)[listed["position"]])

    def test_without_a_sink_the_strongest_key_is_named(self):
        result = analyses.sinks(make_trace({TEXT: uniform()}))
        assert result.frame["heads"].tolist() == [0]
        assert result.summary == (
            "[CLS] (position 0) takes 7 % of the attention in layer 0; "
            "0 of 1 heads have a sink (alpha > 0.3)."
        )

    @pytest.mark.parametrize("padding", [(0, 3), (3, 0)])
    def test_left_padding_changes_nothing(self, padding):
        batch, alone = padded_batch(padding)
        frame = analyses.sinks(batch, epsilon=0.2).frame
        for example, trace in enumerate(alone):
            mine = frame[frame["example"] == example].reset_index(drop=True)
            single = analyses.sinks(trace, epsilon=0.2).frame
            assert (mine["position"] - mine["offset"] == padding[example]).all()
            for column in ("offset", "token", "role", "heads", "share", "peak_layer"):
                assert mine[column].tolist() == single[column].tolist()
            np.testing.assert_allclose(mine["mean_received"], single["mean_received"], rtol=1e-5)

    def test_examples_with_different_first_keys_are_counted_together(self):
        sink = torch.zeros(2, 1, 8, 8)
        sink[0, :, :, 0] = 1
        sink[1, :, 3:, 3] = 1
        result = analyses.sinks(make_trace({TEXT: sink}, {"text": plain_axis("text", 2, 8, (0, 3))}))
        assert result.frame["position"].tolist() == [0, 3]
        assert result.summary.startswith("[CLS] (position 0 after the padding) takes 100 % of the attention")
        assert "2 of 2 (example, head) pairs have a sink" in result.summary

    def test_shards_say_as_much_as_their_table_knows(self):
        """The token, the layers, the share and whose sink it is, by hand of the tables of both shards."""
        shards = [analyses.sinks(self.planted(length=length)) for length in (16, 20)]
        merged = analyses.merge(shards)
        share = np.mean([(0.8 + 0.8 + 1 / length) / 3 for length in (16, 20)])
        assert merged.summary == (
            f"[CLS] (position 0) takes {100 * share:.0f} % of the attention in layer 1, where it is strongest; "
            "it is a sink (alpha > 0.3) of 8 of 24 (example, head) pairs, in 2 of 2 examples."
        )
        none = analyses.merge([analyses.sinks(make_trace({TEXT: uniform()}))] * 2)
        assert none.summary.endswith("it is a sink (alpha > 0.3) of no head, in 0 of 2 examples.")
        assert all(not result.frame.attrs for result in (*shards, merged))

    def test_received_attention_is_gathered_once(self, monkeypatch):
        sites, trace = [], detailed(self.planted())
        real = _received._aligned
        monkeypatch.setattr(_received, "_aligned", lambda *given: sites.append(given) or real(*given))
        for analysis in map(analyses.get, NAMES["trace"]):
            sites.clear()
            if analysis.writes:  # an encoder writes nothing
                continue
            analysis(trace)
            assert len(sites) <= len(trace.sites), analysis

    def test_examples_that_differ_name_no_token(self):
        pattern = torch.zeros(2, 1, 6, 6)
        pattern[..., 1] = 1
        axes = {"text": axis("text", [["content"] * 6] * 2, [["a", "b", "c", "d", "e", "f"], ["a"] * 6])}
        summary = analyses.sinks(make_trace({TEXT: pattern}, axes, causal=False)).summary
        assert summary.startswith("The key at position 1 takes 100 %")

    def test_towers_are_kept_apart_and_all_named(self):
        axes = {"decoder": plain_axis("decoder", 1, 6), "encoder": plain_axis("encoder", 1, 9)}
        patterns = {DECODER: causal(random_pattern(1, 2, 6, 6)), CROSS: random_pattern(1, 2, 6, 9)}
        result = analyses.sinks(make_trace(patterns, axes))
        assert set(zip(result.frame["tower"], result.frame["kind"], strict=True)) == {
            ("decoder", "self"),
            ("decoder", "cross"),
        }
        assert "decoder self: " in result.summary
        assert "; decoder cross: " in result.summary

    def test_a_tower_with_too_few_rows_is_named(self):
        patterns = {TEXT: causal(random_pattern(1, 1, 8, 8)), VISION: random_pattern(1, 1, 3, 3)}
        result = analyses.sinks(make_trace(patterns))
        assert set(result.frame["tower"]) == {"text"}
        assert "vision self: left out, no key was seen by 4 rows" in result.summary

    def test_sites_of_different_sizes(self):
        """Towers with windows: another number of examples and keys per layer."""
        patterns = {
            Site("vision", "self", 0): random_pattern(4, 2, 5, 5),
            Site("vision", "self", 1): random_pattern(1, 4, 7, 7),
        }
        records = {site: make_trace({site: pattern}).records[site] for site, pattern in patterns.items()}
        trace = Trace(records, TokenLayout({}), {})
        frame = analyses.sinks(trace, epsilon=0.1).frame
        assert set(frame["example"]) == {0, 1, 2, 3}
        assert frame["token"].isna().all()
        assert analyses.sink_rate(trace).frame.query("layer == 0 and offset == 0")["triples"].item() == 8

    @pytest.mark.parametrize("epsilon", [0.0, 1.0, -1.0, float("nan")])
    def test_epsilon_is_a_share(self, epsilon):
        trace = make_trace({TEXT: uniform(8)})
        for analysis in (analyses.sinks, analyses.sink_rate):
            with pytest.raises(InputError, match="epsilon is a share"):
                analysis(trace, epsilon=epsilon)

    def test_too_short_an_input_raises(self):
        trace = make_trace({TEXT: uniform(3)})
        with pytest.raises(CaptureError, match=r"No key was seen by 4 rows. \(the most is 3\)"):
            analyses.sinks(trace)
        with pytest.raises(InputError, match="min_rows"):
            analyses.sinks(trace, min_rows=0)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_what_goes_to_a_sink_logit_stands_beside_the_sinks(share):
    """Rows of two layers that add up to less than one: the rest went to a logit, as in gpt-oss."""
    pattern = causal(random_pattern(1, 2, 8, 8))
    trace = make_trace({TEXT: pattern * (1 - share), Site("text", "self", 1): pattern * (1 - 3 * share)})
    result = analyses.sinks(trace)
    np.testing.assert_allclose(result.frame["to_logit"], 2 * share, atol=1e-6)
    assert ("sink logits take 50 % of the attention" in result.summary) == (share > 0)
