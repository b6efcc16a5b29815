"""The state of a model that a capture or a patch must leave as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MEMORY = {"_is_full_backward_hook"}
"""An attribute that may appear: torch's own note of the kind of hook."""
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def snapshot(model: PreTrainedModel) -> dict[str, Any]:
    """Implementation names, hooks, attributes and modes of modules; parameters by identity and version."""
    state: dict[str, Any] = {}
    for name, module in model.named_modules():
        attributes = frozenset(module.__dict__) - MEMORY
        hooks = tuple((kind, tuple(getattr(module, kind))) for kind in HOOKS)
        config = getattr(module, "config", None)
        attention = getattr(config, "_attn_implementation", None)
        state[name] = (attributes, hooks, attention, module.training, module.forward.__qualname__)
    for name, parameter in model.named_parameters():
        state[f"parameter {name}"] = (id(parameter), parameter._version, parameter.requires_grad)
    state["modes"] = len(torch.overrides._get_current_function_mode_stack())
    return state
