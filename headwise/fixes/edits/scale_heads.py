"""Scale or silence what heads write."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.fixes.arguments import Heads, as_heads, as_tower, finite, of_layer
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context


@dataclass(frozen=True, kw_only=True)
class ScaleHeads:
    """Multiply the outputs of heads, before W_O, by `factor`.

    The same as multiplying their columns of W_O. `factor=1` changes nothing, bit for bit; 0 silences the heads.

    Args:
        heads: (layer, head) pairs.
        factor: any finite number.
        tower: the language (or decoder) tower when None.
        kind: "self" or "cross".

    Raises:
        FixError: malformed heads, a factor that is not finite, an unknown tower or kind.

    Example:
        >>> ScaleHeads(heads=((0, 1),), factor=0.5).factor
        0.5
    """

    heads: Heads
    factor: float
    tower: str | None = None
    kind: str = "self"

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", as_heads(self.heads))
        object.__setattr__(self, "factor", finite(self.factor, "factor"))
        as_tower(self.tower, self.kind)

    @property
    def linear(self) -> bool:
        """True: each head is multiplied by a number, so the same can be done to its pattern."""
        return True

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return self.factor == 1.0 or not self.heads

    def factors(self, layer: int, heads: int) -> Float[Tensor, " head"]:
        """What the output of each of a layer's `heads` heads is multiplied by; float64, on the CPU.

        Example:
            >>> ScaleHeads(heads=((0, 1),), factor=0.5).factors(0, 3)
            tensor([1.0000, 0.5000, 1.0000], dtype=torch.float64)
        """
        return _factors(self.heads, layer, heads, self.factor)

    def scale(
        self, z: Float[Tensor, "batch query head width"], site: Site, context: Context
    ) -> Float[Tensor, "batch query head width"]:
        """Head outputs, the chosen ones scaled."""
        return z * self.factors(site.layer, z.shape[2]).to(z)[:, None]


@dataclass(frozen=True, kw_only=True)
class ZeroHeads:
    """Replace the outputs of heads, before W_O, by zeros: zero ablation.

    Args:
        heads: (layer, head) pairs.
        tower: the language (or decoder) tower when None.
        kind: "self" or "cross".

    Raises:
        FixError: malformed heads, an unknown tower or kind.

    Example:
        >>> ZeroHeads(heads=[(2, 0)]).heads
        ((2, 0),)
    """

    heads: Heads
    tower: str | None = None
    kind: str = "self"

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", as_heads(self.heads))
        as_tower(self.tower, self.kind)

    @property
    def linear(self) -> bool:
        """True: each head is multiplied by a number, so the same can be done to its pattern."""
        return True

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return not self.heads

    def factors(self, layer: int, heads: int) -> Float[Tensor, " head"]:
        """What the output of each of a layer's `heads` heads is multiplied by; float64, on the CPU."""
        return _factors(self.heads, layer, heads, 0.0)

    def scale(
        self, z: Float[Tensor, "batch query head width"], site: Site, context: Context
    ) -> Float[Tensor, "batch query head width"]:
        """Head outputs, the chosen ones zero, also where they were NaN."""
        silent = self.factors(site.layer, z.shape[2]).to(z.device) == 0
        return z.masked_fill(silent[:, None], 0.0)


def _factors(heads: Heads, layer: int, count: int, factor: float) -> Tensor:
    factors = torch.ones(count, dtype=torch.float64)
    factors[of_layer(heads, layer, count)] = factor
    return factors
