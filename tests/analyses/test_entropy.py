"""Entropy over some rows and keys: by hand, against a twin, streamed as from patterns, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headwise as hw
from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.entropy import entropy_of_rest, entropy_over
from headwise.probes.trace.trace import Trace
from headwise.testing.models import shared_model
from tests.kit.traces import TEXT, axis, causal, make_trace, padded_batch, random_pattern, uniform

ROLES = ["bos", "image", "image", "content", "generated", "generated"]


def twin(pattern: torch.Tensor, keys: list[int], rows: list[int]) -> tuple[float, float]:
    """Mean entropy and its normalised form over chosen keys and rows of one head."""
    p = pattern.double().numpy()
    raw, rate = [], []
    for row in rows:
        there = [key for key in keys if key <= row]
        if len(there) < 2 or p[row, there].sum() < 1e-6:
            continue
        q = p[row, there] / p[row, there].sum()
        raw.append(-(q * np.log(q)).sum())
        rate.append(raw[-1] / np.log(len(there)))
    return float(np.mean(raw)), float(np.mean(rate))


def without(trace: Trace, field: str) -> Trace:
    records = {
        site: {name: value for name, value in record.items() if name != field}
        for site, record in trace.records.items()
    }
    return Trace(records, trace.layout, trace.meta)


@pytest.mark.parametrize(
    ("options", "keys", "rows"),
    [
        ({}, range(6), range(6)),
        ({"keys": "but_first"}, range(1, 6), range(6)),
        ({"keys": "image"}, (1, 2), range(6)),
        ({"keys": "text"}, (0, 3, 4, 5), range(6)),
        ({"rows": "generated"}, range(6), (4, 5)),
        ({"rows": "text", "keys": "image"}, (1, 2), (3, 4, 5)),
    ],
)
def test_twin(options, keys, rows) -> None:
    maps = causal(random_pattern(1, 3, 6, 6))
    trace = make_trace({TEXT: maps}, {"text": axis("text", [ROLES])})
    found = analyses.entropy(trace, **options).frame
    expected = [twin(maps[0, head], list(keys), list(rows)) for head in range(3)]
    np.testing.assert_allclose(found[["entropy", "normalised_entropy"]], expected, rtol=2e-5)


def test_a_flat_head_is_flat_over_any_keys() -> None:
    trace = make_trace({TEXT: uniform(6)}, {"text": axis("text", [ROLES])})
    for keys in ("all", "but_first", "image", "text"):
        found = analyses.entropy(trace, keys=keys)
        assert found.frame["normalised_entropy"].tolist() == pytest.approx([1.0], abs=1e-5), keys
    assert "over text keys" in found.summary


def test_a_head_that_rests_is_flat_beside_its_sink() -> None:
    """0.9 on the first key and the rest flat: 1 without it; a head without a sink keeps its entropy."""
    resting = torch.ones(8, 8).tril()
    resting[:, 0] = 0
    resting = 0.1 * resting / resting.sum(-1, keepdim=True).clamp_min(1)
    resting[:, 0] = 1 - resting[:, 1:].sum(-1)
    maps = torch.stack([resting, uniform(8)[0, 0]])[None]
    trace = make_trace({TEXT: maps})
    every = analyses.entropy(trace).frame["normalised_entropy"]
    found = analyses.entropy(without(trace, "maps"), keys="but_sinks").frame["normalised_entropy"]
    assert every[0] < 0.4
    assert found[0] == pytest.approx(1.0, abs=1e-4)
    assert found[1] == pytest.approx(every[1], rel=1e-5)
    np.testing.assert_allclose(
        analyses.entropy(trace, keys="but_sinks").frame["normalised_entropy"], found, rtol=1e-5
    )


def test_streamed_as_from_patterns() -> None:
    model = shared_model("llama")
    with hw.capture(model, maps=True) as trace, torch.no_grad():
        model(torch.arange(5, 25)[None])
    streamed = analyses.entropy(without(trace, "maps"), keys="but_first").frame
    keys = torch.ones(20, dtype=torch.bool)
    keys[0] = False
    for layer, part in streamed.groupby("layer"):
        nats, choices = entropy_over(trace.maps[trace.site(int(layer))][0], keys)
        rate = (nats / choices.log()).where(choices >= 2, torch.nan).nanmean(-1)
        np.testing.assert_allclose(part["normalised_entropy"], rate, rtol=1e-4)


def test_several_single_keys_and_a_sink_logit() -> None:
    """Two keys left out of rows that sum to 0.8."""
    row = 0.8 * random_pattern(1, 1, 1, 7)[0, 0, 0]
    found = entropy_of_rest(torch.special.entr(row).sum(), row[[0, 6]], row.sum())
    rest = row[1:6].double() / row[1:6].double().sum()
    assert found.item() == pytest.approx(torch.special.entr(rest).sum().item(), rel=1e-5)
    assert entropy_of_rest(torch.tensor(0.0), torch.tensor([1.0])).isnan()


def test_padding_on_the_left_changes_nothing() -> None:
    batch, single = padded_batch((0, 3))
    found = analyses.entropy(without(batch, "maps"), keys="but_first").frame
    for example, trace in enumerate(single):
        own = analyses.entropy(trace, keys="but_first").frame["normalised_entropy"]
        np.testing.assert_allclose(found[found["example"] == example]["normalised_entropy"], own, rtol=1e-5)


def test_refused() -> None:
    trace = make_trace({TEXT: uniform(6)}, {"text": axis("text", [ROLES])})
    with pytest.raises(InputError, match=r"keys names a role.*'imgae', close: image"):
        analyses.entropy(trace, keys="imgae")
    with pytest.raises(InputError, match=r"rows names a role.*but_first"):
        analyses.entropy(trace, rows="but_first")
    with pytest.raises(InputError, match="epsilon"):
        analyses.entropy(trace, keys="but_sinks", epsilon=2.0)
    with pytest.raises(CaptureError, match=r"do not tell these keys apart.*maps=True"):
        analyses.entropy(without(trace, "maps"), keys="image")
    with pytest.raises(
        CaptureError, match="Normalised entropy with rows='audio', keys='all' is defined for no head"
    ):
        analyses.entropy(trace, rows="audio")
    with pytest.raises(CaptureError, match="keys='audio' is defined for no head"):
        analyses.entropy(trace, keys="audio")
