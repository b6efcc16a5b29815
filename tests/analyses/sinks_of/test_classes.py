"""Attention by class of token: known answers, laws, a twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwise import analyses
from headwise.errors import CaptureError
from headwise.functional.entropy import evenness
from headwise.layout import Axis
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from tests.kit.traces import axis, make_trace, plain_axis, random_pattern

CROSS = Site("decoder", "cross", 0)
SECOND = Site("decoder", "cross", 1)
ROLES = ["padding", "language", "content", "content", "content", "content", "first", "punctuation", "eos"]
TOKENS = ["<pad>", "eng_Latn", "▁a", "。", "...", "▁€", "▁", "▁22", "</s>"]
CLASSES = ["", "language", "content", "punctuation", "punctuation", "punctuation", "punctuation", "", "eos"]
"""What the text says decides where the role does not; a bare boundary is punctuation, digits are content."""
NAMES = ("eos", "language", "special", "punctuation", "silence", "content")


def trace_of(patterns: dict[Site, torch.Tensor], roles: list[str], tokens: list[str] | None = None) -> Trace:
    some = next(iter(patterns.values()))
    source: Axis = axis("encoder", [roles] * len(some), None if tokens is None else [tokens] * len(some))
    return make_trace(
        patterns, {"encoder": source, "decoder": plain_axis("decoder", len(some), some.shape[2])}
    )


def flat(weights: list[float]) -> torch.Tensor:
    return torch.tensor(weights).expand(1, 1, 3, -1).contiguous()


def test_the_class_of_a_token() -> None:
    roles = [*ROLES[:7], "content", "eos", "bos", "task", "special", "silence", "audio"]
    tokens = [*TOKENS, "<s>", "<|transcribe|>", "<mask>", "", ""]
    for at in range(1, len(roles)):
        weights = [0.0] * len(roles)
        weights[at] = 1.0
        (row,) = analyses.class_sinks(trace_of({CROSS: flat(weights)}, roles, tokens)).frame.to_dict(
            "records"
        )
        named = [*CLASSES[:7], "content", "eos", "special", "special", "special", "silence", "content"]
        assert {name: row[name] for name in NAMES} == {name: float(name == named[at]) for name in NAMES}
        assert row["content_keys"] == 3
        assert (
            math.isnan(row["content_evenness"])
            == math.isnan(row["content_entropy"])
            == (named[at] != "content")
        )


def test_a_spike_on_the_end() -> None:
    """speech_translation.md 2b: evenness .314, .244, .193 for a .82 spike at n = 15, 25, 40; flat without it."""
    for n, value in ((15, 0.314), (25, 0.244), (40, 0.193)):
        weights = [0.18 / (n - 1)] * (n - 1) + [0.82]
        result = analyses.class_sinks(trace_of({CROSS: flat(weights)}, ["content"] * (n - 1) + ["eos"]))
        (row,) = result.frame.to_dict("records")
        np.testing.assert_allclose([row["eos"], row["content"]], [0.82, 0.18], rtol=1e-5)
        np.testing.assert_allclose(row["evenness"], value, atol=5e-4)
        np.testing.assert_allclose([row["content_evenness"], row["content_entropy"]], 1, rtol=1e-5)
        assert result.summary == (
            "Attention falls on eos 82 %, content 18 %; "
            f"the mean row has evenness {row['evenness']:.2f}, on content alone 1.00."
        )


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=9), st.integers(0, 3))
def test_evenness_is_the_cosine_with_a_flat_row(weights: list[float], more: int) -> None:
    a = np.array(weights)
    keys = torch.tensor([True] * len(a) + [False] * more)
    found = evenness(torch.tensor([*weights, *[5.0] * more]), keys=keys).item()
    np.testing.assert_allclose(found, a @ np.ones(len(a)) / (np.linalg.norm(a) * len(a) ** 0.5), rtol=1e-5)
    one = torch.zeros(len(keys))
    one[0] = 0.3
    np.testing.assert_allclose(evenness(one, keys=keys).item(), len(a) ** -0.5, rtol=1e-6)


def test_twin_over_layers_and_the_pooled_mean() -> None:
    maps = {CROSS: random_pattern(2, 3, 5, 8), SECOND: random_pattern(2, 3, 5, 8, seed=1)}
    roles = [*ROLES[1:7], "content", "eos"]
    result = analyses.class_sinks(trace_of(maps, roles, TOKENS[1:]))
    assert len(result.frame) == 12
    means = torch.cat(list(maps.values()), 1).double().mean(2).numpy()
    content = [1, 6]
    for row in result.frame.to_dict("records"):
        a = means[row["example"], row["layer"] * 3 + row["head"]]
        kept = a[content] / a[content].sum()
        expected = [a[7], a[2:6].sum(), a[content].sum(), 1 / (8 * (a**2).sum()) ** 0.5]
        expected += [1 / (2 * (kept**2).sum()) ** 0.5, -(kept * np.log(kept)).sum() / np.log(2)]
        names = ["eos", "punctuation", "content", "evenness", "content_evenness", "content_entropy"]
        np.testing.assert_allclose([row[name] for name in names], expected, rtol=1e-5)
        np.testing.assert_allclose(sum(row[name] for name in NAMES), 1, rtol=1e-5)
    pooled = means.mean(1)
    even = (1 / (8 * (pooled**2).sum(-1)) ** 0.5).mean()
    assert f"the mean row has evenness {even:.2f}" in result.summary


def test_a_trace_without_attention() -> None:
    with pytest.raises(CaptureError, match="NaN throughout"):
        analyses.class_sinks(trace_of({CROSS: torch.full((1, 1, 3, 4), math.nan)}, ["content"] * 4))
