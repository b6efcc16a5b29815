"""Heads silenced, replaced or weighed while the model runs: what `head_importance` and `pruning_curve` stand on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._kinds.targets import WORDS
from headwise.errors import InputError
from headwise.fixes.patching import patch
from headwise.functional.next_token_loss import next_token_loss
from headwise.layout import ROLES
from headwise.probes.generation.forward_inputs import with_decoder_ids
from headwise.subject.generation import prepare_run

if TYPE_CHECKING:
    from headwise.probes.attach.sites import Site
    from headwise.probes.context import Context
    from headwise.subject import Subject

Place = tuple[int, int]
"""Layer and call of a site."""
Head = tuple[int, int, int]
"""Layer, call and number of a head."""


@dataclass(frozen=True, kw_only=True)
class ReplacedHeads:
    """A fix that replaces the outputs of heads, others in every row of a batch."""

    rows: Sequence[Sequence[Head]]
    """For every row of the batch, its heads."""
    values: Mapping[Place, Float[Tensor, "position head width"]] = field(default_factory=dict, repr=False)
    """What is put there, at every position, or one for all positions; zeros where there is nothing."""
    tower: str
    kind: str

    def scale(self, z: Float[Tensor, "batch query head width"], site: Site, context: Context) -> Tensor:
        """Head outputs, the chosen ones replaced."""
        new, value = z.clone(), self.values.get((site.layer, site.call))
        for row, heads in enumerate(self.rows):
            own = [head for layer, call, head in heads if (layer, call) == (site.layer, site.call)]
            if own and value is None:
                new[row, :, own] = 0.0
            elif own and value is not None:
                new[row, :, own] = value[context.positions.cpu() % len(value)][:, own].to(z)
        return new


@dataclass(frozen=True, kw_only=True)
class Gates:
    """A fix that multiplies every head by a gate of 1 at every position, whose gradient can be asked for."""

    tower: str
    kind: str
    gates: dict[Place, list[Tensor]] = field(default_factory=dict, repr=False)
    """Gates of every site that ran, (query, head)."""

    def scale(self, z: Float[Tensor, "batch query head width"], site: Site, context: Context) -> Tensor:
        """Head outputs, as they are."""
        gate = torch.ones(z.shape[1:3], dtype=z.dtype, device=z.device, requires_grad=True)
        self.gates.setdefault((site.layer, site.call), []).append(gate)
        return z * gate[..., None]


MASKED = 7
"""A masked language model reads with every seventh word hidden, about the 15 % that such models are trained on."""


@dataclass(frozen=True, eq=False)
class Question:
    """What the model reads of an example, and the tokens of it that are to be predicted."""

    example: int
    inputs: Mapping[str, Any]
    ids: Tensor
    counted: Tensor
    hidden: bool = False
    """True where the model reads a mask in the place of the tokens that count, and predicts them there."""

    def loss(self, subject: Subject, copies: int = 1) -> Float[Tensor, " copy"]:
        """Nats per token, of every copy in a batch."""
        inputs = {
            name: torch.cat([value] * copies) if isinstance(value, Tensor) else value
            for name, value in self.inputs.items()
        }
        model: Any = subject.model
        logits = model(**inputs).logits
        logits = logits.roll(-1, 1) if self.hidden else logits  # row t is then about the token at t + 1
        return next_token_loss(logits, self.ids.repeat(copies, 1), self.counted.repeat(copies, 1))


def questions(subject: Subject, examples: Iterable[Mapping[str, Any]], name: str) -> list[Question]:
    """Every example as one that has a loss, for the analysis of that name; as several, which hide others of its tokens.

    Raises:
        InputError: the model predicts neither the next token nor hidden ones, or an example has none to predict.
    """
    mask = None if subject.model.can_generate() else _mask(subject, name)
    tower = "decoder" if subject.config.is_encoder_decoder else "text"
    found: list[Question] = []
    for number, example in enumerate(examples):
        inputs = dict(prepare_run(subject, 0, **example).inputs)
        given = with_decoder_ids(subject.model, dict(inputs))
        roles = subject.layout(inputs).axes[tower].roles
        wanted = torch.tensor([ROLES.index(role) for role in (*WORDS, "eos")], dtype=torch.uint8)
        ids = given["decoder_input_ids" if tower == "decoder" else "input_ids"]
        counted = torch.isin(roles, wanted if mask is None else wanted[:-1]).to(ids.device)
        if len(ids) != 1 or not counted[:, 1:].any():
            raise InputError(
                "An example has no word to predict." if len(ids) == 1 else "An example is a batch.",
                evidence=f"{ids.shape[0]} x {ids.shape[1]} tokens",
                remedy="Give texts of two words or more, one by one; an encoder-decoder needs target=, too.",
            )
        if mask is None:
            found.append(Question(number, inputs, ids, counted))
            continue
        turn = (counted.cumsum(1) - 1) % MASKED
        for place in range(min(MASKED, int(counted.sum()))):
            own = counted & (turn == place)
            found.append(
                Question(number, inputs | {"input_ids": ids.where(~own, mask)}, ids, own, hidden=True)
            )
    return found


def _mask(subject: Subject, name: str) -> int:
    """The token that hides another.

    Raises:
        InputError: the model is no masked language model, or nobody knows what hides a token.
    """
    mask = getattr(subject.tokenizer, "mask_token_id", None)
    if subject.model.get_output_embeddings() is None or mask is None:
        raise InputError(
            f"{name} is about the loss of the next token, or of hidden ones, and this model predicts none.",
            evidence=type(subject.model).__name__
            + ("" if subject.model.get_output_embeddings() is None else ", a tokenizer without a mask"),
            remedy="Give a decoder, an encoder-decoder, or a masked language model with its tokenizer; head_types is "
            "for other encoders, too.",
        )
    return mask


def losses(
    subject: Subject, question: Question, fix_rows: Sequence[Sequence[Head]], size: int, **fix: Any
) -> Float[Tensor, " row"]:
    """Loss with each set of heads replaced, nats per token; `size` of them run side by side."""
    found = []
    for start in range(0, len(fix_rows), size):
        rows = fix_rows[start : start + size]
        with torch.no_grad(), patch(subject, ReplacedHeads(rows=rows, **fix)):
            found.append(question.loss(subject, len(rows)).cpu())
    return torch.cat(found)
