"""Secondary sinks: the planted answer of language.md 3 (g), laws, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.probes.trace.trace import Trace
from tests.kit.traces import TEXT, make_trace, plain_axis, uniform

LAYERS, T, WIDTH = 40, 24, 64
LIVES = {0: (500.0, 5, 38), 3: (300.0, 5, 38), 7: (200.0, 18, 27), 9: (200.0, 20, 22)}
"""Token -> length along one direction, and the first and last layer whose output has it."""


def planted() -> torch.Tensor:
    """Outputs of all layers behind the embedding, (level, position, width)."""
    generator = torch.Generator().manual_seed(0)
    stream = torch.nn.functional.normalize(torch.randn(LAYERS + 1, T, WIDTH, generator=generator), dim=-1)
    direction = torch.nn.functional.normalize(torch.randn(WIDTH, generator=generator), dim=0)
    for token, (length, first, last) in LIVES.items():
        stream[first + 1 : last + 2, token] += length * direction
    return stream


def trace_of(stream: torch.Tensor, padding: int = 0) -> Trace:
    """One flat head per layer."""
    length = stream.shape[1] + padding
    pattern = torch.zeros(1, 1, length, length)
    pattern[..., padding:, padding:] = uniform(stream.shape[1])
    axes = {"text": plain_axis("text", 1, length, (padding,))}
    sites = [replace(TEXT, layer=layer) for layer in range(len(stream) - 1)]
    trace = make_trace(dict.fromkeys(sites, pattern), axes)
    wide = torch.nn.functional.pad(stream, (0, 0, padding, 0), value=7.0)
    records = {site: {**trace.records[site], "residual": wide[site.layer, None]} for site in sites}
    records[sites[-1]]["final_residual"] = wide[-1, None]
    return Trace(records, trace.layout, trace.meta)


def test_the_planted_answer() -> None:
    result = analyses.secondary_sinks(trace_of(planted()), types="released")
    frame = result.frame.set_index("position")
    assert frame["type"].to_dict() == {0: "primary", 3: "as primary", 7: "secondary", 9: "short"}
    assert frame["start"].to_dict() == {0: 5, 3: 5, 7: 18, 9: 20}
    assert frame["lifetime"].to_dict() == {0: 34, 3: 34, 7: 10, 9: 3}
    assert frame["contiguous"].all()
    assert (frame["alignment"] > 0.99).all()
    np.testing.assert_allclose(frame["norm"], [500, 300, 200, 200], rtol=0.01)
    np.testing.assert_allclose(frame["primary_norm"], 500, rtol=0.01)
    np.testing.assert_allclose(frame["others_norm"], 1, rtol=0.01)
    np.testing.assert_allclose(frame["written"], 1, atol=0.01)
    flat = [np.mean([1 / (i + 1) for i in range(token, T)]) for token in (0, 3, 7)]
    np.testing.assert_allclose(frame["score"].iloc[:3], flat, rtol=1e-5)
    assert frame["score"].isna().tolist() == [False, False, False, True]  # 15 rows see token 9
    np.testing.assert_allclose(frame["relative_score"].iloc[2], flat[2] / flat[0], rtol=1e-5)
    assert result.summary == (
        "1 secondary sinks, (first layer, lifetime) × count: (18, 10) × 1; the primary sink is [CLS] (position 0), in "
        "the outputs of layers 5 to 38."
    )
    relative = analyses.secondary_sinks(trace_of(planted())).frame.set_index("position")["type"]
    assert relative.to_dict() == {0: "primary", 3: "as primary", 7: "secondary", 9: "short"}


def test_lengths_rotations_and_padding_change_no_flag() -> None:
    stream = planted()
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
    before = analyses.secondary_sinks(trace_of(stream)).frame
    names = ["type", "start", "lifetime", "contiguous"]
    scale = torch.ones(T)
    scale[4:] = 5 * torch.rand(T - 4, generator=generator) + 0.1
    for changed, padding in ((stream @ rotation, 0), (stream * scale[:, None], 0), (stream, 3)):
        after = analyses.secondary_sinks(trace_of(changed, padding)).frame
        assert after["position"].tolist() == [position + padding for position in before["position"]]
        assert after[names].to_dict() == before[names].to_dict()


def test_without_secondary_sinks_that_is_said() -> None:
    stream = planted()
    stream[:, 7], stream[:, 9] = stream[:, 8], stream[:, 10]
    assert (
        "No secondary sink; the primary sink is [CLS]" in analyses.secondary_sinks(trace_of(stream)).summary
    )


def test_what_it_refuses() -> None:
    trace = trace_of(planted()[:10])
    with pytest.raises(InputError, match="cosine between 0 and 1"):
        analyses.secondary_sinks(trace, least_alignment=1.0)
    with pytest.raises(InputError, match="more than 19 layers"):
        analyses.secondary_sinks(trace, types="released")
    with pytest.raises(CaptureError, match=r"two layers of a tower or more.*text: 1"):
        analyses.secondary_sinks(trace_of(planted()[:2]))
