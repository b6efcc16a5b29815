"""Hide keys from heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.fixes.arguments import Heads, as_heads, as_numbers, as_tower, of_layer
from headwise.functional.redistribution import hide_keys
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context


@dataclass(frozen=True, kw_only=True)
class MaskKeys:
    """Take all weight off some keys; the others grow in proportion, and the row keeps its sum.

    The same as hiding the keys before the softmax. A row that looks at nothing else is left alone.

    Args:
        keys: absolute positions, padding counted. Keys that a row does not have (yet) are no error.
        heads: (layer, head) pairs; every head of the tower when None.
        tower: the language (or decoder) tower when None.
        kind: "self" or "cross".

    Raises:
        FixError: a negative position, malformed heads, an unknown tower or kind.

    Example:
        >>> MaskKeys(keys=[0]).keys
        (0,)
    """

    keys: Sequence[int]
    heads: Heads | None = None
    tower: str | None = None
    kind: str = "self"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", as_numbers(self.keys, "keys"))
        if self.heads is not None:
            object.__setattr__(self, "heads", as_heads(self.heads))
        as_tower(self.tower, self.kind)

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return not self.keys or (self.heads is not None and len(self.heads) == 0)

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern without the masked keys."""
        count, keys = pattern.shape[1], pattern.shape[-1]
        heads = list(range(count)) if self.heads is None else of_layer(self.heads, site.layer, count)
        masked = torch.zeros(keys, dtype=torch.bool, device=pattern.device)
        masked[[key for key in self.keys if key < keys]] = True
        if not heads or not masked.any():
            return pattern
        new = pattern.clone()
        new[:, heads] = hide_keys(pattern[:, heads], masked[None])
        return new
