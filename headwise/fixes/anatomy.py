"""What a fix has to know of a model before it can be installed: its size, its family, whether it sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headwise.errors import UnsupportedModel
from headwise.probes.attach.sites import head_count
from headwise.probes.engine.instrumentation import Instrumentation, instrument

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Anatomy:
    """The shape of a model's language (or decoder) tower, and its family.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=9, n_positions=8))
        >>> anatomy_of(model)
        Anatomy(name='GPT2LMHeadModel', family='gpt2', text_family='gpt2', tower='text', layers=2, heads=2, width=8)
    """

    name: str
    """Name or folder that the model was loaded from; its class where there is none."""
    family: str
    """`model_type` of the model's config, such as "llava"."""
    text_family: str
    """`model_type` of its language part, such as "llama"."""
    tower: str
    """The tower that fixes address by default."""
    layers: int
    heads: int
    """Query heads per layer."""
    width: int
    """Of the residual stream."""
    key_heads: int = field(default=0, repr=False)
    vocabulary: int = field(default=0, repr=False)
    sees: bool = field(default=False, repr=False)
    """True when images become positions of the language tower."""


def anatomy_of(model: PreTrainedModel, instrumented: Instrumentation | None = None) -> Anatomy:
    """The anatomy of a model.

    Raises:
        UnsupportedModel: it has no attention, or its config does not tell its size.
    """
    instrumented = instrumented or instrument(model)
    config = model.config.get_text_config(decoder=True)
    entries = [
        entry
        for entry in instrumented.modules.values()
        if (entry.tower, entry.kind) == (instrumented.language, "self")
    ]
    heads = head_count(entries[0].module) if entries else None
    width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
    if not entries or heads is None or not isinstance(width, int):
        raise UnsupportedModel(
            "The size of this model's language tower could not be found out.",
            evidence=type(model).__name__,
            remedy="Use fixes that name layers and heads themselves, such as ScaleHeads.",
        )
    towers = {entry.tower for entry in instrumented.modules.values()}
    sees = not towers.isdisjoint(("vision", "qformer")) or "vision_config" in model.config
    return Anatomy(
        name=getattr(model.config, "_name_or_path", "") or type(model).__name__,
        family=str(model.config.model_type),
        text_family=str(config.model_type),
        tower=instrumented.language,
        layers=1 + max(layer for entry in entries for layer in entry.layers),
        heads=heads,
        width=width,
        key_heads=getattr(config, "num_key_value_heads", None) or heads,
        vocabulary=int(getattr(config, "vocab_size", 0) or 0),
        sees=sees and instrumented.language == "text",
    )
