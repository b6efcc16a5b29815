"""Where sound lies: encoder positions, their time, and the padding of the waveform or spectrogram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.families import family_of
from headwise.layout.axes import ROLES, Axis

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LONG = 10_000


def audio_axis(model: PreTrainedModel, processor: Any, inputs: Mapping[str, Tensor]) -> Axis | None:
    """Positions of a speech encoder.

    The model's own rule for output lengths says how many positions an input has and how long one lasts. None
    where the model has no such rule.
    """
    wave, features = inputs.get("input_values"), inputs.get("input_features")
    if wave is not None and wave.ndim == 2:
        examples, frames = wave.shape
    elif features is not None and features.ndim == 3:
        channels_first = features.shape[1] == getattr(model.config, "num_mel_bins", None)
        examples, frames = len(features), features.shape[2 if channels_first else 1]
    else:
        return None
    if not hasattr(model, "_get_feat_extract_output_lengths"):
        return None
    positions = _positions(model, frames)
    roles = torch.full((examples, positions), ROLES.index("audio"), dtype=torch.uint8)
    mask = inputs.get("attention_mask")
    masks = family_of(model.config).masks_audio
    real = None
    if mask is not None and tuple(mask.shape) == (examples, frames):
        real = mask.sum(-1)
    elif features is not None and not masks:
        real = frames - _silent_frames(features if channels_first else features.transpose(1, 2))
    if real is not None:
        behind = ROLES.index("padding" if masks else "silence")
        for example, length in enumerate(real.tolist()):
            roles[example, max(0, _positions(model, int(length))) if length else 0 :] = behind
    return Axis("encoder", roles, seconds=position_seconds(model, processor, positions))


def _silent_frames(features: Float[Tensor, "example channel frame"]) -> Int[Tensor, " example"]:
    """Frames behind the end of every sound: two or more at its end that are alike in every channel.

    A feature extractor fills its window with zeros before it takes the logarithm, which it cuts off at the same floor
    in every channel; Whisper fills the last window of a long recording with zeros afterwards.
    """
    sounds = features.amax(1) != features.amin(1)
    last = (sounds * torch.arange(1, sounds.shape[1] + 1, device=sounds.device)).amax(1)
    silent = sounds.shape[1] - last
    return silent.where(silent > 1, 0).cpu()


def position_seconds(
    model: PreTrainedModel, processor: Any, positions: int
) -> Float[Tensor, "position 2"] | None:
    """Start and end of every encoder position in seconds; None where nobody tells the time."""
    step = _input_seconds(model, processor)
    if step is None or not hasattr(model, "_get_feat_extract_output_lengths"):
        return None
    stride = round(100 * _LONG / (_positions(model, 101 * _LONG) - _positions(model, _LONG)))
    width = step * stride
    start = torch.arange(positions, dtype=torch.float32) * width
    return torch.stack([start, start + width], dim=1)


def _positions(model: PreTrainedModel, frames: int) -> int:
    """Encoder positions of an input of `frames` entries, by the model's own rule."""
    rule: Any = model._get_feat_extract_output_lengths
    options = {"add_adapter": False} if getattr(model.config, "add_adapter", False) else {}
    return int(rule(torch.tensor(frames), **options))


def _input_seconds(model: PreTrainedModel, processor: Any) -> float | None:
    """Time between two entries of the audio input: samples of a waveform, or frames of a spectrogram."""
    extractor = getattr(processor, "feature_extractor", processor)
    rate = getattr(extractor, "sampling_rate", None)
    hop = 1 if model.main_input_name == "input_values" else getattr(extractor, "hop_length", None)
    return hop / rate if rate and hop else family_of(model.config).input_seconds
