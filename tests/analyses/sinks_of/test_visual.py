"""Visual sinks: known answers, a twin of what they write, what is refused."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch

import headwise as hw
from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.redistribution import standing_out
from headwise.probes.trace.trace import Trace
from headwise.testing.inputs import forward
from tests.kit.traces import TEXT, axis, make_trace, uniform
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared

T, WIDTH, LAYERS = 10, 16, 4
ROLES = ["bos", *["image"] * 6, *["content"] * 3]


def planted(width: int = WIDTH) -> Trace:
    """<bos> and the third image token, position 3, stand out in dimension 5; the latter writes a tenth of the rest."""
    sites = [replace(TEXT, layer=layer) for layer in range(LAYERS)]
    trace = make_trace(
        dict.fromkeys(sites, uniform(T)), {"text": axis("text", [ROLES], [list("abcdefghij")])}
    )
    residual = torch.ones(1, T, width)
    residual[:, [0, 3], 5] = 50.0
    norms = torch.ones(1, 1, T)
    norms[..., 3] = 0.1
    fields = {"residual": residual, "value_norm": norms, "write_norm": norms}
    return Trace({site: {**trace.records[site], **fields} for site in sites}, trace.layout, trace.meta)


@pytest.mark.parametrize("dimensions", [None, (5,)])
def test_the_planted_sink_is_found(dimensions: tuple[int, ...] | None) -> None:
    result = analyses.visual_sinks(planted(), dimensions=dimensions, background=(2, 3, 4))
    frame = result.frame
    assert len(frame) == 6 * LAYERS
    assert frame.loc[frame["sink"], ["position", "place"]].drop_duplicates().to_numpy().tolist() == [[3, 2]]
    score = 50 / sqrt((2500 + WIDTH - 1) / WIDTH + 1e-6)
    np.testing.assert_allclose(frame.loc[frame["sink"], "score"], score, rtol=1e-5)
    alpha = [np.mean([1 / (i + 1) for i in range(position, T)]) for position in range(1, 7)]
    first = frame.query("layer == 0")
    np.testing.assert_allclose(first["received"], alpha, rtol=1e-5)
    written = np.array(alpha) * [1, 1, 0.1, 1, 1, 1]
    np.testing.assert_allclose(first["contribution"], written, rtol=1e-5)
    taken, writes = (f"{100 * values[2] / sum(values):.0f} %" for values in (alpha, written))
    assert result.summary == (
        f"By dimensions 5, 17 % of the image tokens of a layer are sinks; they take {taken} of the attention on the "
        f"image, and are {writes} of what it writes; 100 % of them lie on background, as 50 % of all do."
    )


def test_dimensions_that_stand_out_often_are_found() -> None:
    ratios = torch.tensor([[1.0, 9.0, 1.0, 5.0], [1.0, 8.0, 6.0, 1.0], [1.0, 7.0, 1.0, 6.0]])
    assert standing_out(ratios, 5.0) == (1, 3)
    assert standing_out(ratios, 5.0, most=1) == (1,)
    assert standing_out(ratios, 10.0) == ()


def test_where_no_dimension_stands_out_there_are_no_sinks_and_that_is_said() -> None:
    trace = planted()
    flat = {site: {**record, "residual": torch.ones(1, T, WIDTH)} for site, record in trace.records.items()}
    result = analyses.visual_sinks(Trace(flat, trace.layout, trace.meta))
    assert not result.frame["sink"].any()
    assert result.summary == "No residual dimension marks sinks here, so there are none."


def test_a_twin_of_what_is_written() -> None:
    """Every row, key and head of a model with an image, with values and W_O taken apart in NumPy."""
    model: Any = shared("llava")
    with hw.capture(model, maps=True, qkv=True, norms=True, residual=True) as trace:
        forward(model, ARCHITECTURES["llava"].inputs["plain"]())
    frame = analyses.visual_sinks(trace, dimensions=(0,), tau=1.0).frame.query(
        "tower == 'text' and example == 0"
    )
    for layer, part in frame.groupby("layer"):
        site = trace.site(int(str(layer)))
        maps, values = trace.maps[site][0].double().numpy(), trace.values[site][0].double().numpy()
        weight = model.get_submodule(site.module).o_proj.weight.detach().double().numpy()
        heads, groups = len(maps), len(maps) // len(values)
        inner = np.split(weight.T, heads)
        for row in part.to_dict("records"):
            position = int(row["position"])
            rows = [
                np.mean(
                    [
                        np.linalg.norm(maps[h, i, position] * values[h // groups, position] @ inner[h])
                        for i in range(position, maps.shape[1])
                    ]
                )
                for h in range(heads)
            ]
            np.testing.assert_allclose(row["contribution"], np.mean(rows), rtol=1e-4)


def test_what_it_refuses() -> None:
    trace = planted()
    for wrong in ((), (16,), (-1,)):
        with pytest.raises(InputError, match="dimensions are those of the residual"):
            analyses.visual_sinks(trace, dimensions=wrong)
    for tau in (0.0, 4.1):
        with pytest.raises(InputError, match="No token can reach"):
            analyses.visual_sinks(trace, tau=tau)
    words = replace(trace.layout, axes={"text": axis("text", [["content"] * T])})
    with pytest.raises(CaptureError, match=r"no image token.*residual=True, norms=True"):
        analyses.visual_sinks(Trace(trace.records, words, {}))
