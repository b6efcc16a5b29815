"""Tiny models with random weights, made without a download: what the checks of fixes and analyses run on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from headwise.errors import InputError
from headwise.plugins import close_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMAGE_TOKEN = 100
SIZE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SIZE | {"num_key_value_heads": 2}
GROUPED_WIDE = GROUPED | {"head_dim": 8}
GPT = {
    "vocab_size": 128,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA2 = GROUPED_WIDE | {"sliding_window": 4, "query_pre_attn_scalar": 8}
BERT = {name: value for name, value in SIZE.items() if name not in ("bos_token_id", "eos_token_id")}
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
LLAVA = {
    "text_config": GROUPED | {"model_type": "llama"},
    "vision_config": VIT | {"model_type": "clip_vision_model", "projection_dim": 32},
    "image_token_id": IMAGE_TOKEN,
    "vision_feature_layer": -1,
}


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A model of two layers with four heads, and what of it matters to a check."""

    class_name: str
    """Name of its class in transformers."""
    settings: Mapping[str, Any]
    attention: str | None = None
    """Attention implementation that has to be asked for."""
    grouped: bool = False
    """Several heads share one key head."""
    causal: bool = True
    """Rows see nothing behind them, and the model generates."""
    has_vision: bool = False
    """Its prompts hold an image of 16 patches."""

    def build(self, attention: str | None = None) -> PreTrainedModel:
        """The model in evaluation mode, with the same weights at every call."""
        return build_model(self.class_name, self.settings, attention or self.attention)


TINY_MODELS = {
    "gpt2": TinyModel(class_name="GPT2LMHeadModel", settings=GPT),
    "llama": TinyModel(class_name="LlamaForCausalLM", settings=GROUPED, grouped=True),
    "gemma2": TinyModel(  # transformers 5.20 chooses sdpa, and leaves the softcap out
        class_name="Gemma2ForCausalLM", settings=GEMMA2, attention="eager"
    ),
    "bert": TinyModel(class_name="BertModel", settings=BERT, causal=False),
    "llava": TinyModel(
        class_name="LlavaForConditionalGeneration", settings=LLAVA, grouped=True, has_vision=True
    ),
}
"""A plain decoder, one with grouped heads, one with windows, an encoder, and a model that sees."""


def tiny_model(name: str) -> PreTrainedModel:
    """One of `TINY_MODELS`, in evaluation mode, with the same weights at every call.

    Example:
        >>> tiny_model("llama").config.num_hidden_layers
        2
    """
    return TINY_MODELS[known_models([name])[0]].build()


def known_models(names: Sequence[str]) -> Sequence[str]:
    """The names, each of which is one of `TINY_MODELS`.

    Raises:
        InputError: one is not, or there is none, so that nothing would be checked.
    """
    if isinstance(names, str) or not names:
        raise InputError(
            "Tiny models are given as a list of names.", evidence=repr(names), remedy='For example ["gpt2"].'
        )
    for name in names:
        if name not in TINY_MODELS:
            raise InputError(
                f"There is no tiny model {name!r}.",
                evidence=close_names(str(name), TINY_MODELS),
                remedy="Use a name that exists.",
            )
    return names


@cache
def shared_model(name: str, attention: str | None = None) -> PreTrainedModel:
    """One of `TINY_MODELS`, built once for all checks, which leave it as it was; a capture tries it out once, too."""
    return TINY_MODELS[name].build(attention)


def build_model(
    class_name: str, settings: Mapping[str, Any], attention: str | None = None
) -> PreTrainedModel:
    """A model of a transformers class in evaluation mode, with the same weights at every call."""
    model_class = _model_class(class_name)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        config = model_class.config_class(**settings)
        chosen = {} if attention is None else {"attn_implementation": attention}
        model = model_class._from_config(config, **chosen).eval()
        spread_weights(model)
    return model


def _model_class(name: str) -> Any:
    import transformers

    with warnings.catch_warnings():  # torch's, of the functions that DeBERTa scripts when it is imported
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is", DeprecationWarning)
        return getattr(transformers, name)


def spread_weights(model: torch.nn.Module) -> None:
    """Draw every matrix from N(0, 0.15²), in place; the usual initial weights give patterns that are flat."""
    for parameter in model.parameters():
        if parameter.dim() >= 2 and parameter.numel():
            torch.nn.init.normal_(parameter, std=0.15)


def ungrouped(model: PreTrainedModel) -> PreTrainedModel:
    """A model without grouped heads that computes the same: every query head has a copy of its key head."""
    config = type(model.config).from_dict(model.config.to_dict())
    text: Any = config.get_text_config()
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
