"""Positions of left-padded texts: whether a model counts them from its mask or has to be given them."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from headwise.layout import ROLES, Axis, TokenLayout
from headwise.probes.attach import interface
from headwise.probes.check.probe_inputs import probe_inputs
from headwise.probes.check.trial import first_output
from headwise.probes.engine.session import Session

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LeftPadding = Literal["mask", "position_ids", "edge", "unknown"]
"""Where the positions of a left-padded text come from: `mask`, the model counts the tokens that its mask shows;
`position_ids`, it counts from the left edge unless it is given them; `edge`, it always counts from the left edge;
`unknown`, the model does not run on text alone, or gives NaN."""

_TOKENS, _PADDING = 5, 3
_ROUNDING = {torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Differences that rounding alone may make in 16-bit numbers; rotary positions differ by as much behind padding."""
_NOISE = 1e-5
_MEASURED: weakref.WeakKeyDictionary[Any, dict[int, tuple[LeftPadding, float]]] = weakref.WeakKeyDictionary()
"""A memo of what was measured; it never keeps a model alive and changes no answer."""


def left_padding(model: PreTrainedModel, pad: int = 0) -> LeftPadding:
    """The rule of a model for left-padded text, by its effect: five tokens alone and behind three of padding.

    Measured once per model, in evaluation mode only, with nothing recorded or patched.

    Args:
        model: the model.
        pad: the id that padding is filled with; some models find padding by its id.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16)
        >>> left_padding(GPT2LMHeadModel(config).eval())
        'position_ids'
    """
    return _measured(model, pad)[0]


def moves_texts(model: PreTrainedModel) -> bool:
    """True when left padding without positions changes what a model says of a text, by more than rounding."""
    rule, change = _measured(model, 0)
    return rule in ("position_ids", "edge") and change > _rounding(model)


def _measured(model: PreTrainedModel, pad: int) -> tuple[LeftPadding, float]:
    """The rule, and how far padding moves the output without positions."""
    if model.training:
        return "unknown", 0.0
    measured = _MEASURED.setdefault(model, {})
    if pad not in measured:
        measured[pad] = _measure(model, pad)
    return measured[pad]


def _rounding(model: PreTrainedModel) -> float:
    return _ROUNDING.get(model.dtype, 1e-3)


def positions_of(mask: Tensor) -> Tensor:
    """Positions counted from the first real token of every row, as `generate` counts them; 0 on padding."""
    return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)


@contextmanager
def unrecorded(model: PreTrainedModel) -> Iterator[None]:
    """Forwards of the plain model: no capture records them and no patch acts, and the random state is kept."""
    instrumented = model.__dict__.get(interface.INSTRUMENTATION)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        if instrumented is None:
            yield
        else:
            with instrumented.nested_forward(Session(model, None, instrumented.language)):
                yield


def _measure(model: PreTrainedModel, pad: int) -> tuple[LeftPadding, float]:
    try:
        tries = probe_inputs(model, _TOKENS)
    except (ArithmeticError, AttributeError, TypeError, ValueError):  # an unusual configuration
        return "unknown", 0.0
    with unrecorded(model):
        for inputs in tries:
            alone = _last_rows(model, inputs) if "input_ids" in inputs else None
            if alone is not None:
                return _compare(model, inputs, alone, pad)
    return "unknown", 0.0


def _compare(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], alone: Tensor, pad: int
) -> tuple[LeftPadding, float]:
    ids = inputs["input_ids"]
    padded = torch.cat([ids.new_full((1, _PADDING), pad), ids], 1)
    mask = torch.ones_like(padded)
    mask[:, :_PADDING] = 0
    behind = {**inputs, "input_ids": padded, "attention_mask": mask}
    rows = _last_rows(model, behind)
    if not all(bool(some.isfinite().all()) for some in (alone, rows) if some is not None):
        return "unknown", 0.0
    plain = _difference(alone, rows)
    if plain <= _NOISE:
        return "mask", plain
    if "position_ids" in inspect.signature(model.forward).parameters:
        given = _difference(alone, _last_rows(model, {**behind, "position_ids": positions_of(mask)}))
        if given < plain / 2:
            return "position_ids", plain
    return ("mask" if plain <= _rounding(model) else "edge"), plain


def _last_rows(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """The output at the last tokens; None where the model does not run on this."""
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        inputs = {
            **inputs,
            "token_type_ids": torch.zeros_like(inputs["input_ids"]),
        }  # PaliGemma's mask needs them
    try:
        return first_output(model(**inputs)).float()[:, -_TOKENS:]
    except Exception:
        return None


def _difference(one: Tensor, other: Tensor | None) -> float:
    """The largest difference, as a share of the largest value; infinite without a second tensor."""
    if other is None or other.shape != one.shape:
        return float("inf")
    return float((one - other).abs().max()) / max(1.0, float(one.abs().max()))


def prompt_warnings(model: PreTrainedModel, layout: TokenLayout, *, unplaced: bool) -> list[str]:
    """What is wrong with the prompts of a run, as a reader of its numbers has to know.

    Args:
        model: the model that ran.
        layout: of what it was given.
        unplaced: a left-padded prompt came without positions.
    """
    found = []
    if unplaced and moves_texts(model):
        found.append(
            "Texts were padded on the left without position_ids, and this model counts positions from the left edge: "
            "their patterns are not those of the texts alone. subject.prepare gives the positions."
        )
    doubles = sum(_opens_twice(axis) for tower, axis in layout.axes.items() if tower in ("text", "encoder"))
    if doubles:
        found.append(f"The beginning-of-sequence token stands twice in front of {doubles} prompts.")
    return found


def _opens_twice(axis: Axis) -> int:
    """Rows whose first two real tokens are one and the same opening token."""
    if axis.ids is None or axis.ids.shape[1] < 2:
        return 0
    real = axis.roles != ROLES.index("padding")
    first = real.int().argmax(1)
    rows = torch.arange(len(first))
    second = (first + 1).clamp(max=axis.ids.shape[1] - 1)
    opens = axis.roles[rows, first] == ROLES.index("bos")
    same = (axis.ids[rows, first] == axis.ids[rows, second]) & (second > first) & real[rows, second]
    return int((opens & same).sum())
