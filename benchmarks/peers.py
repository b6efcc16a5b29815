"""Ways to get attention statistics from a model: headwise, the plain forward, and what people use today.

Each way is a function that takes a model and gives back a function of token ids. It may change the model (a
bridge wraps it), so each way gets a process of its own. All but the plain forward end with the same
statistics for every layer and head: row entropy, row maximum, mean distance, mass on two classes of keys,
received mass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from common import MEGABYTE, CannotRunError, free_megabytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Run = Callable[[torch.Tensor], object]


def plain(model: PreTrainedModel) -> Run:
    """The model's own forward, sdpa, last logits only."""
    return lambda ids: model(input_ids=ids, use_cache=False, logits_to_keep=1)


def headwise(model: PreTrainedModel) -> Run:
    """Streaming statistics of every head of every layer."""
    import headwise as hw

    def run(ids: torch.Tensor) -> object:
        with hw.capture(model, stats=True) as trace:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        return trace

    return run


def eager(model: PreTrainedModel) -> Run:
    """Eager attention with `output_attentions=True`, then the statistics from the maps."""
    model.set_attn_implementation("eager")

    def run(ids: torch.Tensor) -> object:
        require_room_for_maps(model, ids.shape[1])
        output = model(input_ids=ids, use_cache=False, logits_to_keep=1, output_attentions=True)
        return [statistics(pattern) for pattern in output.attentions]

    return run


def transformer_lens(model: PreTrainedModel) -> Run:
    """`run_with_cache` of a TransformerBridge, patterns only, then the statistics from the maps."""
    try:
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
    except ImportError:
        raise CannotRunError("TransformerLens is not installed") from None
    model.set_attn_implementation("eager")
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)

    def run(ids: torch.Tensor) -> object:
        require_room_for_maps(model, ids.shape[1])
        _, cache = bridge.run_with_cache(
            ids, return_type=None, names_filter=lambda name: name.endswith("hook_pattern")
        )
        return [
            statistics(cache[f"blocks.{layer}.attn.hook_pattern"])
            for layer in range(model.config.num_hidden_layers)
        ]

    return run


def nnsight(model: PreTrainedModel) -> Run:
    """The second output of every attention module in an nnsight trace, then the statistics from the maps."""
    try:
        from nnsight import NNsight
    except ImportError:
        raise CannotRunError("nnsight is not installed") from None
    model.set_attn_implementation("eager")
    wrapped = NNsight(model)
    if hasattr(model, "transformer"):
        modules = [block.attn for block in wrapped.transformer.h]
    else:
        modules = [block.self_attn for block in wrapped.model.layers]

    def run(ids: torch.Tensor) -> object:
        require_room_for_maps(model, ids.shape[1])
        with wrapped.trace(input_ids=ids, use_cache=False, logits_to_keep=1):
            patterns = list().save()  # noqa: C408 -- nnsight saves objects it sees being made
            for module in modules:
                patterns.append(module.output[1])
        return [statistics(pattern) for pattern in patterns]

    return run


WAYS: dict[str, Callable[[PreTrainedModel], Run]] = {
    "plain sdpa": plain,
    "headwise stats": headwise,
    "eager + output_attentions": eager,
    "TransformerLens bridge": transformer_lens,
    "nnsight": nnsight,
}


def statistics(pattern: torch.Tensor) -> dict[str, torch.Tensor]:
    """What headwise streams, from a materialised causal pattern (batch, head, query, key)."""
    p = pattern.float()
    positions = torch.arange(p.shape[-1], dtype=torch.float32)
    classes = torch.stack([positions == 0, positions > 0], dim=-1).float()
    columns = p @ torch.cat([positions[:, None], classes], dim=-1)
    return {
        "entropy": torch.special.entr(p).sum(-1),
        "maximum": p.amax(-1),
        "distance": positions - columns[..., 0],
        "mass": columns[..., 1:],
        "received": p.sum(-2),
    }


def require_room_for_maps(model: PreTrainedModel, length: int) -> None:
    """Refuse a length whose maps cannot be held: every layer's, and three float32 copies of one layer's."""
    config = model.config
    one_layer = config.num_attention_heads * length**2
    need = (config.num_hidden_layers * one_layer * model.dtype.itemsize + 3 * one_layer * 4) / MEGABYTE
    free = free_megabytes()
    if need > free:
        raise CannotRunError(f"the maps need {need / 1024:.0f} GB, {free / 1024:.0f} GB are free")
