"""Heads that are known to change: of the circuit, of planted faults, and of two captures."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import headwise as hw
from headwise.errors import CaptureError, InputError
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from headwise.testing import known_circuit
from headwise.testing.circuit import ioi_prompts
from headwise.zoo.own_inputs import samples
from headwise.zoo_checks import faults
from tests.kit.traces import make_trace


class TestKnownHeads:
    def test_a_changed_token_moves_the_heads_that_carry_it(self):
        """IOI `BOS a f b g b h END`: END sees another a through the mover alone; with another b, nothing moves."""
        ids, right, _ = ioi_prompts()[0]
        other = ids.clone()
        other[ids == right] = 11
        example = {"text": ids.tolist(), "reply": [right], "instead": {"text": other.tolist()}}
        subject = hw.wrap(known_circuit())
        found = hw.analyses.head_divergence(subject, example).frame
        moved = found[found["divergence"] > 1e-3]
        assert moved[["layer", "head"]].to_numpy().tolist() == [[2, 0]]
        assert moved["divergence"].item() == pytest.approx(math.sqrt(2), rel=1e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "ratio"), [("muted-heads", 0.07), ("language-prior", 4.0)], ids=lambda value: str(value)
    )
    def test_planted_faults_rank_first(self, vlm, name, ratio):
        """By what they write, the damaged heads changed most, each of them by the planted factor."""
        data = [one.inputs | {"reply": "yes"} for one in samples("vlm", 2)]
        fault = faults.get(name)
        heads = [
            hw.analyses.head_divergence(one, data, how="mask", distance="written").mean()
            for one in (vlm, fault.plant(vlm))
        ]
        ratios = heads[1]["divergence"] / heads[0]["divergence"]
        ranked = heads[0].assign(ratio=ratios, far=np.abs(np.log(ratios))).sort_values("far", ascending=False)
        damaged = {"muted-heads": {(1, 2), (1, 3), (1, 4), (1, 5)}, "language-prior": {(0, 0), (0, 1)}}[name]
        first = ranked.head(len(damaged))
        assert set(zip(first["layer"], first["head"], strict=True)) == damaged
        np.testing.assert_allclose(first["ratio"], ratio, rtol=0.02)


class TestPairs:
    def captured(self, model, ids, **keep):
        with hw.capture(model, stats=False, **keep) as trace, torch.no_grad():
            model(input_ids=ids)
        return trace

    def test_a_capture_is_no_distance_from_itself(self, llama):
        ids = torch.tensor([[5, 6, 7, 8]])
        one, two = (self.captured(llama, ids, heads=True, maps=True) for _ in "12")
        for name in ("trace_divergence", "pattern_divergence"):
            found = hw.analyses.get(name)(one, two)
            assert (found.frame["divergence"] == 0).all()
            assert found.summary == "No head differs."

    def test_a_scaled_head_writes_the_same_and_those_behind_it_differ(self, llama):
        ids = torch.tensor([[5, 6, 7, 8]])
        before = self.captured(llama, ids, heads=True)
        with hw.patch(llama, hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.5)):
            after = self.captured(llama, ids, heads=True)
        frame = hw.analyses.trace_divergence(before, after, distance="relative").frame
        first = frame[frame["layer"] == 0]["divergence"]
        assert (first.drop(1) == 0).all()
        assert first[1] == pytest.approx(0.5, rel=1e-3)
        assert (frame[frame["layer"] > 0]["divergence"] > 0).all()

    def test_rows_that_predict_what_is_generated(self):
        model = hw.testing.tiny_model("llama")
        ids = torch.tensor([[5, 6, 7]])
        traces = []
        for fixes in ((), hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.99)):
            patching = hw.patch(model, fixes) if fixes else nullcontext()
            with patching, hw.capture(model, heads=True) as trace:
                model.generate(ids, max_new_tokens=3, min_new_tokens=3, do_sample=False)
            traces.append(trace)
        site = traces[0].sites[0]
        rows = [(trace.heads[site][0, 2:]) for trace in traces]
        twin = (rows[0] - rows[1]).norm(dim=-1).mean(0)
        found = hw.analyses.trace_divergence(*traces, rows="generated").frame
        np.testing.assert_allclose(found[found["layer"] == 0]["divergence"], twin, rtol=1e-5)

    def test_unlike_captures_are_refused(self):
        site, later = Site("text", "self", 0), Site("text", "self", 1)

        def trace(shape, *sites, **more):
            record = {"positions": torch.arange(3), "z": torch.zeros(1, 3, *shape)} | more
            return Trace(dict.fromkeys(sites or (site,), record), make_trace({}).layout, {})

        one = trace((4, 8))
        for other, words in (
            (trace((2, 16)), r"heads of text self 0: \[0, 1, 2, 3\] and \[0, 1\]"),
            (trace((4, 16)), "width of text self 0: 8 and 16"),
            (trace((4, 8), site, later), "only the second has text self 1"),
            (trace((4, 8), output_heads=torch.tensor([0, 1, 2, 5])), r"heads of .*\[0, 1, 2, 5\]"),
        ):
            with pytest.raises(InputError, match=words):
                hw.analyses.trace_divergence(one, other)
        with pytest.raises(InputError, match="no such rows"):
            hw.analyses.trace_divergence(one, one, rows="generated")
        with pytest.raises(CaptureError, match=r"hw.capture\(subject, heads=True\)"):
            hw.analyses.trace_divergence(make_trace({site: torch.ones(1, 1, 1, 1)}), one)
        with pytest.raises(CaptureError, match=r"hw.capture\(subject, maps=True\)"):
            hw.analyses.pattern_divergence(one, one)
        renamed = trace((4, 8), Site("text", "self", 0, "model.other"))
        assert (hw.analyses.trace_divergence(one, renamed).frame["divergence"] == 0).all()
