"""What no analysis and no fix may depend on: padding, batching, grouped heads, caching, the attention kernel.

Whatever is registered is tested: an analysis needs nothing but its name; a fix needs an entry in `FIXES`
that makes an instance which acts on the tiny models here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

import headwise as hw
from headwise import analyses, fixes
from tests.tiny.architecture import Inputs
from tests.tiny.inputs import IMAGE_TOKEN, PADDED, pictures, random_ids
from tests.tiny.reference import first, forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Run = Callable[["PreTrainedModel"], Any]
LONG, SHORT = 12, 12 - PADDED
PATCHES = 16
NEW = 4
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
MODELS = ("gpt2", "llama", "gemma2", "bert")
SEEING = ("llava",)
"""Models for fixes that need an image in the prompt."""


def models_of(fix: str) -> tuple[str, ...]:
    """The models that a fix is tested on."""
    return SEEING if fix in ("var", "vhr") else MODELS


def alone(example: int, architecture: str = "") -> Inputs:
    """One of two texts, without padding; behind an image for a model that sees."""
    ids = random_ids(1, (LONG, SHORT)[example], seed=20 + example)
    return _with_image(ids, architecture, example)


def together(side: str, architecture: str = "") -> Inputs:
    """Both texts in a batch; the second has padding on one side."""
    texts = [alone(example, architecture) for example in (0, 1)]
    room = (PADDED, 0) if side == "left" else (0, PADDED)
    batch = {}
    for name in texts[0]:
        second = texts[1][name]
        second = second if name == "pixel_values" else torch.nn.functional.pad(second, room)
        batch[name] = torch.cat([texts[0][name], second])
    lengths = [text["input_ids"].shape[1] for text in texts]
    real = torch.nn.functional.pad(torch.ones(1, lengths[1], dtype=torch.long), room)
    return batch | {"attention_mask": torch.cat([torch.ones(1, lengths[0], dtype=torch.long), real])}


def equal_length_pair(architecture: str = "") -> Inputs:
    """Two texts of one length; behind an image each for a model that sees."""
    ids = random_ids(2, LONG, seed=22)
    parts = [_with_image(ids[example : example + 1], architecture, example) for example in (0, 1)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _with_image(ids: torch.Tensor, architecture: str, example: int) -> Inputs:
    inputs: Inputs = {}
    if architecture in SEEING:
        image = torch.full((1, PATCHES), IMAGE_TOKEN)
        ids = torch.cat([torch.ones(1, 1, dtype=torch.long), image, ids], 1)
        inputs["pixel_values"] = pictures(2)[example : example + 1]
    return {"input_ids": ids, "position_ids": torch.arange(ids.shape[1])[None]} | inputs


def ungrouped(model: PreTrainedModel) -> PreTrainedModel:
    """A model without grouped heads that computes the same: every query head has a copy of its key head."""
    config = type(model.config).from_dict(model.config.to_dict())
    text = config.get_text_config()
    groups = text.num_attention_heads // text.num_key_value_heads
    text.num_key_value_heads = text.num_attention_heads
    twin = type(model)(config).eval()
    weights = model.state_dict()
    for name in list(weights):
        if ("k_proj" in name or "v_proj" in name) and "vision" not in name:
            heads = weights[name].unflatten(0, (-1, text.head_dim))
            weights[name] = heads.repeat_interleave(groups, 0).flatten(0, 1)
    twin.load_state_dict(weights)
    return twin


def decode(model: PreTrainedModel, inputs: Inputs, *, use_cache: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and logits of greedy decoding."""
    output = model.generate(
        **{name: value for name, value in inputs.items() if name in ("input_ids", "pixel_values")},
        do_sample=False,
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        pad_token_id=0,
        use_cache=use_cache,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.sequences, torch.stack(output.logits, dim=1)


def analysed(name: str, model: PreTrainedModel, runs: Iterable[Run]) -> pd.DataFrame:
    """The frame of an analysis over everything that `runs` do with a model."""
    with hw.capture(model) as trace:
        for run in runs:
            run(model)
    return analyses.get(name)(trace).frame


def assert_same_frame(frame: pd.DataFrame, other: pd.DataFrame) -> None:
    """Both frames hold the same numbers, in any order of rows."""
    tables = []
    for table in (frame, other):
        keys = [column for column in table if table[column].dtype.kind != "f"]
        tables.append(table.sort_values(keys).reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables, check_dtype=False, **TOLERANCE)


def without_padding(frame: pd.DataFrame, shift: int) -> pd.DataFrame:
    """The frame with the positions of the second example counted from its first real one."""
    if "position" not in frame:
        return frame
    return frame.assign(position=frame["position"] - shift * (frame["example"] == 1))


def patched(fix: Any, model: PreTrainedModel, inputs: Inputs) -> torch.Tensor:
    """The first output of a forward with a fix installed."""
    with hw.patch(model, fix):
        return first(forward(model, inputs))


def _replacement(shift: int) -> fixes.Replace:
    value = torch.zeros(1, 20, 4, 8)
    value[:, 5 + shift] = torch.randn(4, 8, generator=torch.Generator().manual_seed(7))
    return fixes.Replace(quantity="z", layer=1, value=value, heads=(1, 2), positions=(5 + shift,))


FIXES: dict[str, Callable[[int], Any]] = {
    "act": lambda shift: fixes.ACT(heads=((0, 1), (1, 0), (1, 3)), alpha=1.5, min_rows=2),
    "mask_keys": lambda shift: fixes.MaskKeys(keys=(2 + shift, 4 + shift)),
    "replace": _replacement,
    "scale_heads": lambda shift: fixes.ScaleHeads(heads=((0, 1), (1, 3)), factor=0.3),
    "set_rows": lambda shift: fixes.SetRows(heads=((1, 0), (1, 2)), row=-1, weights={3 + shift: 1.0}),
    "var": lambda shift: fixes.VAR(sink_dims=(3, 5), tau=1.5, layers=(0, 1), rho=0.3),
    "vhr": lambda shift: fixes.VHR(layers=(0, 1)),
    "zero_heads": lambda shift: fixes.ZeroHeads(heads=((0, 0), (1, 2))),
}
"""One instance of every fix that headwise registers, its positions moved to the right by `shift`."""

NEUTRAL: dict[str, Any] = {
    "act": fixes.ACT(heads=((0, 1),), beta=1.0),
    "mask_keys": fixes.MaskKeys(keys=()),
    "replace": fixes.Replace(quantity="z", layer=1, value=torch.zeros(1, 20, 4, 8), heads=()),
    "scale_heads": fixes.ScaleHeads(heads=((0, 1),), factor=1.0),
    "set_rows": fixes.SetRows(heads=(), row=-1, weights={0: 1.0}),
    "var": fixes.VAR(sink_dims=(3,), p=0.0),
    "vhr": fixes.VHR(alpha=1.0),
    "zero_heads": fixes.ZeroHeads(heads=()),
}
"""Every fix at the strength that changes nothing."""
