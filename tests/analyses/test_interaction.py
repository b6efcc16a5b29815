"""Cross-modal interaction intensity: closed forms, a slow twin from maps, and which rows count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.errors import CaptureError
from headwise.layout import MODALITIES
from tests.kit.traces import TEXT, axis, causal, make_trace, random_pattern, uniform

ROLES = ["bos", "content", "image", "image", "image", "content", "content", "generated", "generated"]


def traced(pattern, roles=ROLES):
    return make_trace({TEXT: pattern}, {"text": axis("text", [roles] * len(pattern))})


def of(result, name):
    frame = result.frame
    return frame[frame.iloc[:, 5] == name]["intensity"].to_numpy()


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, [5, 6, 7, 8]),
        ({"queries": "generated"}, [7, 8]),
        ({"queries": "generated", "prompt_row": True}, [6, 7, 8]),
        ({"queries": "last"}, [6]),
        ({"queries": "image"}, [2, 3, 4]),
    ],
)
def test_uniform_attention_gives_the_closed_form(options, rows):
    """Row p gives V of the keys it sees, p + 1, to the image: |V| / (p + 1)."""
    found = hw.analyses.interaction(traced(uniform(9)), **options)
    seen = [min(max(row - 1, 0), 3) for row in rows]
    expected = np.mean([count / (row + 1) for count, row in zip(seen, rows, strict=True)])
    np.testing.assert_allclose(of(found, "image"), [expected], rtol=1e-6)
    assert found.frame["rows"].unique().tolist() == [len(rows)]


@given(
    st.lists(
        st.sampled_from(["content", "image", "audio", "generated", "punctuation"]), min_size=3, max_size=8
    ),
    st.sampled_from(["role", "modality"]),
    st.integers(0, 1000),
)
@settings(max_examples=10, deadline=None)
def test_twin(roles, by, seed):
    pattern = causal(random_pattern(1, 2, len(roles), len(roles), seed=seed))
    seen = next((place for place, role in enumerate(roles) if role in ("image", "audio")), 0)
    rows = [
        place
        for place, role in enumerate(roles)
        if role == "generated" or (place >= seen and role not in ("image", "audio"))
    ]
    trace = traced(pattern, roles)
    if not rows:
        with pytest.raises(CaptureError, match="no text rows"):
            hw.analyses.interaction(trace, by=by)
        return
    found = hw.analyses.interaction(trace, by=by)
    assert found.frame["intensity"].sum() == pytest.approx(1, rel=1e-5)
    assert found.frame["intensity"].between(0, 1 + 1e-6).all()
    for name in set(found.frame[by]):
        keys = [
            key
            for key, role in enumerate(roles)
            if name == (role if by == "role" else MODALITIES.get(role, "text"))
        ]
        twin = np.mean([pattern[0, h, row, keys].sum().item() for h in (0, 1) for row in rows])
        np.testing.assert_allclose(of(found, name), [twin], rtol=1e-4, atol=1e-6)


def test_without_generation_it_is_said_how_to_generate():
    trace = traced(uniform(4), ROLES[:4])
    with pytest.raises(CaptureError, match=r"no generated rows.*generate\(\*\*inputs, max_new_tokens=8\)"):
        hw.analyses.interaction(trace, queries="generated")


@pytest.mark.slow
def test_a_generation_of_the_zoo():
    subject = hw.load("zoo:vlm")
    with hw.capture(subject) as trace, torch.no_grad():
        subject.model.generate(**subject.prepare(**hw.zoo.sample("vlm").inputs), max_new_tokens=3)
    found = hw.analyses.interaction(trace, queries="generated", prompt_row=True)
    assert found.kind == "layers"
    text = found.frame[found.frame["tower"] == "text"]
    np.testing.assert_allclose(text.groupby("layer")["intensity"].sum(), 1, rtol=1e-5)
    assert len(text) == 8
    assert "Generated rows look at" in found.summary
