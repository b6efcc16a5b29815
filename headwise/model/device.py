"""Where a model's inputs belong, whatever holds or wraps the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from headwise.errors import InputError


def input_device(model: nn.Module) -> torch.device:
    """The device that a model computes its first layer on.

    That is where its first parameter lies, unless accelerate keeps it elsewhere (on the CPU, on disk) and brings it to
    a device of its own choice when it is used.

    Example:
        >>> input_device(nn.Linear(2, 2))
        device(type='cpu')
    """
    for module in model.modules():
        hook = module.__dict__.get("_hf_hook")
        for part in getattr(hook, "hooks", (hook,)):
            device = getattr(part, "execution_device", None)
            if device is not None:
                return torch.device(device)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def unwrapped(model: Any) -> Any:
    """The model in a wrapper that calls it as it is: of torch.compile, DistributedDataParallel or PEFT's adapters.

    Anything else is given back.

    Raises:
        InputError: the wrapper does more than to call the model.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(layer)) is layer
        True
    """
    while isinstance(model, nn.Module):
        if type(model).__name__ == "FullyShardedDataParallel":
            raise InputError(
                "FullyShardedDataParallel keeps no weights in the model that it wraps.",
                evidence=type(model.module).__name__,
                remedy="Shard with torch.distributed.fsdp.fully_shard(model), and give that model.",
            )
        if callable(getattr(type(model), "get_base_model", None)) and hasattr(model, "peft_config"):
            inner = _without_adapters(model)
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        else:
            inner = model._modules.get("_orig_mod")  # torch.compile
        if inner is None:
            return model
        model = inner
    return model


def _without_adapters(model: Any) -> nn.Module:
    """The transformers model in a PEFT model whose adapters live inside its layers."""
    config = model.active_peft_config
    if getattr(config, "is_prompt_learning", False):
        raise InputError(
            "This model's prompt is learned, and stands outside of the transformers model.",
            evidence=f"PEFT's {type(config).__name__}",
            remedy="Give the model with inputs_embeds, or train an adapter of its layers, such as LoRA.",
        )
    return model.get_base_model()
