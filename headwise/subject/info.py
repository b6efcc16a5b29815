"""One description of a model: what it is called and where it lies, how it is built, and how large it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwise.errors import UnsupportedModel
from headwise.model.device import input_device
from headwise.model.fingerprint import fingerprint
from headwise.model.location import short_name
from headwise.probes.attach.interface import INSTRUMENTATION
from headwise.probes.attach.sites import AttentionModule, attention_modules, head_count, language_tower
from headwise.probes.engine.instrumentation import instrument
from headwise.probes.fix_text import fix_text
from headwise.subject.subject import Subject, unwrap

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TowerInfo:
    """The shape of one tower's attention of one kind."""

    __pydantic_config__ = {"strict": True, "extra": "forbid"}  # noqa: RUF012  it is part of a spec's file

    tower: str
    kind: str
    layers: tuple[int, ...]
    """The layers that have such attention."""
    heads: tuple[int | None, ...]
    """Query heads of each of these layers; None where the model does not say."""
    width: int | None
    """Of the residual stream; None where the model does not say."""

    @property
    def name(self) -> str:
        """Tower and kind, as in "text self"."""
        return f"{self.tower} {self.kind}"

    def __str__(self) -> str:
        heads = dict.fromkeys("unknown" if count is None else str(count) for count in self.heads)
        first, last = min(self.layers, default=0), max(self.layers, default=0)
        whole = first < last and self.layers == tuple(range(first, last + 1))
        layers = f"{first} to {last}" if whole else ", ".join(map(str, self.layers))
        return f"layers {layers} of {' or '.join(heads)} heads, width {self.width}"


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is known of a model; sizes are those of its language (or decoder) tower, and 0 where it does not say."""

    name: str
    """Name that it was loaded by, or of its folder, without the way there; its class where there is none."""
    class_name: str = ""
    family: str
    """`model_type` of its config, such as "llava"."""
    text_family: str = ""
    """`model_type` of its language part, such as "llama"."""
    revision: str | None = None
    dtype: str = ""
    """Of its weights."""
    device: str = ""
    """Where its inputs belong."""
    tower: str = "text"
    """The tower that fixes address by default."""
    layers: int = 0
    heads: int = 0
    """Query heads per layer."""
    width: int = 0
    """Of the residual stream."""
    key_heads: int = 0
    vocabulary: int | None = None
    """Words of the language tower; None for a model without words."""
    has_vision: bool = False
    """True when images become positions of the language tower."""
    towers: tuple[TowerInfo, ...] = ()

    def identity(self) -> dict[str, Any]:
        """What provenance says of a model."""
        return {
            "model": self.name,
            "model_class": self.class_name,
            "family": self.family,
            "revision": self.revision,
            "dtype": self.dtype,
            "device": self.device,
        }

    def require_sizes(self) -> ModelInfo:
        """This description; one of unknown sizes raises `UnsupportedModel`."""
        if not (self.layers and self.heads and self.width):
            raise UnsupportedModel(
                "The size of this model's language tower could not be found out.",
                evidence=self.class_name or self.name,
                remedy="Use fixes that name layers and heads themselves, such as ScaleHeads.",
            )
        return self


def model_info(
    subject: Subject | PreTrainedModel, entries: Iterable[AttentionModule] | None = None
) -> ModelInfo:
    """The description of a model.

    Args:
        subject: a `Subject` or a bare transformers model.
        entries: its attention modules, where they are at hand.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=9, n_positions=8))
        >>> info = model_info(model)
        >>> info.name, info.family, info.layers, str(info.towers[0])
        ('GPT2LMHeadModel', 'gpt2', 2, 'layers 0 to 1 of 2 heads, width 8')
    """
    model, _ = unwrap(subject)
    entries = list(attention_modules(model) if entries is None else entries)
    towers = {entry.tower for entry in entries}
    language = language_tower([entry.tower for entry in entries]) if entries else ""
    own = [entry for entry in entries if (entry.tower, entry.kind) == (language, "self")]
    config = model.config.get_text_config(decoder=True)
    heads = (head_count(own[0].module) if own else None) or 0
    sees = not towers.isdisjoint(("vision", "qformer")) or "vision_config" in model.config
    held = subject if isinstance(subject, Subject) else None
    return ModelInfo(
        name=short_name(
            (held.name if held else "") or getattr(model.config, "_name_or_path", "") or type(model).__name__
        ),
        class_name=type(model).__name__,
        family=str(getattr(model.config, "model_type", "")),
        text_family=str(getattr(config, "model_type", "")),
        revision=held.revision if held else None,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(input_device(model)),
        tower=language,
        layers=1 + max((layer for entry in own for layer in entry.layers), default=-1),
        heads=heads,
        width=_width(config) or 0,
        key_heads=getattr(config, "num_key_value_heads", None) or heads,
        vocabulary=getattr(config, "vocab_size", None),
        has_vision=sees and language == "text",
        towers=tuple(
            _tower(tower, kind, [entry for entry in entries if (entry.tower, entry.kind) == (tower, kind)])
            for tower, kind in dict.fromkeys((entry.tower, entry.kind) for entry in entries)
        ),
    )


def identity_of(
    subject: Subject | PreTrainedModel, entries: Iterable[AttentionModule] | None = None
) -> dict[str, Any]:
    """What provenance says of a model, its weights (`headwise.model.fingerprint`) and the fixes on it, as they are
    now.
    """
    model, _ = unwrap(subject)
    return {
        **model_info(subject, entries).identity(),
        "weights": fingerprint(model),
        "patched": _fixes_on(model),
    }


def _fixes_on(model: PreTrainedModel) -> list[str]:
    """The fixes that would act on a prompt of this thread."""
    sessions = instrument(model).sessions if INSTRUMENTATION in vars(model) else ()
    plans = (plan for session in sessions if session.acts_on_new_prompt() for plan in session.plans)
    return [fix_text(plan.fix) for plan in plans if not plan.neutral]


def _tower(tower: str, kind: str, entries: list[AttentionModule]) -> TowerInfo:
    layers = {layer: head_count(entry.module) for entry in entries for layer in entry.layers}
    module: nn.Module = entries[0].module
    return TowerInfo(
        tower=tower,
        kind=kind,
        layers=tuple(sorted(layers)),
        heads=tuple(layers[number] for number in sorted(layers)),
        width=_width(getattr(module, "config", None)) or _width(module),
    )


def _width(holder: Any) -> int | None:
    widths = (getattr(holder, name, None) for name in ("hidden_size", "d_model", "embed_dim"))
    return next((width for width in widths if isinstance(width, int)), None)
