"""Context of the rows that a fix has in hand, and the protocol of fixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.layout import ROLES, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.memory import Memory

if TYPE_CHECKING:
    from headwise.probes.generation.generation import Generation

Visibility = Callable[[], Tensor | None]
"""Keys that the rows in hand may see, found when they are asked for."""


@dataclass(frozen=True, kw_only=True)
class BaseContext:
    """The prompt that a generation begins with, and what a fix remembers of the generation."""

    run: Generation = field(repr=False)
    """The prompt and what was decoded from it so far."""
    tower: str
    """The tower that the fix acts on."""
    memory: Memory = field(repr=False)
    """Memory that this fix has of this generation."""

    @property
    def layout(self) -> TokenLayout:
        """Layout of the positions of the run."""
        return self.run.layout()

    @property
    def prompt_length(self) -> int:
        """Positions of the prompt in this tower, padding counted."""
        return self.run.n_prompt_positions(self.tower)

    def have_role(self, role: str, batch: int) -> Bool[Tensor, "batch position"]:
        """True on the positions of the prompt that have a role, such as "image"; on the CPU."""
        roles = self.run.axis(self.tower, batch, self.prompt_length).roles
        return roles[:, : self.prompt_length] == ROLES.index(role)

    def text_behind_image(self, batch: int) -> Bool[Tensor, "batch position"]:
        """True on the positions of the prompt that are text behind an image of their example; on the CPU."""
        image = self.have_role("image", batch)
        valid = self.run.axis(self.tower, batch, self.prompt_length).valid[:, : self.prompt_length]
        return valid & ~image & (image.cumsum(1) > 0)


@dataclass(frozen=True, kw_only=True)
class PromptContext(BaseContext):
    """A prompt that is about to be read, for `begin`."""

    inputs: Mapping[str, Any] = field(repr=False)
    """Arguments of the model's forward, by name."""
    batch: int
    """Examples."""
    nested: bool
    """True for a prompt that another fix has the model read, perhaps without its image."""
    forward: Callable[[Mapping[str, Any], Any], None] = field(repr=False)
    """`forward(inputs, fix)` runs the model once more on other inputs, without gradients and without a cache, with the
    fixes that stand before this one and with `fix`; nothing of it is recorded."""


@dataclass(frozen=True, kw_only=True)
class Context(BaseContext):
    """Rows in hand: where they stand in their run, and what they may see."""

    positions: Int[Tensor, " query"]
    """Absolute positions of the rows (left padding counted)."""
    query_valid: Bool[Tensor, "batch query"] | None = None
    """False on padded rows; None when all are real."""
    residual: Float[Tensor, "batch call_query width"] | None = None
    """Residual entering the layer, of every row of the call, for fixes that declare `needs_residual = True`."""
    visibility: Visibility | None = field(default=None, repr=False)

    @property
    def visible(self) -> Bool[Tensor, "batch_or_1 query key"] | None:
        """Keys that the rows in hand may see, by absolute position; None when each sees every key there is."""
        return None if self.visibility is None else self.visibility()

    def part(self, rows: slice) -> Context:
        """The same for some of the rows in hand."""

        def find() -> Tensor | None:
            visibility = self.visible
            return None if visibility is None else visibility[:, rows]

        valid = self.query_valid
        return replace(
            self,
            positions=self.positions[rows],
            query_valid=None if valid is None else valid[:, rows],
            visibility=find,
        )

    def keys_with_role(
        self, role: str, pattern: Float[Tensor, "batch head query key"]
    ) -> Bool[Tensor, "batch key"]:
        """True on the keys of a pattern of self-attention that have a role, such as "image"; on its device."""
        count = pattern.shape[-1]
        roles = self.run.axis(self.tower, len(pattern), self.prompt_length).roles[:, :count]
        has_role = torch.nn.functional.pad(roles == ROLES.index(role), (0, count - roles.shape[1]))
        return has_role.to(pattern.device)

    def rows_behind_image(self, batch: int) -> Bool[Tensor, "batch query"]:
        """True on the rows in hand that are text behind an image of their example: of its prompt, or generated."""
        text, at = self.text_behind_image(batch).to(self.positions.device), self.positions
        generated = at >= self.prompt_length
        sees = self.have_role("image", batch).any(1, keepdim=True).to(at.device)
        return torch.where(generated, sees, text[:, at.clamp_max(self.prompt_length - 1)])

    def last_prompt_positions(self, batch: int) -> Int[Tensor, " batch"]:
        """Absolute position of every example's last prompt token, whatever side the padding is on."""
        valid = self.run.axis(self.tower, batch, self.prompt_length).valid[:, : self.prompt_length]
        order = torch.arange(1, self.prompt_length + 1)
        return (valid * order).argmax(-1).to(self.positions.device)


@runtime_checkable
class Fix(Protocol):
    """An object with `edit` alone is a fix. It may also have any of the other steps and attributes below.

    * `scale(z, site, context)`: per-head outputs before W_O, (batch, query, head, width).
    * `edit_qkv(q, k, v, site, context)`: what the attention of a layer is computed from.
    * `edit_residual(residual, site, context)`: the residual entering the layer, (batch, query, width).
    * `begin(prompt)`: once per prompt, before the forward that reads it (see `PromptContext`).
    * `bind(model)`: the same fix with everything filled in that depends on a model (`headwise.subject.info.ModelInfo`).
    * `missing_constants(model)`: names of its parameters that must be fitted first; none when absent.
    * `fit(subject, data)`: the same fix with what was learned from held-out data (`headwise.subject.calibration`).
    * `tower`, `kind`: where it acts; the language (or decoder) tower's self-attention when absent.
    * `layers`: the layers it acts on; all when absent or None.
    * `heads`: (layer, head) pairs; layers that are not named are left to the model's own kernel. Numbers of heads
      for a fix with one `layer`.
    * `neutral`: True when it changes nothing; it is then not run at all.
    * `steps`: the steps that are to run; all that it has when absent.
    * `rows(context, batch)`: absolute positions of the only rows that it edits, as a tensor or a `range`.
    * `needs`: what a prompt must hold for the fix to have something to do: `{"image"}`, or nothing. A model that
      cannot have it is refused.
    * `needs_all_rows`: True when `edit` must be shown all rows of a call at once; long calls then form the whole
      pattern.
    * `needs_residual`: True when `edit` and `scale` read `context.residual`.
    * `residual_in_prompt_only`: True when `edit_residual` need not see rows that are decoded one by one.
    * `linear`: True when `scale` multiplies each head by a number, so that its pattern can be multiplied instead.
    * `leaks_future`: True when a row depends on later ones; results made with it say so.
    * `piecewise`: True when a prompt may come in several forwards; False has such a prompt refused. When absent,
      False with a `begin` or `leaks_future`. A single token behind a prompt of a loop of one's own is a generated one.

    The steps are pure given the context. What must last from one call to the next goes into `context.memory`.
    """

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern to use for these rows. Keys are addressed by absolute position."""
        ...
