"""What sinks write: known answers, a twin, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import headwise as hw
from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.probes.trace.trace import Trace
from headwise.testing.models import shared_model
from tests.kit.traces import TEXT, causal, detailed, make_trace, random_pattern
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
    return with_fields(detailed(make_trace({TEXT: pattern})), v=values)


@pytest.mark.parametrize("norm", [0.0, 0.1, 1.0, 30.0])
def test_a_rest_and_a_bias_take_the_same_and_write_otherwise(norm: float) -> None:
    result = analyses.sink_strength(planted(norm))
    (row,) = result.frame.to_dict("records")
    first = 0.8 * N + 0.2  # the first row gives it all it has
    assert (row["position"], row["token"], row["role"], row["sink"]) == (0, "[CLS]", "special", True)
    np.testing.assert_allclose(row["mean_received"], first / N, rtol=1e-5)
    np.testing.assert_allclose(row["relative_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(row["written"], first * norm / (first * norm + 0.2 * (N - 1)), rtol=1e-5)
    np.testing.assert_allclose(row["to_logit"], 0, atol=1e-6)
    assert f"its value is {norm:.2g} times as long" in result.summary


def test_twin_with_grouped_heads() -> None:
    trace = detailed(make_trace({TEXT: causal(random_pattern(2, 4, N, N))}))
    values = torch.randn(2, 2, N, 4, generator=torch.Generator().manual_seed(1))
    found = analyses.sink_strength(with_fields(trace, v=values), min_rows=3).frame.set_index(
        ["example", "head"]
    )
    assert len(found) == 8
    maps = trace.maps[TEXT].double().numpy()
    for (example, head), row in found.iterrows():
        sums = maps[example, head].sum(0)
        best = int((sums / np.arange(N, 0, -1))[: N - 2].argmax())
        norms = np.linalg.norm(values[example, head // 2].double().numpy(), axis=-1)
        others = np.sort(np.delete(norms, best))[(N - 2) // 2]
        expected = [best, norms[best] / others, sums[best] * norms[best] / (sums * norms).sum()]
        np.testing.assert_allclose(
            row[["position", "relative_norm", "written"]].tolist(), expected, rtol=1e-5
        )


def test_a_sink_logit_takes_weight_and_writes_nothing() -> None:
    model = shared("gpt_oss")
    with hw.capture(model, qkv=True) as trace, torch.no_grad():
        model(input_ids=torch.arange(4, 16)[None])
    result = analyses.sink_strength(trace)
    rest = 1 - trace.records[trace.sites[0]]["mass"].sum(-1).mean(-1)[0]
    np.testing.assert_allclose(result.frame["to_logit"][: len(rest)], rest, atol=1e-6)
    assert (result.frame["to_logit"] > 0.01).all()
    assert "sink logits take" in result.summary


def test_chosen_heads_are_those_of_all() -> None:
    """Heads 1 and 3 of the statistics read key heads 0 and 1; chosen values of them do not say so."""
    model, ids = shared("llama"), torch.arange(4, 16)[None]
    traces = []
    for options in ({}, {"stats": "L0H3"}, {"qkv": "L0H3"}):
        with hw.capture(model, **{"qkv": True, **options}) as trace, torch.no_grad():
            model(input_ids=ids)
        traces.append(trace)
    whole, chosen = (analyses.sink_strength(trace).frame.query("layer == 0") for trace in traces[:2])
    assert chosen["head"].tolist() == [3]
    assert chosen["relative_norm"].item() == whole.query("head == 3")["relative_norm"].item()
    with pytest.raises(CaptureError, match=r"does not say which key heads.*qkv=True"):
        analyses.sink_strength(traces[2])


@pytest.mark.parametrize("cached", [True, False])
def test_values_that_a_sliding_cache_dropped(cached: bool) -> None:
    model, ids = shared_model("gemma2"), torch.arange(4, 12)[None]
    with hw.capture(model, qkv=True) as trace, torch.no_grad():
        model.generate(input_ids=ids, min_new_tokens=4, max_new_tokens=4, do_sample=False, use_cache=cached)
    if cached:
        with pytest.raises(CaptureError, match=r"values of \d of 11 keys.*use_cache=False"):
            analyses.sink_strength(trace)
    else:
        assert len(analyses.sink_strength(trace).frame) == 8


def test_what_it_refuses() -> None:
    trace = planted(1.0)
    with pytest.raises(InputError, match="epsilon is a share"):
        analyses.sink_strength(trace, epsilon=1.0)
    with pytest.raises(InputError, match="min_rows must be 1"):
        analyses.sink_strength(trace, min_rows=0)
    with pytest.raises(CaptureError, match="No key was seen by 13 rows"):
        analyses.sink_strength(trace, min_rows=13)
    apart = {TEXT: {k: v for k, v in trace.records[TEXT].items() if k != "v"}}
    apart[replace(TEXT, layer=1)] = {"v": trace.records[TEXT]["v"]}
    with pytest.raises(CaptureError, match="No site of this trace has both"):
        analyses.sink_strength(Trace(apart, trace.layout, trace.meta))
