"""A few tokens, a picture or a sound of the size a model expects, to try it out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.model.device import input_device
from headwise.probes.check.trial import first_line, first_output

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")


def probe_inputs(model: PreTrainedModel, tokens: int = 8) -> list[dict[str, Tensor]]:
    """Seeded inputs on the model's device, the smallest first; the global random state is not touched.

    The first holds the model's main input alone (a vision-language model gets text), the second a picture as well,
    for models that want both. Shapes come from the configuration.
    """
    config, main = model.config, model.main_input_name
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Tensor] = {}
    if main == "pixel_values":
        inputs[main] = torch.randn(1, *_picture(config), generator=generator)
    elif main in ("input_features", "input_values"):
        inputs[main] = torch.randn(1, *_sound(config, main), generator=generator)
    else:
        inputs[main] = _ids(config, tokens)
    if getattr(config, "is_encoder_decoder", False):
        start = _decoder_start(model)
        inputs["decoder_input_ids"] = _ids(config, 4)
        if start is not None:
            inputs["decoder_input_ids"][0, 0] = start
    elif main == "pixel_values" and getattr(config, "text_config", None) is not None:
        inputs["input_ids"] = _ids(config, tokens)
    if "qformer_input_ids" in inspect.signature(type(model).forward).parameters:
        inputs["qformer_input_ids"] = _ids(config, 4)
    tries = [inputs]
    if main == "input_ids" and getattr(config, "vision_config", None) is not None:
        tries.append({**inputs, "pixel_values": torch.randn(1, *_picture(config), generator=generator)})
    return [_placed(model, candidate) for candidate in tries]


def padded_batch(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Made-up inputs as a batch of three: without padding, padded on the left, padded on the right.

    None for a model that is not given ids, or takes no mask.
    """
    parameters = inspect.signature(type(model).forward).parameters
    if any(value.is_floating_point() for value in inputs.values()) or "attention_mask" not in parameters:
        return None
    batch = {name: value.expand(3, -1).clone() for name, value in inputs.items()}
    mask = torch.ones_like(batch["input_ids"])
    mask[1, :2] = mask[2, -2:] = 0
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    known = isinstance(padding, int) and padding >= 0
    batch["input_ids"] = batch["input_ids"].masked_fill(mask == 0, padding if known else 0)  # type: ignore[arg-type]
    return {**batch, "attention_mask": mask}


def first_that_fits(
    model: PreTrainedModel, inputs: Mapping[str, Any] | None, run: Callable[[Mapping[str, Any]], Result]
) -> tuple[Mapping[str, Any], Result]:
    """The given inputs, or the first made-up ones that the model accepts, and what `run` makes of them.

    Raises:
        InputError: the model does not run on any of them.
    """
    complaint: Exception | None = None
    for candidate in probe_inputs(model) if inputs is None else [inputs]:
        try:
            return candidate, run(candidate)
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            complaint = complaint or error
    made_up = "No input could be made up for this model."
    raise InputError(
        made_up if inputs is None else "The model does not run on these inputs.",
        evidence=f"{type(model).__name__}: {(str(complaint).splitlines() or [''])[0][:160]}",
        remedy="Pass the keyword arguments of its forward, for example subject.prepare(text=..., image=...).",
    ) from complaint


def _decoder_start(model: PreTrainedModel) -> int | None:
    """The token that a decoder begins with; `generate` puts it in front of a prompt that does not."""
    for config in (model.config, getattr(model, "generation_config", None)):
        for name in ("decoder_start_token_id", "bos_token_id"):
            value = getattr(config, name, None)
            if isinstance(value, int):
                return value
    return None


def _placed(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    device = input_device(model)
    return {
        name: value.to(device, model.dtype) if value.is_floating_point() else value.to(device)
        for name, value in inputs.items()
    }


def _ids(config: Any, tokens: int) -> Tensor:
    text = config.get_text_config()
    size = getattr(text, "vocab_size", None) or 32
    reserved = {
        value
        for owner in (config, text)
        for name, value in owner.to_dict().items()
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    }
    free = [token for token in range(min(size, 4 * tokens + len(reserved) + 8)) if token not in reserved]
    return torch.tensor([[free[(7 * k) % len(free)] for k in range(tokens)]])


def _picture(config: Any) -> tuple[int, int, int]:
    vision = getattr(config, "vision_config", None) or getattr(config, "encoder", None) or config
    size = getattr(vision, "image_size", 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return getattr(vision, "num_channels", 3), height, width


def _sound(config: Any, main: str) -> tuple[int, ...]:
    bins = getattr(config, "num_mel_bins", None)
    if main == "input_values":
        return (config.max_length, bins) if bins else (8000,)
    positions = getattr(config, "max_source_positions", None)
    if getattr(config, "input_feat_per_channel", None):
        return 64, config.input_feat_per_channel
    return bins or 80, 2 * (positions or 1500)


def first_that_runs(model: PreTrainedModel) -> tuple[dict[str, Tensor], Tensor] | str:
    """Made-up inputs and what the model gives on them; the model's own complaint when none runs."""
    complaint = ""
    try:
        tries = probe_inputs(model)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:  # an unusual configuration
        return first_line(error)
    for inputs in tries:
        torch.manual_seed(0)
        try:
            return inputs, first_output(model(**inputs))
        except Exception as error:
            complaint = complaint or first_line(error)
    return complaint
