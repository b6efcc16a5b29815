"""What every head looks at while it predicts the reply, and the same model without what it has learned."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.probes.attach.interface import INSTRUMENTATION
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.capture import capture
from headwise.saliency.explained import Explained

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """Attention of the heads that read one tower, of the rows that predict the reply."""

    source: str
    """The tower that they read: the encoder through cross-attention, or their own."""
    by_site: dict[Site, Float[Tensor, "head token position"]]

    @property
    def mean(self) -> Float[Tensor, "token position"]:
        """Mean over heads, then over layers."""
        return torch.stack([one.mean(0) for one in self.by_site.values()]).mean(0)


def head_maps(example: Explained) -> HeadMaps:
    """Patterns of every head of the tower that writes: of cross-attention where it reads a source, else of its own.

    Raises:
        InputError: its attention has no patterns.
    """
    question = example.question
    kind = "cross" if question.subject.config.is_encoder_decoder else "self"
    sites, rows = {"tower": question.tower, "kind": kind}, list(range(-len(question.reply), 0))
    with torch.no_grad(), capture(question.subject, stats=False, sites=sites, rows=rows) as trace:
        replace(example, at="input").forward()
    found = {
        site: record["maps"][0].float().cpu() for site, record in trace.records.items() if "maps" in record
    }
    if not found:
        raise InputError(
            f"No {kind}-attention of this model was seen.", evidence=type(question.subject.model).__name__
        )
    source = key_tower(question.tower, kind, question.layout.axes)
    return HeadMaps(source, dict(sorted(found.items(), key=lambda one: one[0].place)))


def on(subject: Subject, example: Explained) -> Explained:
    """The same example for another model of the same architecture."""
    return replace(example, question=replace(example.question, subject=subject))


def randomised(subject: Subject, seed: int = 0) -> Subject:
    """The subject with the entries of every weight matrix in random order: the architecture without what it learned.

    Args:
        subject: left as it is.
        seed: of the order.

    Raises:
        InputError: the model is patched or captured, which its copy would not be.
    """
    if INSTRUMENTATION in vars(subject.model):
        raise InputError(
            "Beside this figure stands a copy of the model with random weights, which carries no fix and no capture.",
            evidence=f"{type(subject.model).__name__} is patched or captured",
            remedy="Call it outside of hw.patch and hw.capture, on a baked model (hw.bake) to see what a fix does.",
        )
    model: Any = copy.deepcopy(subject.model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return replace(subject, model=model)
