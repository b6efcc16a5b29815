"""Overwrite attention rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.errors import FixError
from headwise.fixes.arguments import Heads, as_heads, as_tower, as_whole, finite, of_layer
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context


@dataclass(frozen=True, kw_only=True)
class SetRows:
    """Overwrite one attention row of heads by given weights.

    The generic form of the repair in circuit-reuse work, where a head is made to look at a chosen position.

    Args:
        heads: (layer, head) pairs.
        row: absolute position of the row, padding counted; negative counts from the end of every example's prompt.
        weights: key position -> weight, or a tensor (key,). Weights are not negative and sum to 1.
        tower: the language (or decoder) tower when None.
        kind: "self" or "cross".

    Raises:
        FixError: weights that are negative or do not sum to 1; in use, a key that the row may not see.

    Example:
        >>> SetRows(heads=((1, 1),), row=-1, weights={5: 1.0}).weights
        ((5, 1.0),)
    """

    heads: Heads
    row: int
    weights: Mapping[int, float] | Tensor | Sequence[tuple[int, float]]
    tower: str | None = None
    kind: str = "self"

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", as_heads(self.heads))
        object.__setattr__(self, "weights", _as_weights(self.weights))
        try:
            object.__setattr__(self, "row", as_whole(self.row))
        except TypeError as error:
            raise FixError(
                "row must be one position.", evidence=f"got {self.row!r}", remedy="For example row=-1."
            ) from error
        as_tower(self.tower, self.kind)

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return not self.heads

    @property
    def piecewise(self) -> bool:
        """False for a row that is counted from the end of the prompt: every piece has an end."""
        return self.row >= 0

    def rows(self, context: Context, batch: int) -> Int[Tensor, " row"]:
        """Absolute positions of the rows to overwrite, over all examples."""
        return self._row(context, batch).unique()

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern with the row overwritten where it is among the rows in hand."""
        batch, heads, _, keys = pattern.shape
        chosen = of_layer(self.heads, site.layer, heads)
        example, at = (self._row(context, batch)[:, None] == context.positions).nonzero(as_tuple=True)
        if len(example) == 0:
            return pattern
        weights = _as_weights(self.weights)
        position = [key for key, _ in weights]
        if max(position) >= keys:
            raise FixError(
                f"SetRows names key {max(position)}, which does not exist.",
                evidence=f"the input has {keys} keys",
            )
        row = torch.zeros(keys, dtype=pattern.dtype, device=pattern.device)
        row[position] = torch.tensor([weight for _, weight in weights], dtype=row.dtype, device=row.device)
        new = pattern.clone()
        for head in chosen:
            new[example, head, at] = row
        return new

    def _row(self, context: Context, batch: int) -> Int[Tensor, " batch"]:
        if self.row >= 0:
            return torch.full((batch,), self.row, device=context.positions.device)
        return context.last_prompt_positions(batch) + self.row + 1


def _as_weights(
    weights: Mapping[int, float] | Tensor | Sequence[tuple[int, float]],
) -> tuple[tuple[int, float], ...]:
    if isinstance(weights, Tensor):
        if weights.dim() != 1:
            raise FixError("weights must be one row.", evidence=f"got shape {tuple(weights.shape)}")
        pairs = [(key, weight) for key, weight in enumerate(weights.tolist()) if weight != 0]
    else:
        if not isinstance(weights, Mapping | Sequence) or isinstance(weights, str):
            raise FixError(
                "weights must map key positions to numbers.",
                evidence=f"got {weights!r}",
                remedy="For example {3: 1.0}.",
            )
        pairs = list(weights.items() if isinstance(weights, Mapping) else weights)
    try:
        pairs = tuple((as_whole(key), finite(weight, "A weight")) for key, weight in pairs)
    except (TypeError, ValueError) as error:
        raise FixError(
            "weights must map key positions to numbers.",
            evidence=f"got {weights!r}",
            remedy="For example {3: 1.0}.",
        ) from error
    total = sum(weight for _, weight in pairs)
    if not pairs or min(weight for _, weight in pairs) < 0 or abs(total - 1.0) > 1e-4:
        raise FixError("weights must be zero or more and sum to 1.", evidence=f"they sum to {total:.6g}")
    if min(key for key, _ in pairs) < 0:
        raise FixError("Key positions count from 0.", evidence=f"got {min(key for key, _ in pairs)}")
    return pairs
