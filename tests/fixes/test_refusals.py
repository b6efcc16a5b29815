"""A refusal names a way out that works, or says that there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.probes.attach.sites import attention_modules
from headwise.testing.inputs import forward
from tests.kit.edits import FirstKey
from tests.tiny import ARCHITECTURES
from tests.tiny.architecture import Architecture
from tests.tiny.inputs import plain_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PICTURE = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
EAGER = 'attn_implementation="eager"'


def _picture(size: int = 32) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))}


FUSED = [
    Architecture(
        "sam_vision",
        "SamVisionModel",
        PICTURE
        | {
            "mlp_dim": 32,
            "output_channels": 8,
            "window_size": 2,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
        },
        {"plain": _picture},
        attention="sdpa",
    ),
    Architecture(
        "data2vec_vision",
        "Data2VecVisionModel",
        PICTURE | {"intermediate_size": 32},
        {"plain": _picture},
        attention="sdpa",
    ),
    replace(ARCHITECTURES["falcon"], attention="sdpa"),
]
"""Models whose modules call a fused kernel because of the implementation they were loaded with."""
RWKV = Architecture(
    "rwkv",
    "RwkvModel",
    {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "context_length": 16},
    {"plain": lambda: {"input_ids": plain_tokens()["input_ids"] % 20}},
)
LEVIT = Architecture(
    "levit",
    "LevitModel",
    {"image_size": 64, "hidden_sizes": [16, 32, 32], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1]}
    | {"key_dim": [8, 8, 8]},
    {"plain": lambda: _picture(64)},
)
HIDDEN = [row for row in ARCHITECTURES.values() if row.expected in ("refused", "partial", "none")]
CASES = [
    pytest.param(row, id=row.name, marks=[pytest.mark.slow] * (row.name == "minimax"))
    for row in (*HIDDEN, *FUSED, RWKV, LEVIT)
]


def refusals(model: PreTrainedModel, inputs: dict[str, Any], hidden: set[str]) -> list[str]:
    """What is said on capture, or on a patch of each module out of sight; those modules are put in `hidden`."""
    try:
        with hw.capture(model) as trace:
            forward(model, inputs)
    except hw.UnsupportedModel as refusal:
        hidden.update(entry.name for entry in attention_modules(model))
        return [str(refusal)]
    said = []
    for entry in attention_modules(model):
        if entry.name in trace.unreached:
            hidden.add(entry.name)
            fix: Any = FirstKey()
            fix.tower, fix.kind, fix.layers = entry.tower, entry.kind, (entry.layer,)
            with (
                pytest.raises(hw.UnsupportedModel, match=r"cannot reach|did not reach") as refusal,
                hw.patch(model, fix),
            ):
                forward(model, inputs)
            said.append(str(refusal.value))
    return said


@pytest.mark.parametrize("row", CASES)
def test_eager_attention_is_advised_where_it_helps_and_nowhere_else(row: Architecture) -> None:
    inputs = row.inputs["plain"]()
    at_first: set[str] = set()
    said = refusals(row.build(), inputs, at_first)
    assert said
    afterwards: set[str] = set()
    refusals(row.build("eager"), inputs, afterwards)
    helps = bool(at_first - afterwards)
    assert helps == (row in FUSED)
    assert all((EAGER in message) == helps for message in said)


def test_attention_of_a_form_that_is_not_known_is_not_denied() -> None:
    with pytest.raises(hw.UnsupportedModel, match=r"does not know the form.*LevitAttention"):
        hw.capture(LEVIT.build()).__enter__()
    with pytest.raises(hw.UnsupportedModel, match="without attention"):
        hw.capture(ARCHITECTURES["mamba"].build()).__enter__()
