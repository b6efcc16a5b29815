"""The attention functions that headwise registers with transformers, and the kernels they stand in for.

A model is switched to one of the two names while a capture or a patch is attached. The names differ in the mask that
transformers builds for them: `headwise` receives the bool mask of sdpa, `headwise_float` the additive one of eager,
which models written for it (gemma2, gpt-oss, nllb-moe, ...) need. A name without a mask function would make decoders
silently non-causal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from headwise.errors import UnsupportedModel
from headwise.probes.kernels import dense
from headwise.probes.kernels.call import normalise

BOOL_NAME = "headwise"
FLOAT_NAME = "headwise_float"
INSTRUMENTATION = "_headwise"
"""Attribute of an attention module that leads to what is attached to its model."""

Kernel = Callable[..., tuple[Tensor, Tensor | None]]
"""An attention function as transformers calls it."""

_CALL_ARGUMENTS = ("scaling", "dropout", "is_causal", "softcap", "position_bias")


def register() -> None:
    """Makes both names known to transformers. Registering again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    if BOOL_NAME not in AttentionInterface():
        AttentionMaskInterface.register(BOOL_NAME, sdpa_mask)
        AttentionMaskInterface.register(FLOAT_NAME, eager_mask)
        AttentionInterface.register(BOOL_NAME, partial(_attend, "sdpa"))
        AttentionInterface.register(FLOAT_NAME, partial(_attend, "eager"))


def is_own(name: str | None) -> bool:
    """True for a name of headwise, also behind the prefix of paged attention."""
    return name is not None and name.rpartition("|")[2] in (BOOL_NAME, FLOAT_NAME)


def is_known(name: str | None) -> bool:
    """True for an implementation of transformers that computes what eager attention does."""
    return name in ("eager", "sdpa", "flex_attention") or (name is not None and name.startswith("flash_"))


def is_eager(name: str) -> bool:
    """True for eager attention, also that of continuous batching, and where another attachment stands in for it."""
    return name.rpartition("|")[2] in ("eager", FLOAT_NAME)


def kernel(module: nn.Module, original: str) -> Kernel:
    """The model's own attention: the eager function of its file, else sdpa."""
    if is_eager(original):
        return eager_function(module)
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward


def eager_function(module: nn.Module) -> Kernel:
    """The eager attention function that the module's own forward falls back to."""
    forward = inspect.unwrap(type(module).forward)
    for name in forward.__code__.co_names:
        if name.endswith("eager_attention_forward"):
            return forward.__globals__[name]
    return _dense


def call_arguments(kwargs: dict[str, Any], original: str) -> dict[str, Any]:
    """The keyword arguments of a call that change its numbers, by the names of `normalise`.

    The sdpa of transformers has no softcap: it refuses one or, up to 5.20, leaves it out. So it has none where
    `original`, the implementation that headwise stands in for, is sdpa.
    """
    known = {name: kwargs[name] for name in _CALL_ARGUMENTS if kwargs.get(name) is not None}
    if original == "sdpa":
        known.pop("softcap", None)
    sinks = kwargs.get("s_aux")
    known["sinks"] = kwargs.get("sinks") if sinks is None else sinks
    return known


def _with_selected_keys(module: nn.Module, mask: Any, kwargs: dict[str, Any]) -> Any:
    """The mask without the keys that sparse attention has not selected.

    DeepSeek-V3.2 and its relatives put their selection into the mask for eager and sdpa attention, and hand it to any
    other function as `indices`, (batch, query, selected).
    """
    if kwargs.get("block_indices") is not None:
        raise UnsupportedModel(
            "This model's attention selects blocks of keys, which headwise cannot follow.",
            evidence=f"{type(module).__name__} hands over block_indices",
            remedy="Its attention stays out of reach in every implementation.",
        )
    indices = kwargs.pop("indices", None)
    if not isinstance(indices, Tensor):
        return mask
    hidden = torch.ones(*indices.shape[:2], mask.shape[-1], dtype=torch.bool, device=indices.device)
    hidden = hidden.scatter(-1, indices.long(), False)[:, None]
    if mask.dtype == torch.bool:
        return mask & ~hidden
    return mask.masked_fill(hidden, torch.finfo(mask.dtype).min)


def _attend(
    original: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention function of either name; `original` makes masks of the same form."""
    mask = kwargs.pop("attention_mask", mask)
    if "indices" in kwargs or "block_indices" in kwargs:
        mask = _with_selected_keys(module, mask, kwargs)
    instrumented = module.__dict__.get(INSTRUMENTATION)
    if instrumented is None:  # a copy of the model, one that shares its configuration, one just left
        if isinstance(mask, Tensor) and mask.dtype == torch.bool:
            original = "sdpa"  # the mask may be older than the name that headwise has now
        return kernel(module, original)(module, query, key, value, mask, **kwargs)
    return instrumented.attend(module, query, key, value, mask, kwargs)


def _dense(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    call = normalise(
        module, query, key, value, attention_mask, masked=True, **call_arguments(kwargs, "eager")
    )
    probabilities, _ = dense.pattern(call)
    return dense.apply_pattern(probabilities, call, training=module.training), probabilities
