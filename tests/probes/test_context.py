"""Keys and rows by their role, as a fix is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import PATCHES, alone, decode, together
from tests.tiny.inputs import IMAGE_TOKEN
from tests.tiny.reference import forward
from tests.tiny.shared import shared


class Rows:
    """Keeps what the context says of the rows and keys in hand."""

    def __init__(self) -> None:
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def edit(self, pattern: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        self.seen.append((context.keys_with_role("image", pattern), context.rows_behind_image(len(pattern))))
        return pattern


@pytest.mark.parametrize("side", ["left", "right"])
def test_context_knows_the_image_and_the_text_behind_it(side: str) -> None:
    model, inputs = shared("llava"), together(side, "llava")
    fix = Rows()
    with hw.patch(model, fix):
        forward(model, inputs)
    image = inputs["input_ids"] == IMAGE_TOKEN
    behind = (image.cumsum(1) > 0) & ~image & inputs["attention_mask"].bool()
    for keys, rows in fix.seen:
        assert torch.equal(keys, image)
        assert torch.equal(rows, behind)
    fix.seen.clear()
    with hw.patch(model, fix):
        decode(model, alone(0, "llava"), use_cache=True)
    keys, rows = fix.seen[-1]
    assert keys.sum() == PATCHES
    assert rows.all()


def test_context_of_a_prompt_without_image() -> None:
    fix = Rows()
    model = shared("llama")
    with hw.patch(model, fix):
        forward(model, alone(0))
    assert not any(bool(keys.any() | rows.any()) for keys, rows in fix.seen)
