"""Windows of a vision tower are one head per head, with positions of the whole tower."""

from __future__ import annotations

import pytest
import torch

import headwise as hw
from headwise.layout import describe
from headwise.testing.inputs import random_normal
from headwise.testing.models import IMAGE_TOKEN
from tests.tiny import ARCHITECTURES
from tests.tiny.reference import in_blocks, recorded_eager
from tests.tiny.shared import shared

NAMES = ["qwen2_5_vl", "qwen2_vl", "qwen3_vl"]
PICTURES = [[1, 4, 6], [1, 8, 4]]
PATCHES = [24, 32]


def inputs_of(grids: list[list[int]]) -> dict[str, torch.Tensor]:
    """A prompt with pictures of these numbers of patches; four patches are merged into a token."""
    sizes = [frames * height * width for frames, height, width in grids]
    pictures = [token for size in sizes for token in (102, *[IMAGE_TOKEN] * (size // 4), 103)]
    ids = torch.tensor([[1, *pictures, 7, 8, 9]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": random_normal(sum(sizes), 3 * 2 * 8 * 8),
        "image_grid_thw": torch.tensor(grids),
        "mm_token_type_ids": (ids == IMAGE_TOKEN).int(),
    }


def vision_sites(trace: hw.Trace) -> list[hw.Site]:
    return [site for site in trace.sites if site.tower == "vision"]


@pytest.mark.parametrize("grids", [[[1, 4, 4]], PICTURES], ids=["one", "two"])
@pytest.mark.parametrize("name", NAMES)
def test_windows_are_blocks_of_one_pattern(name: str, grids: list[list[int]]) -> None:
    row, inputs = ARCHITECTURES[name], inputs_of(grids)
    model, eager = row.build(), row.build(attention="eager")
    with torch.no_grad(), recorded_eager(eager) as expected:
        eager(**inputs)
    with torch.no_grad(), hw.capture(model, maps=True, qkv=True, heads=True) as trace:
        model(**inputs)
    assert [(site.layer, site.call) for site in vision_sites(trace)] == [(0, 0), (1, 0)]
    size = sum(PATCHES) if len(grids) > 1 else 16
    for site in vision_sites(trace):
        assert torch.equal(trace.maps[site], in_blocks(expected, site.module))
        assert trace.positions[site].tolist() == list(range(size))
        z = torch.einsum("bhqk,bhkd->bqhd", trace.maps[site], trace.values[site])
        torch.testing.assert_close(z, trace.heads[site], rtol=1e-4, atol=1e-5)
    assert hw.doctor(model, inputs).ok


@pytest.mark.parametrize("name", NAMES)
def test_statistics_of_windows_are_those_of_the_whole_pattern(name: str) -> None:
    model, inputs = shared(name), inputs_of(PICTURES)
    with torch.no_grad(), hw.capture(model, maps=True) as whole:
        model(**inputs)
    with torch.no_grad(), hw.capture(model) as streamed:
        model(**inputs)
    for site in vision_sites(streamed):
        record, pattern = streamed.records[site], whole.maps[site]
        torch.testing.assert_close(record["received"], pattern.sum(2), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            record["entropy"], torch.special.entr(pattern).sum(-1), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(record["n_queries"][0], (pattern[0, 0] > 0).sum(0).float())
        torch.testing.assert_close(record["n_keys"][0], (pattern[0, 0] > 0).sum(1).float())
    heads = hw.analyses.entropy(streamed).frame
    assert len(heads[heads["tower"] == "vision"]) == 2 * 4
    assert "of 8 heads" in hw.analyses.sinks(streamed).summary


def test_positions_of_a_fix_are_those_of_the_tower() -> None:
    """A hidden key is hidden from the rows of its own window, and its weight goes to the others of it."""
    model, inputs, key = shared("qwen2_5_vl"), inputs_of(PICTURES), 30
    with torch.no_grad(), hw.capture(model, maps=True) as plain:
        model(**inputs)
    fix = hw.fixes.MaskKeys(keys=[key], tower="vision")
    with torch.no_grad(), hw.patch(model, fix), hw.capture(model, maps=True) as hidden:
        model(**inputs)
    site = vision_sites(plain)[0]
    before, after = plain.maps[site], hidden.maps[site]
    expected = before.index_fill(-1, torch.tensor([key]), 0)
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantity", ["pattern", "k", "v", "q", "z"])
def test_recorded_windows_may_be_put_back(quantity: str) -> None:
    model, inputs = shared("qwen2_5_vl"), inputs_of(PICTURES)
    with torch.no_grad(), hw.capture(model, maps=True, qkv=True, heads=True) as trace:
        plain = model(**inputs).logits
    site = vision_sites(trace)[0]
    field = {"pattern": "maps", "k": "keys", "v": "values", "q": "queries", "z": "heads"}[quantity]
    own = getattr(trace, field)[site]
    for value, same in ((own, True), (own.flip(1) if quantity == "pattern" else own * 2, False)):
        fix = hw.fixes.Replace(layer=0, quantity=quantity, value=value, tower="vision")
        with torch.no_grad(), hw.patch(model, fix):
            changed = model(**inputs).logits
        assert torch.allclose(changed, plain, atol=1e-4) == same


def test_chosen_rows_of_windows_are_counted_in_the_tower() -> None:
    model, inputs = shared("qwen2_5_vl"), inputs_of(PICTURES)
    with torch.no_grad(), hw.capture(model, maps=True) as whole:
        model(**inputs)
    with torch.no_grad(), hw.capture(model, rows=[5, 30, -1]) as some:
        model(**inputs)
    for site in vision_sites(whole):
        assert some.positions[site].tolist() == [5, 30, 55]
        torch.testing.assert_close(some.maps[site], whole.maps[site][:, :, [5, 30, 55]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_patch_knows_its_place_in_its_picture(name: str) -> None:
    """The patch of a row and column is the one whose pixels stood there when the patches were laid out in blocks."""
    model, inputs = shared(name), inputs_of(PICTURES)
    frame = describe(model, None, inputs).axes["vision"].to_frame()
    assert frame["image"].tolist() == [0] * 24 + [1] * 32
    for image, (height, width) in enumerate([(4, 6), (8, 4)]):
        own = frame[frame["image"] == image]
        places = list(zip(own["row"], own["column"], strict=True))
        assert sorted(places) == [(r, c) for r in range(height) for c in range(width)]
        assert [(r - places[0][0], c - places[0][1]) for r, c in places[:4]] == [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
        ]


def test_gradients_of_windows_are_those_of_the_models_own_patterns() -> None:
    row, inputs = ARCHITECTURES["qwen2_5_vl"], inputs_of(PICTURES)
    model, eager = row.build(), row.build(attention="eager")
    with recorded_eager(eager, gradients=True) as patterns:
        eager(**inputs).logits[0, -1].max().backward()
    gradients = {place: pattern.grad for place, pattern in patterns.items() if pattern.grad is not None}
    with hw.capture(model, maps=True, gradients=True) as trace:
        loss = model(**inputs).logits[0, -1].max()
    loss.backward()
    for site in vision_sites(trace):
        expected = in_blocks(gradients, site.module)
        block = in_blocks(patterns, site.module) > 0
        torch.testing.assert_close(trace.map_gradients[site][block], expected[block], rtol=1e-4, atol=1e-6)
        products = (trace.maps[site] * trace.map_gradients[site]).detach()
        torch.testing.assert_close(trace.attribution(site, "key"), products.sum(2), rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(trace.attribution(site, "query"), products.sum(3), rtol=1e-3, atol=1e-6)
