"""Massive activations: known answers, laws, a twin."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.massive import is_massive
from headwise.layout import TokenLayout
from headwise.probes.trace.trace import Trace
from tests.kit.traces import TEXT, plain_axis

T, WIDTH = 20, 32


def noise(scale: float, examples: int = 1, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(examples, T, WIDTH, generator=torch.Generator().manual_seed(seed))


def trace_of(*streams: torch.Tensor) -> Trace:
    records = {
        replace(TEXT, layer=layer): {"positions": torch.arange(T), "residual": stream}
        for layer, stream in enumerate(streams)
    }
    return Trace(records, TokenLayout({"text": plain_axis("text", len(streams[0]), T)}), {"model": "by hand"})


@pytest.mark.parametrize(
    ("scale", "planted", "hits"), [(0.1, 500.0, 1), (0.1, -500.0, 1), (0.1, 90.0, 0), (1.0, 500.0, 0)]
)
def test_both_rules(scale: float, planted: float, hits: int) -> None:
    """language.md 2.3 (g): the rule of size, and the rule of the ratio."""
    stream = noise(scale)
    stream[0, 0, 7] = planted
    result = analyses.massive_activations(trace_of(noise(scale, seed=1), stream))
    assert result.frame["massive"].sum() == hits
    first = result.frame.query("layer == 1 and rank == 1").iloc[0]
    assert (first["position"], first["token"], first["dimension"]) == (0, "[CLS]", 7)
    assert (first["activation"], first["magnitude"], first["massive"]) == (planted, abs(planted), hits == 1)
    assert (
        f"the largest is {planted:.4g} in dimension 7 at [CLS] (position 0), behind 1 layers"
        in result.summary
    )
    assert ("1 of the entries of levels 1 to 1 is massive, in dimensions 7;" in result.summary) == (hits == 1)
    assert len(result.frame) == 6


def test_every_massive_entry_is_listed_and_padding_is_none() -> None:
    stream = noise(0.1, examples=2)
    stream[1, 3, :5] = 300.0
    stream[0, :4] = math.nan
    frame = analyses.massive_activations(trace_of(stream)).frame
    assert frame.groupby("example").size().tolist() == [3, 5]
    listed = frame.query("example == 1")
    assert sorted(listed["dimension"]) == [0, 1, 2, 3, 4]
    assert set(listed["position"]) == {3}
    assert listed["rank"].tolist() == [1, 2, 3, 4, 5]
    real = stream[0, 4:].abs().double().numpy()
    np.testing.assert_allclose(frame["magnitude"][:3], np.sort(real, None)[::-1][:3], rtol=1e-6)
    np.testing.assert_allclose(frame["median"][0], np.sort(real, None)[(real.size - 1) // 2], rtol=1e-6)


@given(st.integers(0, 99), st.floats(0, 5), st.floats(0, 20))
def test_twin_of_the_rule(seed: int, largest: float, ratio: float) -> None:
    stream = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)) * 3
    sizes = [abs(x) for x in stream.flatten().tolist()]
    found, median = is_massive(stream, largest=largest, ratio=ratio)
    assert median == sorted(sizes)[7]
    expected = [size > largest and size >= torch.tensor(ratio * median) for size in sizes]
    assert found.flatten().tolist() == expected


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match="0 or more"):
        analyses.massive_activations(trace_of(noise(1.0)), ratio=-1.0)
    with pytest.raises(InputError, match="0 or more"):
        analyses.massive_activations(trace_of(noise(1.0)), largest=math.nan)
    with pytest.raises(CaptureError, match="NaN throughout"):
        analyses.massive_activations(trace_of(noise(math.nan)))
