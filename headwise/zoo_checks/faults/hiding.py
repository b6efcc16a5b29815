"""Hide tokens by what they are, not by where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import FixError
from headwise.fixes.arguments import Heads, as_heads, as_numbers, of_layer
from headwise.functional.redistribution import hide_keys
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context


@dataclass(frozen=True, kw_only=True)
class HideTokens:
    """Take all weight off the keys of some tokens; the others grow in proportion, and the row keeps its sum.

    A row that looks at nothing else, and the row of the token itself, keep what they have.

    Args:
        tokens: token ids.
        heads: (layer, head) pairs; every head of the language tower when None.

    Raises:
        FixError: a negative id, malformed heads; in use, a model that is not given token ids.

    Example:
        >>> HideTokens(tokens=[17]).tokens
        (17,)
    """

    tokens: Sequence[int]
    heads: Heads | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", as_numbers(self.tokens, "tokens"))
        if self.heads is not None:
            object.__setattr__(self, "heads", as_heads(self.heads))

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return not self.tokens or (self.heads is not None and not self.heads)

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern without the hidden tokens."""
        batch, count, _, keys = pattern.shape
        heads = list(range(count)) if self.heads is None else of_layer(self.heads, site.layer, count)
        ids = context.run.axis(context.tower, batch, keys).ids
        if ids is None:
            raise FixError(
                "HideTokens needs token ids.", evidence="the positions of this model are no tokens"
            )
        tokens = torch.tensor(self.tokens, device=pattern.device)
        hidden = torch.isin(ids[:, :keys].to(pattern.device), tokens)[:, None]
        if not heads or not hidden.any():
            return pattern
        itself = torch.arange(keys, device=pattern.device) == context.positions[:, None]
        hidden = (hidden & ~itself)[:, None]
        new = pattern.clone()
        new[:, heads] = hide_keys(pattern[:, heads], hidden)
        return new
