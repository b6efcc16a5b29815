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
    sound = _sound(model, inputs)
    if sound is None or not hasattr(model, "_get_feat_extract_output_lengths"):
        return None
    examples, frames = sound.shape[:2]
    positions = _positions(model, frames)
    roles = torch.full((examples, positions), ROLES.index("audio"), dtype=torch.uint8)
    masks = family_of(model.config).masks_audio
    real = real_frames(model, inputs)
    if real is not None:
        behind = ROLES.index("padding" if masks else "silence")
        for example, length in enumerate(real.tolist()):
            roles[example, max(0, _positions(model, int(length))) if length else 0 :] = behind
    return Axis("encoder", roles, seconds=position_seconds(model, processor, positions))


def spectrogram(
    model: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> Float[Tensor, "example frame channel"] | None:
    """The spectrogram among the inputs of a model, time first; None where there is none."""
    features = inputs.get("input_features")
    if features is None or features.ndim != 3:
        return None
    channels_first = features.shape[1] == getattr(model.config, "num_mel_bins", None)
    return features.transpose(1, 2) if channels_first else features


def real_frames(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Int[Tensor, " example"] | None:
    """Entries of each sound (samples, or frames of a spectrogram) in front of its padding; None where nobody knows."""
    sound, mask = _sound(model, inputs), inputs.get("attention_mask")
    if sound is None:
        return None
    if mask is not None and mask.shape == sound.shape[:2]:
        return mask.sum(-1)
    if sound.ndim == 3 and not family_of(model.config).masks_audio:
        return sound.shape[1] - _silent_frames(sound.transpose(1, 2))
    return None


def frames_per_position(model: PreTrainedModel) -> int | None:
    """Entries of the sound for every encoder position; None where the model has no rule of its own."""
    if not hasattr(model, "_get_feat_extract_output_lengths"):
        return None
    return round(100 * _LONG / (_positions(model, 101 * _LONG) - _positions(model, _LONG)))


def _sound(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Samples, (example, time), or a spectrogram, (example, frame, channel)."""
    wave = inputs.get("input_values")
    return wave if wave is not None and wave.ndim == 2 else spectrogram(model, inputs)


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
    step = input_seconds(model, processor)
    stride = frames_per_position(model)
    if step is None or stride is None:
        return None
    width = step * stride
    start = torch.arange(positions, dtype=torch.float32) * width
    return torch.stack([start, start + width], dim=1)


def _positions(model: PreTrainedModel, frames: int) -> int:
    """Encoder positions of an input of `frames` entries, by the model's own rule."""
    rule: Any = model._get_feat_extract_output_lengths
    options = {"add_adapter": False} if getattr(model.config, "add_adapter", False) else {}
    return int(rule(torch.tensor(frames), **options))


def input_seconds(model: PreTrainedModel, processor: Any) -> float | None:
    """Time between two entries of the audio input: samples of a waveform, or frames of a spectrogram."""
    extractor = getattr(processor, "feature_extractor", processor)
    rate = getattr(extractor, "sampling_rate", None)
    hop = 1 if model.main_input_name == "input_values" else getattr(extractor, "hop_length", None)
    return hop / rate if rate and hop else family_of(model.config).input_seconds
