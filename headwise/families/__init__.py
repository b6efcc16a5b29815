"""What a model family says about itself that neither its config nor its processor says.

A family is looked up by `config.model_type`. Most models need none. Another package adds a family through an
entry point of the group `headwise.families`, named like the model type:

    [project.entry-points."headwise.families"]
    my_model_type = "my_package.my_module:FAMILY"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headwise.errors import HeadwiseError, InputError

_BUILTIN = {
    "blip": "blip",
    "blip-2": "blip",
    "data2vec-audio": "speech",
    "gemma3": "gemma3",
    "git": "git",
    "hubert": "speech",
    "instructblip": "blip",
    "m2m_100": "translation",
    "marian": "translation",
    "mbart": "translation",
    "mllama": "mllama",
    "moonshine": "speech",
    "nllb-moe": "translation",
    "paligemma": "paligemma",
    "pixtral": "pixtral",
    "qwen2_5_vl": "qwen_vl",
    "qwen2_vl": "qwen_vl",
    "qwen3_vl": "qwen_vl",
    "seamless_m4t": "translation",
    "seamless_m4t_v2": "translation",
    "speech_to_text": "speech_to_text",
    "unispeech": "speech",
    "unispeech-sat": "speech",
    "wav2vec2": "speech",
    "wav2vec2-conformer": "speech",
    "wavlm": "speech",
    "whisper": "whisper",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """The words a family needs; every default means "as the config and the processor say"."""

    tags: tuple[tuple[str, str], ...] = ()
    """(role, regular expression): a token whose whole text matches has that role."""
    image_prompt: str | None = "{image}\n"
    """Put before a text without placeholder, once per image; None where the processor sees to that."""
    image_marker: bool = False
    """The image token only marks an image that the text reads by cross-attention."""
    image_first: bool = False
    """Image features are put before the text inside the model, without a token of their own."""
    image_rows: bool = False
    """Break tokens part the rows of an image, so that an image is no single run."""
    image_grid: Callable[[Any], tuple[int, int]] | None = None
    """From the config: rows and columns of the tokens of one image."""
    masks_audio: bool = True
    """The encoder hides the padding of its audio input when it is given a mask."""
    input_seconds: float | None = None
    """Time between two entries of the audio input, used when there is no processor to ask."""


def family(model_type: str) -> Family:
    """The family of a model type.

    Raises:
        InputError: nobody has a word for this model type.
        HeadwiseError: two packages claim it.

    Example:
        >>> family("paligemma").image_prompt
        '{image}'
    """
    found = _find(model_type)
    if found is None:
        known = sorted({*_BUILTIN, *(point.name for point in _third_party())})
        close = get_close_matches(model_type, known, n=3) or known
        raise InputError(
            f"There is no family named {model_type!r}.", remedy=f"Did you mean one of {', '.join(close)}?"
        )
    return found


def family_of(config: Any) -> Family:
    """The family of a model, by its config; a plain `Family()` for the models that need none."""
    return _find(getattr(config, "model_type", "")) or Family()


def _find(model_type: str) -> Family | None:
    claims = Counter(point.name for point in _third_party()) + Counter(_BUILTIN.keys())
    if claims[model_type] > 1:
        raise HeadwiseError(
            f"The family {model_type!r} is registered {claims[model_type]} times.",
            remedy="Uninstall one of the packages that provide it (entry points headwise.families).",
        )
    if model_type in _BUILTIN:
        return import_module(f"headwise.families.{_BUILTIN[model_type]}").FAMILY
    for point in _third_party():
        if point.name == model_type:
            return point.load()
    return None


@cache
def _third_party() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group="headwise.families"))
