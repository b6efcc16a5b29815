"""First module of a model whose output is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def first_nan(model: PreTrainedModel, inputs: Mapping[str, Any]) -> str | None:
    """Qualified name of the first module that makes NaN from numbers, in the order of a forward; None when none does.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> with torch.no_grad():
        ...     _ = model.transformer.h[0].mlp.c_fc.bias.fill_(torch.nan)
        >>> first_nan(model, {"input_ids": torch.tensor([[3, 1, 2]])})
        'transformer.h.0.mlp.c_fc'
    """
    names = {module: name for name, module in model.named_modules()}
    ended: list[str] = []

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if not ended and any(bool(tensor.isnan().any()) for tensor in _tensors(output)):
            ended.append(names[module])

    hooks = [module.register_forward_hook(look) for module in names]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return ended[0] if ended else None


def _tensors(output: Any) -> list[Tensor]:
    values = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else [output]
    )
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
