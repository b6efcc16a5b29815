"""From sound to what a model hears: features of one window, or of a whole recording for a model that reads on."""

from __future__ import annotations

import inspect
from os import PathLike
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.subject.media import read_audio

if TYPE_CHECKING:
    from headwise.subject.loaded import LoadedModel


def writes_long(model: Any) -> bool:
    """True for a model whose `generate` goes through a long recording window by window."""
    return bool(model.can_generate()) and "return_segments" in inspect.signature(model.generate).parameters


def window_samples(subject: LoadedModel) -> int | None:
    """Samples that the model hears at a time; None without a limit that its processor knows of."""
    extractor = getattr(subject.processor, "feature_extractor", subject.processor)
    return getattr(extractor, "n_samples", None)


def read_waves(subject: LoadedModel, sounds: list[Any]) -> tuple[list[Any], int]:
    """Samples of the sounds, and their rate.

    Raises:
        InputError: there is no feature extractor, a sound cannot be read, or one is longer than a model hears that
            has no way to read on.
    """
    extractor = getattr(subject.processor, "feature_extractor", subject.processor)
    rate = getattr(extractor, "sampling_rate", None)
    if rate is None:
        raise InputError(
            "There is no feature extractor to read this sound with.", remedy="hw.wrap(model, processor)"
        )
    waves = [read_audio(sound, rate) for sound in sounds]
    limit = window_samples(subject)
    if limit is None:
        limit = _positions_as_samples(subject, rate)
    if limit is not None and not writes_long(subject.model):
        for number, wave in enumerate(waves):
            if len(wave) > limit:
                raise InputError(
                    f"{_name(sounds, number)} lasts {len(wave) / rate:.1f} s and the model hears {limit / rate:.0f} s.",
                    remedy="Cut it into pieces.",
                )
    return waves, rate


def features(subject: LoadedModel, waves: list[Any], rate: int) -> dict[str, Any]:
    """What the feature extractor makes of the waves: one window, or the whole of recordings longer than that.

    A recording that is longer comes with the mask that says where each sound ends.
    """
    extractor: Any = getattr(subject.processor, "feature_extractor", subject.processor)
    limit = window_samples(subject)
    options: dict[str, Any] = {"padding": True} if limit is None else {}
    if limit is not None and max(map(len, waves)) > limit:
        options = {"truncation": False, "padding": "longest", "return_attention_mask": True}
    return dict(extractor(waves, sampling_rate=rate, return_tensors="pt", **options))


def _positions_as_samples(subject: LoadedModel, rate: int) -> int | None:
    """The limit of a model with a place for each frame of a spectrogram, as Speech2Text has."""
    frames = getattr(subject.config, "max_source_positions", None)
    if subject.model.main_input_name != "input_features" or not isinstance(frames, int):
        return None
    return frames * rate // 100  # filter banks every 10 ms


def _name(sounds: list[Any], number: int) -> str:
    sound = sounds[number]
    if isinstance(sound, str | PathLike):
        return str(sound)
    return "The sound" if len(sounds) == 1 else f"Sound {number} of the batch"
