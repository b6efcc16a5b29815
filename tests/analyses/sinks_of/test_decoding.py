"""Sinks while a model writes: a known answer, a twin, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.probes.trace.trace import Trace
from tests.kit.traces import TEXT, axis, causal, make_trace, random_pattern

N, PROMPT = 12, 5


def trace_of(pattern: torch.Tensor) -> Trace:
    """Five tokens of a prompt and seven that were written."""
    roles = ["bos"] + ["content"] * (PROMPT - 1) + ["generated"] * (N - PROMPT)
    tokens = [f"t{n}" for n in range(N)]
    many = len(pattern)
    return make_trace({TEXT: pattern}, {"text": axis("text", [roles] * many, [tokens] * many)})


def test_a_sink_that_fades_and_one_that_begins_in_the_reply() -> None:
    """One head gives the first token all until step 3 and then the written token 7, the other a flat row."""
    pattern = torch.zeros(1, 2, N, N)
    pattern[0, 0, :8, 0] = 1
    pattern[0, 0, 8:, 7] = 1
    pattern[:, 1] = torch.ones(N, N).tril() / torch.arange(1, N + 1)[:, None]
    found = analyses.decoding_sinks(trace_of(pattern))
    frame = found.frame
    assert frame["offset"].unique().tolist() == [0, 7]
    first, late = frame[frame["offset"] == 0], frame[frame["offset"] == 7]
    rows = np.arange(PROMPT - 1, N)  # which write tokens 5 to 11, and what would come next
    np.testing.assert_allclose(first["mass"], ((rows < 8) + 1 / (rows + 1)) / 2, rtol=1e-6)
    assert first["step"].tolist() == list(range(8))
    assert first["token"].tolist()[:-1] == [f"t{n}" for n in range(PROMPT, N)]
    assert first["token"].isna().tolist() == [False] * 7 + [True]
    assert late["step"].tolist() == list(range(3, 8))  # from where it can be seen
    np.testing.assert_allclose(late["heads"], [0, 0.5, 0.5, 0.5, 0.5])
    assert (late["sink_token"].unique(), late["generated"].all()) == (["t7"], True)
    assert "“t0” (+0) 60 % to 4 %" in found.summary
    assert "1 of the sinks were written" in found.summary


def test_the_slow_twin() -> None:
    pattern = causal(random_pattern(2, 3, N, N) ** 4)
    frame = analyses.decoding_sinks(trace_of(pattern), epsilon=0.2, min_rows=2, rows="all").frame
    every, expected = pattern.double().numpy(), []
    for example in range(2):
        alpha = np.array([[every[example, h, k:, k].mean() for k in range(N - 1)] for h in range(3)])
        listed = {int(alpha.mean(0).argmax()), *np.nonzero((alpha > 0.2).any(0))[0].tolist()}
        expected += [
            (
                example,
                key,
                row,
                every[example, :, row, key].mean(),
                (every[example, :, row, key] > 0.2).mean(),
            )
            for row in range(N - 1)
            for key in sorted(listed)
            if key <= row
        ]
    found = frame[frame["position"] < N - 1].sort_values(["example", "position", "offset"])
    mine = found[["example", "offset", "position", "mass", "heads"]].to_numpy()
    np.testing.assert_allclose(mine, np.array(expected), rtol=1e-5)
    assert len({offset for _, offset, *_ in expected}) > 2


def test_what_is_refused() -> None:
    trace = trace_of(causal(random_pattern(1, 2, N, N)))
    with pytest.raises(InputError, match="epsilon is a share"):
        analyses.decoding_sinks(trace, epsilon=1.5)
    with pytest.raises(CaptureError, match="No key was seen by 100 rows"):
        analyses.decoding_sinks(trace, min_rows=100)
    bare = {TEXT: {name: value for name, value in trace.records[TEXT].items() if name != "maps"}}
    with pytest.raises(CaptureError, match=r"maps=True"):
        analyses.decoding_sinks(Trace(bare, trace.layout, trace.meta))
