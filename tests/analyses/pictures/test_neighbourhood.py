"""Attention by hops on the grid of a picture: golden numbers, a twin, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.neighbourhood import hops, ring_mass
from headwise.layout import Axis, ImageSpan
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from tests.kit.traces import axis, causal, make_trace, plain_axis, random_pattern

VISION = Site("vision", "self", 0, "vision.layers.0")


def picture(grid: tuple[int, int], examples: int = 1, places: tuple[int, ...] | None = None) -> Axis:
    """[CLS], then the patches."""
    size = grid[0] * grid[1]
    roles = axis("vision", [["special"] + ["image"] * size] * examples)
    return replace(roles, images=tuple(ImageSpan(i, 0, 1, size, grid, places) for i in range(examples)))


def seen(pattern: torch.Tensor, own: Axis) -> Trace:
    return make_trace({VISION: pattern}, {"vision": own}, causal=False)


def test_golden_numbers_of_a_flat_head() -> None:
    """vision_language.md 13: rings of a 3 x 3 grid."""
    places = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    apart = hops(places, places)
    sizes = ring_mass(torch.ones(9, 9), apart)
    assert sizes[[0, 1, 4], 1].tolist() == [3, 5, 8]
    assert sizes[[0, 1, 4], 2].tolist() == [5, 3, 0]
    flat = torch.full((1, 1, 10, 10), 0.1)
    found = analyses.neighbourhood(seen(flat, picture((3, 3))), hops=2).frame
    np.testing.assert_allclose(found["share"], [0.111111, 0.493827, 0.395062], atol=1e-6)
    np.testing.assert_allclose(found["flat"], found["share"], atol=1e-6)
    np.testing.assert_allclose(found["relative"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found["inside"], 0.9, rtol=1e-5)


def test_a_head_that_looks_at_its_own_patch() -> None:
    found = analyses.neighbourhood(seen(torch.eye(7)[None, None], picture((2, 3))), hops=9)
    assert found.frame["share"].tolist() == [1.0, 0.0, 0.0]  # a grid of 2 x 3 ends at 2 hops
    assert "100 % of what they give the picture" in found.summary
    assert "most L0H0: 100 %" in found.summary


@pytest.mark.parametrize("places", [None, (0, 1, 4, 5, 2, 3, 6, 7)])
def test_twin(places: tuple[int, ...] | None) -> None:
    """Also where a tower has an order of its own."""
    pattern = random_pattern(2, 3, 9, 9)
    found = analyses.neighbourhood(seen(pattern, picture((2, 4), 2, places)), hops=3).frame
    order = places or range(8)
    at = [divmod(place, 4) for place in order]
    for row in found.itertuples():
        p = pattern[row.example, row.head, 1:, 1:].double().numpy()
        p = p / p.sum(-1, keepdims=True)
        ring = [
            [j for j in range(8) if max(abs(at[i][0] - at[j][0]), abs(at[i][1] - at[j][1])) == row.hop]
            for i in range(8)
        ]
        assert row.share == pytest.approx(np.mean([p[i, ring[i]].sum() for i in range(8)]), rel=1e-5)
        strength = [p[i, ring[i]].sum() / len(ring[i]) for i in range(8) if ring[i]]
        assert row.relative == pytest.approx(8 * np.mean(strength), rel=1e-5)
    assert len(found) == 2 * 3 * 4
    np.testing.assert_allclose(found.groupby(["example", "head"])["share"].sum(), 1.0, rtol=1e-5)


def test_patches_in_a_causal_row_see_those_before_them() -> None:
    """A flat decoder is flat beside its baseline, text and padding around the picture or not."""
    roles = ["padding", "content", *["image"] * 6, "content"]
    own = replace(axis("text", [roles]), images=(ImageSpan(0, 0, 2, 6, (2, 3)),))
    pattern = torch.zeros(1, 1, 9, 9)
    pattern[..., 1:, 1:] = causal(torch.ones(1, 1, 8, 8))
    found = analyses.neighbourhood(
        make_trace({Site("text", "self", 0): pattern}, {"text": own}), hops=2
    ).frame
    np.testing.assert_allclose(found["share"], found["flat"], rtol=1e-5)
    np.testing.assert_allclose(found["relative"], 1.0, rtol=1e-5)


def test_refused() -> None:
    with pytest.raises(InputError, match="hops is 0 or more"):
        analyses.neighbourhood(seen(torch.eye(7)[None, None], picture((2, 3))), hops=-1)
    text = make_trace(
        {Site("text", "self", 0): causal(random_pattern(1, 1, 4, 4))}, {"text": plain_axis("text", 1, 4)}
    )
    with pytest.raises(CaptureError, match=r"patches of a picture whose grid is known.*text self"):
        analyses.neighbourhood(text)
