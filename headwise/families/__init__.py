"""What a model family says about itself that neither its config nor its processor says.

A family is looked up by `config.model_type`. Most models need none. Another package adds a family through an
entry point of the group `headwise.families`, named like the model type:

    [project.entry-points."headwise.families"]
    my_model_type = "my_package.my_module:FAMILY"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from headwise.plugins import Plugins


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
    queries_first: bool = False
    """Layers take and give the residual as (query, example, width)."""
    input_seconds: float | None = None
    """Time between two entries of the audio input, used when there is no processor to ask."""


FAMILIES = Plugins(
    "family",
    "headwise.families",
    {
        "blip": "headwise.families.blip:FAMILY",
        "blip-2": "headwise.families.blip:FAMILY",
        "data2vec-audio": "headwise.families.speech:FAMILY",
        "fsmt": "headwise.families.queries_first:FAMILY",
        "gemma3": "headwise.families.gemma3:FAMILY",
        "git": "headwise.families.git:FAMILY",
        "hubert": "headwise.families.speech:FAMILY",
        "instructblip": "headwise.families.blip:FAMILY",
        "m2m_100": "headwise.families.translation:FAMILY",
        "marian": "headwise.families.translation:FAMILY",
        "mbart": "headwise.families.translation:FAMILY",
        "mllama": "headwise.families.mllama:FAMILY",
        "moonshine": "headwise.families.speech:FAMILY",
        "nllb-moe": "headwise.families.translation:FAMILY",
        "paligemma": "headwise.families.paligemma:FAMILY",
        "pixtral": "headwise.families.pixtral:FAMILY",
        "qwen2_5_vl": "headwise.families.qwen_vl:FAMILY",
        "qwen2_vl": "headwise.families.qwen_vl:FAMILY",
        "qwen3_vl": "headwise.families.qwen_vl:FAMILY",
        "seamless_m4t": "headwise.families.translation:FAMILY",
        "seamless_m4t_v2": "headwise.families.translation:FAMILY",
        "speech_to_text": "headwise.families.speech_to_text:FAMILY",
        "unispeech": "headwise.families.speech:FAMILY",
        "unispeech-sat": "headwise.families.speech:FAMILY",
        "wav2vec2": "headwise.families.speech:FAMILY",
        "wav2vec2-conformer": "headwise.families.speech:FAMILY",
        "wavlm": "headwise.families.speech:FAMILY",
        "whisper": "headwise.families.whisper:FAMILY",
        "xlnet": "headwise.families.queries_first:FAMILY",
    },
)

get, names = FAMILIES.get, FAMILIES.names


def family_of(config: Any) -> Family:
    """The family of a model, by its config; a plain `Family()` for the many models that need none.

    Raises:
        HeadwiseError: two packages claim this model type, or its package cannot be imported.
    """
    return _of_type(getattr(config, "model_type", ""))


@cache
def _of_type(model_type: str) -> Family:
    return get(model_type) if model_type in names() else Family()
