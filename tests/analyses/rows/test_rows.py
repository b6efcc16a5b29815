"""Analyses of rows: known answers, twins, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import headwise as hw
from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.rhythm import kurtosis, peaks, rows_behind, windowed_distance
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from headwise.testing.models import shared_model
from tests.kit.traces import TEXT, axis, causal, detailed, make_trace, plain_axis, random_pattern, uniform

SECOND = replace(TEXT, layer=1)
CROSS = Site("decoder", "cross", 0)
N = 12


def detailed_of(patterns: dict[Site, torch.Tensor], **options: Any) -> Trace:
    return detailed(make_trace(patterns), **options)


class TestRhythm:
    def test_the_flat_causal_map(self) -> None:
        """language.md 4 (g)."""
        found = analyses.rhythm(detailed_of({TEXT: uniform(N)}, near=3), window=3).frame
        expected = [0, 0.5, 1, 1.5, 1.8, 2.0, 2.142857, 2.25]
        np.testing.assert_allclose(found["waad"][:8], expected, rtol=1e-6)
        np.testing.assert_allclose(found["fai"][[0, 1, 9]], [0.261111, 0.205556, 0.083333], atol=1e-6)
        assert found["fai"][10:].isna().all()

    def test_a_head_that_looks_at_itself_and_one_that_looks_at_the_first_token(self) -> None:
        itself = analyses.rhythm(detailed_of({TEXT: torch.eye(N)[None, None]}), window=4).frame
        assert (itself["waad"] == 0).all()
        assert (itself["fai"].dropna() == 0).all()
        first = torch.zeros(1, 1, N, N)
        first[..., 0] = 1
        found = analyses.rhythm(detailed_of({TEXT: first}), window=4).frame
        np.testing.assert_allclose(found["waad"], np.minimum(np.arange(N), 4))
        np.testing.assert_allclose(found["fai"][:10], [1.0] + [0.0] * 9)

    def test_twin_with_local_and_global_heads_over_layers(self) -> None:
        maps = {TEXT: causal(random_pattern(2, 4, N, N)), SECOND: causal(random_pattern(2, 4, N, N, seed=1))}
        found = analyses.rhythm(detailed_of(maps), window=4, quantile=0.25)
        every = torch.cat(list(maps.values()), 1).double().numpy()
        apart = np.arange(N)[:, None] - np.arange(N)
        for example in range(2):
            order = np.argsort((every[example] * apart).sum(-1).mean(1), kind="stable")
            near, far = every[:, order[:2]].mean(1), every[:, order[-2:]].mean(1)
            assert not set(order[:2]) & set(order[-2:])
            mine = found.frame[found.frame["example"] == example]
            waad = [(near[example, t, : t + 1] * np.minimum(t - np.arange(t + 1), 4)).sum() for t in range(N)]
            fai = [far[example, s + 2 : s + 5, s].mean() if s + 2 < N else np.nan for s in range(N)]
            np.testing.assert_allclose(mine["waad"], waad, rtol=1e-5)
            np.testing.assert_allclose(mine["fai"], fai, rtol=1e-5)
            np.testing.assert_allclose(mine["delta"][:-1], np.abs(np.diff(waad)), rtol=1e-4, atol=1e-6)
        shuffled = [3, 0, 2, 1]
        again = analyses.rhythm(
            detailed_of({site: value[:, shuffled] for site, value in maps.items()}), window=4, quantile=0.25
        )
        np.testing.assert_allclose(again.frame["waad"], found.frame["waad"], rtol=1e-6)

    def test_the_window_bounds_and_orders_it(self) -> None:
        trace = detailed_of({TEXT: causal(random_pattern(1, 3, N, N))}, near=N)
        values = [analyses.rhythm(trace, window=w).frame["waad"].to_numpy() for w in range(1, N + 1)]
        for window, (less, more) in enumerate(pairwise(values), 1):
            assert (less <= window + 1e-6).all()
            assert (less <= more + 1e-6).all()
        local = trace.records[TEXT]["distance"][0].nanmean(-1).argmin()
        np.testing.assert_allclose(values[-1], trace.records[TEXT]["distance"][0, local], rtol=1e-5)

    def test_receivers_stand_out(self) -> None:
        """One head returns to one token, three are flat: the receiver is that head."""
        pointed = torch.full((1, 1, 40, 40), 1e-3)
        pointed[..., 10:, 7] = 1
        maps = torch.cat([uniform(40)] * 3 + [causal(pointed)], 1)
        found = analyses.rhythm(detailed_of({TEXT: maps}, near=4, later=(4, 30)), window=4, quantile=0.25)
        peak = found.frame.loc[found.frame["receiver_fai"].idxmax()]
        assert (peak["position"], peak["receiver_peak"]) == (7, True)
        assert peak["receiver_fai"] > 0.8
        alike = analyses.rhythm(detailed_of({TEXT: torch.cat([uniform(40)] * 4, 1)}), window=4)
        assert alike.frame["receiver_fai"].notna().any()

    def test_generated_rows_are_those_of_a_reading_and_stand_alone(self) -> None:
        model = shared_model("llama")
        ids = torch.arange(5, 25)[None]
        options = {"near": 6, "later": (2, 9)}
        with hw.capture(model, **options) as trace:
            grown = model.generate(ids, max_new_tokens=12, min_new_tokens=12, do_sample=False)
        with hw.capture(model, **options) as reading, torch.no_grad():
            model(grown[:, :-1])
        new = analyses.rhythm(trace, window=6).frame
        assert new["position"].tolist() == list(range(19, 31))
        every = analyses.rhythm(trace, window=6, rows="all").frame
        read = analyses.rhythm(reading, window=6).frame
        np.testing.assert_allclose(every["waad"], read["waad"], atol=1e-5)
        np.testing.assert_allclose(every["fai"], read["fai"], atol=1e-5)

    def test_refused(self) -> None:
        trace = detailed_of({TEXT: uniform(N)})
        with pytest.raises(CaptureError, match=r"4 keys near.*the window is 10.*near=10"):
            analyses.rhythm(detailed_of({TEXT: uniform(N)}, near=4))
        with pytest.raises(CaptureError, match=r"hw.capture\(subject, near=True, later=True\)"):
            analyses.rhythm(make_trace({TEXT: uniform(N)}))
        for wrong in ({"window": 0}, {"quantile": 0.6}, {"peak_share": 0.0}, {"rows": "some"}):
            with pytest.raises(InputError):
                analyses.rhythm(trace, **{"window": 4, **wrong})
        with pytest.raises(CaptureError, match="Nothing was generated"):
            analyses.rhythm(trace, window=4, rows="generated")


class TestFormulas:
    def test_peaks(self) -> None:
        values = np.array([1.0, 1.0, 5.0, 5.0, 1.0, np.nan, 4.0, 0.0, 3.9])
        assert np.nonzero(peaks(values))[0].tolist() == [2, 3, 6]
        assert not peaks(np.full(4, np.nan)).any()
        assert not peaks(np.ones(5)).any()

    def test_rows_behind_counts_what_is_there(self) -> None:
        rows = torch.tensor([[True, False, True, True, True]])
        assert rows_behind(rows, (1, 2)).tolist() == [[1, 2, 2, 1, 0]]

    def test_weights_beyond_the_window_count_as_the_window(self) -> None:
        near, total = (
            torch.tensor([[0.5, 0.0], [0.5, 0.0]]),
            torch.tensor([1.0, 0.5]),
        )  # a sink logit took the rest
        assert windowed_distance(near, total).tolist() == [1.0, 0.0]

    def test_kurtosis_is_scipys(self) -> None:
        from scipy.stats import kurtosis as theirs

        values = random_pattern(2, 3, 1, 30)
        known = torch.ones(30, dtype=torch.bool)
        known[::7] = False
        expected = theirs(values.double().numpy()[..., known.numpy()], axis=-1, fisher=False)
        np.testing.assert_allclose(kurtosis(values, known).numpy(), expected, rtol=1e-5)
        assert kurtosis(torch.ones(1, 5), torch.ones(5, dtype=torch.bool)).isnan().all()


class TestTopMass:
    def test_flat_and_pointed_heads(self) -> None:
        maps = torch.cat([uniform(8), torch.eye(8)[None, None]], 1)
        found = analyses.top_mass(detailed_of({TEXT: maps}), k=3).frame
        flat = np.mean([3 / n for n in range(4, 9)])
        np.testing.assert_allclose(found["top_mass"], [flat, 1.0], rtol=1e-6)
        np.testing.assert_allclose(found["flat"], [flat, flat], rtol=1e-6)
        one = analyses.top_mass(detailed_of({TEXT: maps}), k=1).frame
        assert (one["top_mass"] <= found["top_mass"] + 1e-6).all()

    def test_refused(self) -> None:
        trace = detailed_of({TEXT: uniform(8)})
        with pytest.raises(CaptureError, match=r"captured: 1, 3.*top=\[2\]"):
            analyses.top_mass(trace, k=2)
        with pytest.raises(CaptureError, match="No row of this trace sees more than 3 keys"):
            analyses.top_mass(detailed_of({TEXT: uniform(3)}), k=3)


ROLES = [["bos", "image", "image", "content", "generated", "generated"]]


class TestLookBack:
    def test_shares_of_the_rows_that_write(self) -> None:
        maps = {TEXT: causal(random_pattern(1, 2, 6, 6)), SECOND: uniform(6)}
        found = analyses.look_back(make_trace(maps, {"text": axis("text", ROLES)}))
        first = found.frame[(found.frame["layer"] == 0) & (found.frame["modality"] == "image")]
        assert first["step"].tolist() == [0, 1, 2]
        assert first["position"].tolist() == [3, 4, 5]
        np.testing.assert_allclose(first["mass"], maps[TEXT][0, :, 3:, 1:3].sum(-1).mean(0), rtol=1e-5)
        flat = found.frame[found.frame["layer"] == 1]
        np.testing.assert_allclose(flat["relative"], 1.0, rtol=1e-5)
        np.testing.assert_allclose(flat.groupby("step")["mass"].sum(), 1.0, rtol=1e-6)
        assert found.summary.startswith(
            "Attention of the 3 rows that write tokens, first to last. text self: text "
        )

    def test_a_window_hides_what_lies_before_it(self) -> None:
        """Rows that see their last two keys: of two image tokens the last row but one sees one, the last none."""
        maps = torch.zeros(1, 1, 5, 5)
        maps[0, 0, 0, 0] = 1
        for row in range(1, 5):
            maps[0, 0, row, row - 1 : row + 1] = 0.5
        trace = make_trace(
            {TEXT: maps}, {"text": axis("text", [["content", "image", "image", "content", "content"]])}
        )
        record = dict(trace.records[TEXT])
        record["n_keys"] = torch.tensor([[1.0, 2, 2, 2, 2]])
        found = analyses.look_back(Trace({TEXT: record}, trace.layout, trace.meta)).frame
        image = found[found["modality"] == "image"].set_index("position")
        assert image.index.tolist() == [
            2,
            3,
            4,
        ]  # rows 0 and 1 stand before an image token, which nobody writes
        np.testing.assert_allclose(image["relative"][[2, 3]], [1.0, 1.0])
        assert np.isnan(image["relative"][4])
        assert image["mass"][4] == 0

    def test_cross_attention_looks_at_every_source_token(self) -> None:
        axes = {"decoder": plain_axis("decoder", 1, 3), "encoder": plain_axis("encoder", 1, 5)}
        flat = torch.full((1, 2, 3, 5), 0.2)
        trace = make_trace({Site("decoder", "self", 0): uniform(3), CROSS: flat}, axes)
        found = analyses.look_back(trace, by="role").frame
        cross = found[found["kind"] == "cross"]
        np.testing.assert_allclose(cross[cross["role"] == "special"]["mass"], 0.2, rtol=1e-6)
        np.testing.assert_allclose(cross["relative"], 1.0, rtol=1e-5)

    def test_a_decoder_of_which_cross_attention_alone_was_captured_writes(self) -> None:
        axes = {"decoder": plain_axis("decoder", 1, 3), "encoder": plain_axis("encoder", 1, 5)}
        found = analyses.look_back(make_trace({CROSS: torch.full((1, 2, 3, 5), 0.2)}, axes)).frame
        assert sorted(set(found["step"])) == [0, 1, 2]

    def test_encoders_write_nothing(self) -> None:
        trace = make_trace({Site("encoder", "self", 0): random_pattern(1, 2, 5, 5)}, causal=False)
        with pytest.raises(CaptureError, match=r"No row of this trace writes a token.*encoder self"):
            analyses.look_back(trace)


class TestCapture:
    def test_captures_within_captures_keep_their_own(self) -> None:
        model, ids = shared_model("gpt2"), torch.arange(3, 23)[None]
        with (
            hw.capture(model, near=6, top=(1, 4)) as outer,
            hw.capture(model, near=2, top=(2,), later=(1, 3)) as inner,
            torch.no_grad(),
        ):
            model(ids)
        with hw.capture(model, near=2, top=(2,), later=(1, 3)) as alone, torch.no_grad():
            model(ids)
        site = alone.site(0)
        for field in ("near", "top", "later", "top_sizes", "later_span"):
            torch.testing.assert_close(inner.records[site][field], alone.records[site][field])
        assert outer.records[site]["near"].shape[-1] == 6
        assert "later" not in outer.records[site]
        with (
            pytest.raises(CaptureError, match=r"later=\(1, 3\) and later=\(1, 4\)"),
            hw.capture(model, later=(1, 3)),
            hw.capture(model, later=(1, 4)),
        ):
            model(ids)

    def test_they_are_saved_and_merged(self, tmp_path) -> None:
        model = shared_model("llama")
        with hw.capture(model, near=3, top=True, later=(1, 3)) as trace, torch.no_grad():
            model(torch.arange(3, 13)[None])
            model(torch.arange(3, 10)[None])
        again = hw.load_trace(trace.save(tmp_path / "trace.safetensors"))
        site = trace.site(0)
        assert trace.records[site]["near"].shape == (2, 4, 10, 3)
        for field in ("near", "top", "later"):
            torch.testing.assert_close(again.records[site][field], trace.records[site][field], equal_nan=True)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"near": -1},
            {"near": 1.5},
            {"top": [3, 1]},
            {"top": [0]},
            {"top": 2},
            {"later": (3, 1)},
            {"later": 4},
        ],
    )
    def test_refused(self, wrong) -> None:
        with pytest.raises(InputError, match=next(iter(wrong))), hw.capture(shared_model("llama"), **wrong):
            pass

    def test_they_need_statistics(self) -> None:
        wrong = hw.capture(shared_model("llama"), stats=False, maps=True, near=2)
        with pytest.raises(InputError, match="kept beside the statistics"), wrong:
            pass
