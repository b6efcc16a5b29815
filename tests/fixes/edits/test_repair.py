"""The four-head intervention of the circuit-reuse paper as a spec, on a model of GPT-2 Medium's shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import headwise as hw

HEADS = ((12, 3), (13, 13), (13, 4), (19, 1))
COLOURS = (41, 45, 50)


@pytest.fixture(scope="module")
def medium() -> GPT2LMHeadModel:
    """24 layers of 16 heads, narrow."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(n_layer=24, n_head=16, n_embd=32, vocab_size=64, n_positions=64))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("right", COLOURS)
def test_the_last_row_of_four_heads_looks_at_the_wrong_colours(
    medium: GPT2LMHeadModel, tmp_path: Path, right: int
) -> None:
    wrong = [position for position in COLOURS if position != right]
    repair = hw.fixes.SetRows(heads=HEADS, row=-1, weights=dict.fromkeys(wrong, 0.5))
    hw.save_spec(tmp_path / "repair.json", repair, medium)
    ids = torch.randint(1, 64, (1, 56), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), hw.capture(medium, maps=True) as plain:
        medium(input_ids=ids)
    with hw.patch(medium, tmp_path / "repair.json"), torch.no_grad(), hw.capture(medium, maps=True) as fixed:
        medium(input_ids=ids)
    expected = torch.zeros(56)
    expected[wrong] = 0.5
    for layer, head in HEADS:
        assert torch.equal(fixed.maps[fixed.site(layer=layer)][0, head, -1], expected)
    first = fixed.site(layer=12)
    others = [head for head in range(16) if head != 3]
    assert torch.equal(fixed.maps[first][:, others], plain.maps[first][:, others])
    assert torch.equal(fixed.maps[first][:, 3, :-1], plain.maps[first][:, 3, :-1])
