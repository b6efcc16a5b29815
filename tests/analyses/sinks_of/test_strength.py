"""What sinks write: known answers, a twin, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

import headwise as hw
from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.contribution import write_norms
from headwise.probes.trace.trace import Trace
from headwise.testing.analyses import assert_same_frame
from headwise.testing.models import shared_model
from tests.kit.traces import TEXT, detailed, make_trace
from tests.tiny.shared import shared

N = 12


def with_fields(trace: Trace, **fields: torch.Tensor) -> Trace:
    return Trace(
        {site: {**record, **fields} for site, record in trace.records.items()}, trace.layout, trace.meta
    )


def planted(norm: float, share: float = 0.8) -> Trace:
    """Every row gives `share` to the first key; values have length 1 elsewhere."""
    pattern = torch.zeros(1, 1, N, N)
    pattern[..., 0] = share
    pattern += torch.eye(N) * (1 - share)
    values = torch.nn.functional.normalize(torch.ones(1, 1, N, 4), dim=-1)
    values[:, :, 0] *= norm
    behind = write_norms(values, 2 * torch.eye(4)[None])
    return with_fields(
        detailed(make_trace({TEXT: pattern})), value_norm=values.norm(dim=-1), write_norm=behind
    )


@pytest.mark.parametrize("norm", [0.0, 0.1, 1.0, 30.0])
def test_a_rest_and_a_bias_take_the_same_and_write_otherwise(norm: float) -> None:
    result = analyses.sink_strength(planted(norm))
    (row,) = result.frame.to_dict("records")
    first = 0.8 * N + 0.2  # the first row gives it all it has
    assert (row["position"], row["token"], row["role"], row["sink"]) == (0, "[CLS]", "special", True)
    np.testing.assert_allclose(row["mean_received"], first / N, rtol=1e-5)
    np.testing.assert_allclose(row["relative_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(row["written"], first * norm / (first * norm + 0.2 * (N - 1)), rtol=1e-5)
    np.testing.assert_allclose(row["write_norm"], 2 * norm, rtol=1e-5)
    np.testing.assert_allclose(row["relative_write_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(row["write_share"], row["written"], rtol=1e-5)
    np.testing.assert_allclose(row["to_logit"], 0, atol=1e-6)
    assert f"its value is {norm:.2g} times as long ({norm:.2g} behind W_O)" in result.summary


def test_twin_with_grouped_heads() -> None:
    """A captured model with two heads per key head, against values and W_O taken apart in NumPy."""
    model, ids = shared("llama"), torch.randint(4, 60, (2, N), generator=torch.Generator().manual_seed(0))
    with hw.capture(model, maps=True, qkv=True, norms=True) as trace, torch.no_grad():
        model(input_ids=ids)
    found = analyses.sink_strength(trace, min_rows=3).frame.set_index(["example", "layer", "head"])
    for name, row in found.iterrows():
        example, layer, head = cast(tuple[int, int, int], name)
        site = trace.site(layer)
        sums = trace.maps[site][example, head].double().numpy().sum(0)
        best = int((sums / np.arange(N, 0, -1))[: N - 2].argmax())
        values = trace.values[site][example, head // 2].double().numpy()
        weight = model.model.layers[layer].self_attn.o_proj.weight.detach().double().numpy()
        width = values.shape[1]
        for own, columns in (
            (values, ["position", "relative_norm", "written"]),
            (
                values @ weight[:, head * width :][:, :width].T,
                ["position", "relative_write_norm", "write_share"],
            ),
        ):
            norms = np.linalg.norm(own, axis=-1)
            others = np.sort(np.delete(norms, best))[(N - 2) // 2]
            expected = [best, norms[best] / others, sums[best] * norms[best] / (sums * norms).sum()]
            np.testing.assert_allclose(row[columns].tolist(), expected, rtol=1e-4)


def test_a_sink_logit_takes_weight_and_writes_nothing() -> None:
    model = shared("gpt_oss")
    with hw.capture(model, norms=True) as trace, torch.no_grad():
        model(input_ids=torch.arange(4, 16)[None])
    result = analyses.sink_strength(trace)
    rest = 1 - trace.records[trace.sites[0]]["mass"].sum(-1).mean(-1)[0]
    np.testing.assert_allclose(result.frame["to_logit"][: len(rest)], rest, atol=1e-6)
    assert (result.frame["to_logit"] > 0.01).all()
    assert "sink logits take" in result.summary


def test_chosen_heads_are_those_of_all() -> None:
    model, ids = shared("llama"), torch.arange(4, 16)[None]
    frames = []
    for options in ({}, {"stats": "L0H3"}, {"norms": "L0H3"}, {"sites": "L0H3"}):
        with hw.capture(model, **{"norms": True, **options}) as trace, torch.no_grad():
            model(input_ids=ids)
        frames.append(
            analyses.sink_strength(trace).frame.query("layer == 0 and head == 3").drop(columns="example")
        )
        assert len(trace.sites) > 1 or len(frames[-1]) == 1
    for chosen in frames[1:]:
        pd.testing.assert_frame_equal(chosen.reset_index(drop=True), frames[0].reset_index(drop=True))


@pytest.mark.parametrize("name", ["gemma2", "llama", "bart"])
def test_norms_are_those_of_one_forward_though_a_cache_drops_values(name: str) -> None:
    model: Any = shared(name) if name == "bart" else shared_model(name)
    ids = torch.arange(4, 12)[None]
    options: dict[str, Any] = {"min_new_tokens": 4, "max_new_tokens": 4, "do_sample": False, "num_beams": 1}
    traces = []
    for cached in (True, False):
        with hw.capture(model, norms=True) as trace, torch.no_grad():
            model.generate(input_ids=ids, use_cache=cached, **options)
        traces.append(trace)
    for site in traces[0].sites:
        for field in ("value_norm", "write_norm"):
            one, other = (trace.records[site][field] for trace in traces)
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    one, other = (analyses.sink_strength(trace).frame for trace in traces)
    assert_same_frame(one, other)


def test_norms_of_padding_are_nan_and_of_a_batch_those_of_its_examples() -> None:
    model = shared("llama")
    ids, mask = torch.tensor([[5, 6, 7, 8], [0, 0, 7, 8]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    with hw.capture(model, norms=True) as trace, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    with hw.capture(model, norms=True) as alone, torch.no_grad():
        model(input_ids=ids[1:, 2:])
    for site in trace.sites:
        norms = trace.records[site]["write_norm"]
        assert norms[1, :, :2].isnan().all()
        torch.testing.assert_close(norms[1:, :, 2:], alone.records[site]["write_norm"], atol=1e-5, rtol=1e-4)


def test_beside_another_capture_w_o_is_not_looked_for_and_that_is_said() -> None:
    model, ids = shared("llama"), torch.arange(4, 16)[None]
    with hw.capture(model) as outer, hw.capture(model, norms=True) as trace, torch.no_grad():
        model(input_ids=ids)
    assert outer.examples == trace.examples == 1
    assert any("it was not looked for beside" in text for text in trace.warnings)
    assert analyses.sink_strength(trace).frame["write_norm"].isna().all()


def test_what_it_refuses() -> None:
    trace = planted(1.0)
    with pytest.raises(InputError, match="epsilon is a share"):
        analyses.sink_strength(trace, epsilon=1.0)
    with pytest.raises(InputError, match="min_rows must be 1"):
        analyses.sink_strength(trace, min_rows=0)
    with pytest.raises(CaptureError, match="No key was seen by 13 rows"):
        analyses.sink_strength(trace, min_rows=13)
    apart = {TEXT: {k: v for k, v in trace.records[TEXT].items() if k != "value_norm"}}
    apart[replace(TEXT, layer=1)] = {"value_norm": trace.records[TEXT]["value_norm"]}
    with pytest.raises(CaptureError, match="No site of this trace has both"):
        analyses.sink_strength(Trace(apart, trace.layout, trace.meta))
