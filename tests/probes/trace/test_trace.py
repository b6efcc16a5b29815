"""The trace: what it holds, what it refuses, gradients, tidy tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headwise.errors import CaptureError, InputError
from headwise.layout import ROLES, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from tests.kit.traces import TEXT, make_trace, plain_axis, random_pattern

VISION = Site("vision", "self", 0, "vision.0")
DECODER = Site("decoder", "self", 0, "dec.0")
CROSS = Site("decoder", "cross", 0, "dec.0.x")


def causal_pattern(examples=1, heads=2, length=5, seed=0):
    p = random_pattern(examples, heads, length, length, seed=seed).tril()
    return p / p.sum(-1, keepdim=True)


class TestReading:
    def test_an_open_trace_says_so(self):
        trace = Trace()
        assert repr(trace) == "Trace(open)"
        for name in ("records", "layout", "meta", "sites", "maps", "warnings", "unreached"):
            with pytest.raises(CaptureError, match="capture is still open"):
                getattr(trace, name)
        with pytest.raises(CaptureError, match="capture is still open"):
            trace.to_frame("head")

    def test_fields_are_views_of_the_same_tensors(self):
        pattern = causal_pattern()
        trace = make_trace({TEXT: pattern})
        assert list(trace.maps) == [TEXT]
        assert trace.maps[TEXT] is trace.records[TEXT]["maps"]
        assert trace.positions[TEXT].tolist() == [0, 1, 2, 3, 4]

    def test_nothing_can_be_written(self):
        trace = make_trace({TEXT: causal_pattern()}, meta={"model": "m"})
        for mapping in (trace.records, trace.records[TEXT], trace.meta, trace.maps):
            with pytest.raises(TypeError):
                mapping["x"] = 1
        with pytest.raises(AttributeError):
            trace.sites = ()

    @pytest.mark.parametrize(
        ("name", "option"),
        [
            ("heads", "heads=True"),
            ("residual", "residual=True"),
            ("queries", "qkv=True"),
            ("keys", "qkv=True"),
            ("values", "qkv=True"),
        ],
    )
    def test_a_missing_field_names_the_option(self, name, option):
        trace = make_trace({TEXT: causal_pattern()})
        with pytest.raises(CaptureError, match="This trace holds no") as error:
            getattr(trace, name)
        assert option in str(error.value)

    def test_missing_maps_name_the_option(self):
        trace = Trace({TEXT: {"positions": torch.arange(2), "z": torch.zeros(1, 2, 1, 3)}})
        with pytest.raises(CaptureError, match=r"holds no maps.*it holds positions, z.*maps=True"):
            _ = trace.maps

    def test_an_unknown_site_lists_close_ones(self):
        trace = make_trace({TEXT: causal_pattern(), Site("text", "self", 1): causal_pattern()})
        with pytest.raises(CaptureError, match="close: text self 1"):
            trace.maps[Site("text", "self", 11)]
        assert Site("text", "self", 11) not in trace.maps
        assert trace.maps.get(Site("text", "self", 11)) is None

    def test_a_site_is_found_by_its_layer(self):
        sites = [VISION, TEXT, Site("text", "self", 1), Site("text", "self", 1, call=1)]
        trace = make_trace({site: causal_pattern() for site in sites})
        assert trace.sites == tuple(sites)
        assert trace.site(1) == sites[2]
        assert trace.site(1, call=1) == sites[3]
        assert trace.site(0, tower="vision") == VISION
        assert make_trace({VISION: causal_pattern()}).site(0) == VISION
        with pytest.raises(CaptureError, match="holds no text self 7"):
            trace.site(7)
        with pytest.raises(CaptureError, match="towers: vision, qformer"):
            make_trace({VISION: causal_pattern(), Site("qformer", "self", 0): causal_pattern()}).site(0)

    def test_repr_is_one_line(self):
        trace = make_trace({TEXT: causal_pattern(examples=3)})
        size = sum(t.nbytes for t in trace.records[TEXT].values()) / 1e6
        assert repr(trace) == (
            "Trace(1 site, 3 examples, entropy maximum lse distance n_keys mass received n_queries maps, "
            f"{size:.1f} MB)"
        )

    def test_warnings_and_unreached_come_from_meta(self):
        trace = make_trace(
            {TEXT: causal_pattern()}, meta={"warnings": ["w"], "unreached": ["a.b"], "examples": 4}
        )
        assert (trace.warnings, trace.unreached, trace.examples) == (("w",), ("a.b",), 4)


class TestGradients:
    @pytest.fixture
    def graph(self):
        """One grouped attention by hand: 4 heads, 2 key heads, z = P v."""
        rng = torch.Generator().manual_seed(1)
        scores = torch.randn(2, 4, 5, 5, generator=rng, requires_grad=True)
        pattern = scores.softmax(-1)
        v_heads = torch.randn(2, 2, 5, 3, generator=rng, requires_grad=True).repeat_interleave(2, 1)
        z = (pattern @ v_heads).transpose(1, 2)
        for tensor in (pattern, v_heads, z):
            tensor.retain_grad()
        trace = Trace(
            {TEXT: {"positions": torch.arange(5), "maps": pattern, "v_heads": v_heads, "z_graph": z}}
        )
        return trace, pattern, (z.sin() * torch.randn(z.shape, generator=rng)).sum()

    def test_attribution_equals_pattern_times_gradient(self, graph):
        trace, pattern, loss = graph
        loss.backward()
        product = (pattern * pattern.grad).detach()
        torch.testing.assert_close(trace.attribution(TEXT), product.sum(2))
        torch.testing.assert_close(trace.attribution(TEXT, per="query"), product.sum(3))
        assert trace.map_gradients[TEXT] is pattern.grad

    def test_before_backward_there_is_nothing(self, graph):
        trace, _, _ = graph
        for ask in (lambda: trace.attribution(TEXT), lambda: trace.map_gradients[TEXT]):
            with pytest.raises(CaptureError, match=r"gradients=True\), then call loss.backward"):
                ask()

    def test_a_capture_without_gradients_says_how(self):
        trace = make_trace({TEXT: causal_pattern()})
        with pytest.raises(CaptureError, match=r"kept no gradients.*capture\(..., gradients=True\)"):
            trace.attribution(TEXT)
        with pytest.raises(CaptureError, match="has no gradient"):
            trace.map_gradients[TEXT]
        with pytest.raises(CaptureError, match="This trace holds no vision self 0"):
            trace.attribution(VISION)
        with pytest.raises(InputError, match="per key or per query"):
            trace.attribution(TEXT, per="head")


class TestFrames:
    def test_keys_by_hand(self):
        pattern = torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]]])
        frame = make_trace({TEXT: pattern}).to_frame("key")
        assert frame.columns.tolist() == [
            *("example", "tower", "kind", "layer", "call", "head", "position", "token", "role"),
            *("received", "mean_received", "n_queries"),
        ]
        assert frame["token"].tolist() == ["[CLS]", "w1"]
        assert frame["role"].tolist() == ["special", "content"]
        assert frame["received"].tolist() == [1.25, 0.75]
        assert frame["mean_received"].tolist() == [0.625, 0.75]
        assert frame["n_queries"].tolist() == [2, 1]

    def test_queries_by_hand(self):
        pattern = torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]]])
        frame = make_trace({TEXT: pattern}).to_frame("query")
        nats = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
        np.testing.assert_allclose(frame["entropy"], [0, nats], rtol=1e-6)
        assert frame["maximum"].tolist() == [1.0, 0.75]
        assert frame["distance"].tolist() == [0.0, 0.25]
        assert frame["n_keys"].tolist() == [1, 2]
        assert frame["mass_special"].tolist() == [1.0, 0.25]
        assert frame["mass_content"].tolist() == [0.0, 0.75]
        assert "mass_image" not in frame
        assert frame["lse"].isna().all()

    def test_heads_leave_out_rows_without_a_choice(self):
        pattern = torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]]])
        frame = make_trace({TEXT: pattern}).to_frame("head")
        nats = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
        assert len(frame) == 1
        np.testing.assert_allclose(frame["entropy"], nats, rtol=1e-6)
        np.testing.assert_allclose(frame["normalised_entropy"], nats / np.log(2), rtol=1e-6)
        np.testing.assert_allclose(frame["relative_distance"], 0.25)
        np.testing.assert_allclose(frame["distance"], 0.125)
        np.testing.assert_allclose(frame["mass_special"], 0.625)

    @pytest.mark.parametrize("level", ["head", "query", "key"])
    def test_padding_is_left_out(self, level):
        pattern = torch.zeros(2, 2, 5, 5)
        pattern[0] = causal_pattern()[0]
        pattern[1, :, 2:, 2:] = causal_pattern(length=3)[0]
        batch = make_trace({TEXT: pattern}, {"text": plain_axis("text", 2, 5, padding=(0, 2))}).to_frame(
            level
        )
        alone = make_trace({TEXT: causal_pattern(length=3)}).to_frame(level)
        second = batch[batch["example"] == 1].reset_index(drop=True).drop(columns="example")
        if level != "head":
            second["position"] -= 2
        alone = alone.drop(columns="example")
        assert (second["token"].tolist() == alone["token"].tolist()) if level != "head" else True
        for column in alone.select_dtypes("number"):
            np.testing.assert_allclose(second[column], alone[column], rtol=1e-6, err_msg=column)

    def test_the_keys_of_cross_attention_lie_on_the_source(self):
        axes = {"decoder": plain_axis("decoder", 1, 2), "encoder": plain_axis("encoder", 1, 4)}
        trace = make_trace({DECODER: causal_pattern(length=2), CROSS: random_pattern(1, 2, 2, 4)}, axes)
        keys = trace.to_frame("key").query("kind == 'cross'")
        assert keys["token"].tolist() == ["[CLS]", "w1", "w2", "w3"] * 2
        queries = trace.to_frame("query").query("kind == 'cross'")
        assert queries["token"].tolist() == ["[CLS]", "w1"] * 2
        assert queries["distance"].isna().all()

    def test_positions_without_a_layout_have_no_names(self):
        trace = make_trace({TEXT: causal_pattern()})
        bare = Trace(trace.records, TokenLayout({}), {})
        for level in ("query", "key"):
            frame = bare.to_frame(level)
            assert frame["token"].isna().all()
            assert frame["role"].isna().all()
        assert {"mass_special", "mass_content"} <= set(bare.to_frame("head"))

    def test_ids_stand_in_for_tokens(self):
        trace = make_trace({TEXT: causal_pattern()})
        axis = trace.layout.axes["text"]
        ids = torch.tensor([[7, 8, 9, 10, 11]])
        named = TokenLayout({"text": type(axis)("text", axis.roles, ids=ids)})
        assert Trace(trace.records, named, {}).to_frame("key")["token"].tolist()[:5] == [
            "7",
            "8",
            "9",
            "10",
            "11",
        ]

    def test_half_precision_is_widened(self):
        record = dict(make_trace({TEXT: causal_pattern()}).records[TEXT])
        half = {name: t if name == "positions" else t.bfloat16() for name, t in record.items()}
        frame = Trace({TEXT: half}, TokenLayout({}), {}).to_frame("query")
        assert frame["entropy"].dtype == np.float32

    def test_without_statistics_there_is_no_table(self):
        maps = Trace({TEXT: {"positions": torch.arange(2), "maps": torch.ones(1, 1, 2, 2)}})
        for trace in (maps, Trace({})):
            with pytest.raises(CaptureError, match="holds no statistics"):
                trace.to_frame("head")
        with pytest.raises(InputError, match="no table of level 'token'"):
            maps.to_frame("token")

    def test_roles_with_no_weight_are_listed_when_the_layout_has_them(self):
        axis = plain_axis("text", 1, 3)
        roles = axis.roles.clone()
        roles[0, 2] = ROLES.index("image")
        pattern = torch.zeros(1, 1, 3, 3)
        pattern[..., 0] = 1
        trace = make_trace({TEXT: pattern}, {"text": type(axis)("text", roles)})
        assert trace.to_frame("head")["mass_image"].tolist() == [0.0]
