"""What tells one model from another, as far as a fix is concerned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from headwise.errors import FixError
from headwise.fixes.spec.weights import Weights, difference, weights_of
from headwise.subject import unwrap
from headwise.subject.info import TowerInfo, model_info
from headwise.text import visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject

Count = Annotated[int, Field(ge=0)]


class WrittenModel(BaseModel):
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
    towers: tuple[TowerInfo, ...]
    """The towers that the fixes act on."""
    weights: Weights
    """What is kept of its weights, to tell them from others in whatever type they are held."""

    @field_validator("towers")
    @classmethod
    def _counts(cls, towers: tuple[TowerInfo, ...]) -> tuple[TowerInfo, ...]:
        numbers = [number for tower in towers for number in (*tower.layers, *tower.heads, tower.width)]
        if any(number is not None and number < 0 for number in numbers):
            raise ValueError("layers, heads and width should be greater than or equal to 0")
        return towers

    @property
    def architecture(self) -> str:
        """Class and family, as in "LlamaForCausalLM (llama)"."""
        return f"{self.class_name} ({self.family})"


def written_model(
    subject: Subject | PreTrainedModel, places: Sequence[tuple[str | None, str]]
) -> WrittenModel:
    """The facts of a model, with the towers in `places`.

    Args:
        subject: a `Subject` or a bare transformers model.
        places: (tower, kind) pairs; None is the language (or decoder) tower. Those that the model does not have
            are left out.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=9, n_positions=8))
        >>> facts = written_model(model, [(None, "self")])
        >>> facts.architecture, str(facts.towers[0])
        ('GPT2LMHeadModel (gpt2)', 'layers 0 to 1 of 2 heads, width 8')
    """
    info = model_info(subject)
    towers = {(tower.tower, tower.kind): tower for tower in info.towers}
    wanted = dict.fromkeys((tower or info.tower, kind) for tower, kind in places)
    return WrittenModel(
        name=info.name,
        family=info.family,
        class_name=info.class_name,
        dtype=info.dtype,
        vocabulary=info.vocabulary,
        towers=tuple(towers[place] for place in wanted if place in towers),
        weights=weights_of(unwrap(subject)[0]),
    )


def check_fits(written: WrittenModel, own: WrittenModel, *, force: bool) -> None:
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
