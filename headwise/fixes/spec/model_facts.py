"""What tells one model from another, as far as a fix is concerned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from headwise.errors import FixError
from headwise.fixes.spec.weights import Weights, difference, weights_of
from headwise.probes.attach.sites import AttentionModule, attention_modules, head_count, language_tower
from headwise.subject import unwrap
from headwise.text import visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject

Count = Annotated[int, Field(ge=0)]


class TowerFacts(BaseModel):
    """The shape of one tower's attention of one kind."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    tower: str
    kind: str
    layers: tuple[Count, ...]
    """The layers that have such attention."""
    heads: tuple[Count | None, ...]
    """Query heads of each of these layers; None where the model does not say."""
    width: Count | None
    """Of the residual stream; None where the model does not say."""

    @property
    def name(self) -> str:
        """Tower and kind, as in "text self"."""
        return f"{self.tower} {self.kind}"

    def __str__(self) -> str:
        heads = dict.fromkeys("unknown" if count is None else str(count) for count in self.heads)
        return f"layers {_numbered(self.layers)} of {' or '.join(heads)} heads, width {self.width}"


class ModelFacts(BaseModel):
    """A model: what it is called, how it is built, how large it is, and its weights."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    """Where it came from; not compared."""
    family: str
    """`model_type` of its config, such as "llava"."""
    class_name: str
    dtype: str
    """Of its weights. Not compared."""
    vocabulary: Count | None
    """Words of its language tower; None for a model without words."""
    towers: tuple[TowerFacts, ...]
    """The towers that the fixes act on."""
    weights: Weights
    """What is kept of its weights, to tell them from others in whatever type they are held."""

    @property
    def architecture(self) -> str:
        """Class and family, as in "LlamaForCausalLM (llama)"."""
        return f"{self.class_name} ({self.family})"


def model_facts(subject: Subject | PreTrainedModel, places: Sequence[tuple[str | None, str]]) -> ModelFacts:
    """The facts of a model, with the towers in `places`.

    Args:
        subject: a `Subject` or a bare transformers model.
        places: (tower, kind) pairs; None is the language (or decoder) tower. Those that the model does not have
            are left out.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=9, n_positions=8))
        >>> facts = model_facts(model, [(None, "self")])
        >>> facts.architecture, str(facts.towers[0])
        ('GPT2LMHeadModel (gpt2)', 'layers 0 to 1 of 2 heads, width 8')
    """
    model, _ = unwrap(subject)
    entries = attention_modules(model)
    language = language_tower([entry.tower for entry in entries]) if entries else ""
    wanted = dict.fromkeys((tower or language, kind) for tower, kind in places)
    towers = []
    for tower, kind in wanted:
        alike = [entry for entry in entries if (entry.tower, entry.kind) == (tower, kind)]
        if alike:
            towers.append(_tower(tower, kind, alike))
    return ModelFacts(
        name=_name(subject, model),
        family=str(model.config.model_type),
        class_name=type(model).__name__,
        dtype=str(model.dtype).removeprefix("torch."),
        vocabulary=getattr(model.config.get_text_config(decoder=True), "vocab_size", None),
        towers=tuple(towers),
        weights=weights_of(model),
    )


def check_fits(written: ModelFacts, own: ModelFacts, *, force: bool) -> None:
    """Refuse a model that is not the one in `written`.

    With `force` a model of another architecture, vocabulary or other weights will do, if it has every tower with
    the same layers, heads and width, and no other tower that the fixes act on.

    Args:
        written: of the model that the fixes were made for.
        own: of this model, with every tower that the fixes act on.
        force: see above.

    Raises:
        FixError: the models differ; both values of everything that does are named.
    """
    have = {tower.name: tower for tower in own.towers}
    shape = [
        (tower.name, str(tower), str(have.get(tower.name, "none")))
        for tower in written.towers
        if have.get(tower.name) != tower
    ]
    described = {tower.name for tower in written.towers}
    shape += [(tower.name, "none", str(tower)) for tower in own.towers if tower.name not in described]
    rows: list[tuple[str, Any, Any]] = [
        ("architecture", written.architecture, own.architecture),
        *shape,
        ("vocabulary", written.vocabulary, own.vocabulary),
    ]
    differ = [
        f"{what}: the spec has {_shown(spec)}, this model {_shown(here)}"
        for what, spec, here in rows
        if spec != here
    ]
    apart = difference(written.weights, written.dtype, own.weights, own.dtype)
    if apart:
        spec, here = (f"{facts.weights.digest} in {_shown(facts.dtype)}" for facts in (written, own))
        differ.append(f"weights: the spec has {spec}, this model {here}; they differ in {apart}")
    if not differ or (force and not shape):
        return
    raise FixError(
        f"This spec was written for {_shown(written.name) or 'another model'}, and "
        f"{_shown(own.name) or 'this model'} differs.",
        evidence="; ".join(differ),
        remedy="Use a spec of this model."
        if shape
        else "Use a spec of this model; force=True (headwise patch --force) installs this one nevertheless.",
    )


def _shown(value: Any) -> str:
    return visible(str(value), limit=100)


def _numbered(layers: Sequence[int]) -> str:
    """Layers as "0 to 5", or one by one where some are left out."""
    if len(layers) > 1 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))


def _name(subject: Subject | PreTrainedModel, model: PreTrainedModel) -> str:
    own = getattr(subject, "name", "") if subject is not model else ""
    return own or getattr(model.config, "_name_or_path", "") or type(model).__name__


def _tower(tower: str, kind: str, entries: list[AttentionModule]) -> TowerFacts:
    layers = {layer: head_count(entry.module) for entry in entries for layer in entry.layers}
    numbers = sorted(layers)
    return TowerFacts(
        tower=tower,
        kind=kind,
        layers=tuple(numbers),
        heads=tuple(layers[number] for number in numbers),
        width=_width(entries[0].module),
    )


def _width(module: nn.Module) -> int | None:
    for place in (getattr(module, "config", None), module):
        for name in ("hidden_size", "d_model", "embed_dim"):
            width = getattr(place, name, None)
            if isinstance(width, int):
                return width
    return None
