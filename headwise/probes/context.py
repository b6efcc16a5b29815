"""What a fix is told about the rows it has in hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.layout import TokenLayout
from headwise.probes.sites import Site

if TYPE_CHECKING:
    from headwise.probes.flow import Run


@dataclass(frozen=True)
class Context:
    """Where the rows in hand stand in their run."""

    positions: Int[Tensor, " query"]
    """Absolute positions of the rows (left padding counted)."""
    run: Run
    """The prompt and what was decoded from it so far."""
    stack: str
    """The stack that the rows belong to."""
    query_valid: Bool[Tensor, "batch query"] | None = None
    """False on padded rows; None when all are real."""
    residual: Float[Tensor, "batch call_query width"] | None = None
    """Residual entering the layer, for fixes that declare `needs_residual = True`."""

    @property
    def layout(self) -> TokenLayout:
        """What every position of the run is."""
        return self.run.layout()

    @property
    def prompt(self) -> int:
        """Positions of the prompt in this stack, padding counted."""
        return self.run.extent(self.stack)

    def last_prompt_positions(self, batch: int) -> Int[Tensor, " batch"]:
        """Absolute position of every example's last prompt token, whatever side the padding is on."""
        valid = self.run.axis(self.stack, batch, self.prompt).valid[:, : self.prompt]
        order = torch.arange(1, self.prompt + 1)
        return (valid * order).argmax(-1).to(self.positions.device)


@runtime_checkable
class Fix(Protocol):
    """An object with `edit` alone is a fix. It may also have any of the other steps and attributes below.

    * `scale(z, site, context)`: per-head outputs before W_O, (batch, query, head, width).
    * `project(q, k, v, site, context)`: what the attention of a layer is computed from.
    * `stream(residual, site, context)`: the residual entering the layer, (batch, query, width).
    * `stack`, `kind`: where it acts; the language (or decoder) stack's self-attention when absent.
    * `heads`: (layer, head) pairs; layers that are not named are left to the model's own kernel.
    * `layer`: the one layer it acts on.
    * `neutral`: True when it changes nothing; it is then not run at all.
    * `steps`: the steps that are to run; all that it has when absent.
    * `rows(context, batch)`: absolute positions of the only rows that it edits.
    """

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern to use for these rows. Keys are addressed by absolute position."""
        ...


STEPS = ("edit", "scale", "project", "stream")


def touches(fix: Any, site: Site, language: str) -> bool:
    """True when a fix acts on a site."""
    if site.stack != (getattr(fix, "stack", None) or language) or site.kind != getattr(fix, "kind", "self"):
        return False
    layer = getattr(fix, "layer", None)
    if layer is not None:
        return site.layer == layer
    heads = getattr(fix, "heads", None)
    return heads is None or any(layer == site.layer for layer, _ in heads)
