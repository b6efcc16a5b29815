"""Cross-attention of an encoder-decoder while it is given what it should have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.probes.capture import capture
from headwise.text import head_name

if TYPE_CHECKING:
    from headwise.subject import Subject


def cross_attention(
    subject: Subject, inputs: Mapping[str, Any], *, check: bool
) -> dict[int, Float[Tensor, "example head query key"]]:
    """Every layer's cross-attention for inputs with a target; padded query rows are NaN.

    The encoder runs outside of the capture: nothing of it is kept.

    Args:
        subject: the model.
        inputs: of `Subject.prepare`, with decoder ids.
        check: compare the engine with the model first, see `headwise.capture`.

    Raises:
        InputError: the model has no cross-attention.
    """
    model: Any = subject.model
    if not subject.config.is_encoder_decoder:
        raise InputError("Only an encoder-decoder has cross-attention.", evidence=type(model).__name__)
    names = (model.main_input_name, "attention_mask")
    read = {name: inputs[name] for name in names if name in inputs}
    rest = {name: value for name, value in inputs.items() if name != model.main_input_name}
    with torch.no_grad():
        encoded = model.get_encoder()(**read)
        with capture(subject, stats=False, maps=True, check=check) as trace:
            model(encoder_outputs=encoded, **rest)
    found = {site.layer: trace.maps[site] for site in trace.maps if site.kind == "cross"}
    if not found:
        raise InputError("No cross-attention was seen.", evidence=type(model).__name__)
    return found


def check_heads(heads: tuple[tuple[int, int], ...], layers: Mapping[int, Tensor]) -> None:
    """Refuse heads that the model does not have.

    Raises:
        InputError: a layer or a head is not there.
    """
    for layer, head in heads:
        if layer not in layers or not 0 <= head < layers[layer].shape[1]:
            raise InputError(
                f"The decoder has no head {head_name(layer, head)}.",
                evidence=f"layers {min(layers)} to {max(layers)}, {next(iter(layers.values())).shape[1]} heads",
            )
