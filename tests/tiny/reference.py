"""What a model's own eager attention computes: the truth that captures are compared with."""

from __future__ import annotations

import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from headwise.testing.inputs import forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.testing.inputs import Inputs

    from .architecture import Architecture

Patterns = dict[tuple[str, int], torch.Tensor]
"""Attention patterns by (qualified module name, number of the call within one forward)."""

TOWERS = {
    "text_model_output": "text self",
    "vision_model_output": "vision self",
    "vision_outputs": "vision self",
    "language_model_outputs": "text self",
}
FIELDS = {
    "encoder_attentions": "encoder self",
    "decoder_attentions": "decoder self",
    "vision_attentions": "vision self",
}


@contextmanager
def recorded_eager(model: PreTrainedModel, *, gradients: bool = False) -> Iterator[Patterns]:
    """Record the patterns of a model built eager while the block runs.

    They come from the eager attention functions in the model's own files; for attention classes that call
    no such function, from the second value that the module returns. With `gradients` the tensors belong to
    the graph and have their gradient after a backward pass.
    """
    names = {module: name for name, module in model.named_modules()}
    files = {sys.modules[type(module).__module__] for module in model.modules()}
    patterns: Patterns = {}
    calls: dict[str, int] = defaultdict(int)

    def recording(original: Callable) -> Callable:
        def attention(module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple:
            output, weights = original(module, *args, **kwargs)
            name = names[module]
            if gradients:
                weights.retain_grad()
            patterns[name, calls[name]] = weights if gradients else weights.detach().clone()
            calls[name] += 1
            return output, weights

        return attention

    def keep_returned(module: torch.nn.Module, _: Any, output: Any) -> None:
        name = names[module]
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if isinstance(weights, torch.Tensor) and weights.dim() == 4 and not calls[name]:
            patterns[name, 0] = weights.detach().clone()

    hooks = [
        module.register_forward_hook(keep_returned)
        for module in names
        if "attention" in type(module).__name__.lower()
    ]
    replaced = [
        (file, name, function)
        for file in files
        for name, function in inspect.getmembers(file, inspect.isfunction)
        if name.endswith("eager_attention_forward")
    ]
    for file, name, function in replaced:
        setattr(file, name, recording(function))
    try:
        yield patterns
    finally:
        for hook in hooks:
            hook.remove()
        for file, name, function in replaced:
            setattr(file, name, function)


def in_blocks(patterns: Patterns, name: str) -> torch.Tensor:
    """The patterns of a module that was called window by window, on the diagonal of one; (1, head, query, key)."""
    parts = [pattern[0] for (module, _), pattern in sorted(patterns.items()) if module == name]
    heads = [torch.block_diag(*(part[head] for part in parts)) for head in range(len(parts[0]))]
    return torch.stack(heads)[None]


def exposed_patterns(output: Any, main: str) -> dict[str, list[torch.Tensor]]:
    """The patterns in a model's output, in layer order, per "tower kind".

    Args:
        output: output of a forward with `output_attentions=True`.
        main: the "tower kind" that a field named `attentions` holds.
    """
    cross = "decoder cross" if output.get("decoder_attentions") is not None else "text cross"
    fields = FIELDS | {"attentions": main, "cross_attentions": cross}
    patterns = {
        kind: [layer for layer in output[field] if isinstance(layer, torch.Tensor)]
        for field, kind in fields.items()
        if output.get(field)
    }
    for tower, kind in TOWERS.items():
        if output.get(tower) is not None and output[tower].get("attentions"):
            patterns[kind] = list(output[tower]["attentions"])
    return patterns


def tensors(output: Any) -> dict[str, torch.Tensor]:
    """The floating-point tensors of a model's output, by field."""
    return {
        name: value
        for name, value in output.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }


def eager_reference(
    architecture: Architecture, inputs: Inputs
) -> tuple[Patterns, dict[str, list[torch.Tensor]]]:
    """Patterns of one forward under the model's eager attention, as recorded and as its output shows them."""
    model = architecture.build("eager")
    with recorded_eager(model) as recorded:
        output = forward(model, inputs, output_attentions=True)
    main = next(iter(architecture.sites), "text self")
    exposed = exposed_patterns(output, main)
    if architecture.name == "squeezebert":  # its output shows the scores
        exposed = {kind: [scores.softmax(-1) for scores in layers] for kind, layers in exposed.items()}
    return recorded, exposed
