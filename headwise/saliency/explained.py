"""An example whose reply is to be explained: its forward, changed or not where the layers begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.fixes.patching import patch
from headwise.functional.explained import Target, explained
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.reply import Question

At = Literal["input", "encoder_output"]
Change = Callable[[str, Tensor], Tensor]
"""From a tower and the hidden states that enter it, (copy, position, width), to those that take their place."""
Leaves = dict[str, Tensor]
"""Tower -> hidden states that enter it, (copy, position, width): leaves of the graph where there is one."""
Maps = dict[str, Float[Tensor, "token position"]]
"""Tower -> saliency of its positions for every token of the reply."""


@dataclass(frozen=True, eq=False)
class Explained:
    """A question, the number that explains each token of its reply, and where the model's input is taken.

    Row i of a forward, at position i, predicts the token at position i + 1: all maps are of the row that predicts.
    """

    question: Question
    target: Target = "log_probability"
    at: At = "input"
    """`"input"`: the hidden states that enter the first layer of a tower (embeddings, with pictures and sounds among
    them). `"encoder_output"`: what the decoder's cross-attention reads."""
    tokens: tuple[int, ...] = ()
    """The tokens that are explained, one per row that predicts the reply; those of the reply when empty."""
    offset: Leaves = field(default_factory=dict, repr=False)
    """Added to what enters a tower, before any change."""

    def __post_init__(self) -> None:
        """Refuse an output of an encoder that is not there."""
        if self.at == "encoder_output" and not self.question.subject.config.is_encoder_decoder:
            raise InputError(
                "This model has no encoder whose output a decoder reads.",
                evidence=type(self.question.subject.model).__name__,
                remedy='Use at="input".',
            )

    @property
    def towers(self) -> tuple[str, ...]:
        """The towers whose positions have a saliency: the source, if there is one, and the one that writes."""
        tower = self.question.tower
        source = key_tower(tower, "cross", self.question.layout.axes)
        if self.at == "encoder_output":
            return (source,)
        return (source, tower) if self.question.subject.config.is_encoder_decoder else (tower,)

    def forward(
        self, change: Change | None = None, copies: int = 1
    ) -> tuple[Float[Tensor, "copy token"], Leaves]:
        """The explained number of every token of the reply, and what entered the towers.

        Args:
            change: of the hidden states that enter; none when None.
            copies: of the example, side by side, for a change that treats them differently.
        """
        logits, leaves = self.logits(change, copies)
        reference = self.reference if self.target == "kl" else None
        ids = torch.tensor(self.tokens or self.question.reply, device=logits.device)
        return explained(logits, ids, target=self.target, reference=reference), leaves

    def logits(
        self, change: Change | None = None, copies: int = 1
    ) -> tuple[Float[Tensor, "copy token vocabulary"], Leaves]:
        """Logits of the rows that predict the reply, and what entered the towers."""
        model: Any = self.question.subject.model
        entries = {
            tower: Entry(tower=tower, change=change, offset=self.offset.get(tower)) for tower in self.towers
        }
        inputs: Mapping[str, Any] = self.question.inputs
        patched: Any = nullcontext()
        if self.at == "encoder_output":
            (entry,) = entries.values()
            inputs = self._behind_encoder(entry.enter(self.encoder_output.expand(copies, -1, -1)))
        else:
            patched = patch(self.question.subject, list(entries.values()))
        with patched:
            logits = model(**repeated(inputs, copies)).logits[:, -len(self.question.reply) :]
        return logits, {tower: entry.entered[-1] for tower, entry in entries.items()}

    def _behind_encoder(self, hidden: Tensor) -> dict[str, Any]:
        """Arguments of the forward of a decoder that reads these."""
        from transformers.modeling_outputs import BaseModelOutput

        sound = ("input_features", "input_values")
        rest = {
            name: value for name, value in self.question.inputs.items() if name not in (*sound, "input_ids")
        }
        return {**rest, "encoder_outputs": BaseModelOutput(last_hidden_state=hidden)}

    @cached_property
    def reference(self) -> Float[Tensor, "token vocabulary"]:
        """Log-probabilities of the rows that predict the reply, without a change."""
        with torch.no_grad():
            return self.logits()[0][0].float().log_softmax(-1)

    @cached_property
    def encoder_output(self) -> Float[Tensor, "one position width"]:
        """What the decoder's cross-attention reads."""
        model: Any = self.question.subject.model
        with torch.no_grad():
            return model(**self.question.inputs).encoder_last_hidden_state

    def visible(self, tower: str) -> Tensor:
        """True where a token of the reply may rest on a position of a tower: it is real, and was read before."""
        valid = self.question.layout.axes[tower].valid[0]
        if tower != self.question.tower:
            return valid.expand(len(self.question.reply), -1)
        written = torch.tensor(list(self.question.positions))
        return valid & (torch.arange(len(valid)) < written[:, None])


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A fix: what enters the first layer of a tower is changed, and is a leaf of the graph."""

    tower: str
    change: Change | None = None
    offset: Tensor | None = None
    layers: tuple[int, ...] = (0,)
    entered: list[Tensor] = field(default_factory=list, repr=False)

    def edit_residual(self, residual: Tensor, site: Site, context: Any) -> Tensor:
        """What enters, changed."""
        return self.enter(residual)

    def enter(self, hidden: Tensor) -> Tensor:
        """The same without a site."""
        hidden = hidden if self.offset is None else hidden + self.offset
        new = hidden.detach() if self.change is None else self.change(self.tower, hidden)
        if torch.is_grad_enabled() and not (new.is_leaf and new.requires_grad):
            new = new if self.change is not None and new.requires_grad else new.detach().requires_grad_()
        self.entered.append(new)
        return new


def repeated(inputs: Mapping[str, Any], copies: int) -> dict[str, Any]:
    """Arguments of a forward for several copies of the example."""
    if copies == 1:
        return dict(inputs)
    return {
        name: torch.cat([value] * copies) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }
