"""Replace an activation by a recorded one: activation patching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import FixError
from headwise.fixes.arguments import as_numbers, as_tower, whole_number
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context
from headwise.text import head_name

Quantity = Literal["q", "k", "v", "pattern", "z", "residual"]
_STEP = {
    "q": "edit_qkv",
    "k": "edit_qkv",
    "v": "edit_qkv",
    "pattern": "edit",
    "z": "scale",
    "residual": "edit_residual",
}
_HEAD_AXIS = {"q": 1, "k": 1, "v": 1, "pattern": 1, "z": 2}
_POSITION_AXIS = {"q": 2, "k": 2, "v": 2, "pattern": 2, "z": 1, "residual": 1}


@dataclass(frozen=True, kw_only=True)
class Replace:
    """Put a recorded q, k, v, pattern, z or residual in the place of the model's own, at one layer.

    The value has the shape that `capture` records for a whole input (`trace.queries`, `.keys`, `.values`, `.maps`,
    `.heads`, `.residual`), with one example or as many as the batch. The model's own recorded value changes nothing,
    bit for bit, when it was recorded with the model's own kernel in place (`stats=False`; a pattern with `rows=`).
    Rows are met wherever their position is computed: in a forward over the whole input, and in the decode step of a
    position that the value holds. For k and v, positions count the keys at hand.

    Args:
        quantity: "q", "k", "v", "pattern", "z" or "residual".
        layer: the layer, from 0.
        value: the activation to put in.
        heads: head numbers (key heads for k and v); all when None. The residual has none.
        positions: absolute positions of query rows (of keys for k and v); all that the value holds when None.
        tower: the language (or decoder) tower when None.
        kind: "self" or "cross".

    Raises:
        FixError: an unknown quantity, heads for the residual; in use, a value that does not fit the activation.

    Example:
        >>> Replace(quantity="z", layer=0, value=torch.zeros(1, 4, 2, 8), heads=(1,)).steps
        ('scale',)
    """

    quantity: Quantity
    layer: int
    value: Tensor = field(repr=False, compare=False)
    heads: Sequence[int] | None = None
    positions: Sequence[int] | None = None
    tower: str | None = None
    kind: str = "self"

    def __post_init__(self) -> None:
        if self.quantity not in _STEP:
            names = ", ".join(get_args(Quantity))
            raise FixError(f"There is no quantity {self.quantity!r}.", remedy=f"One of {names}.")
        if self.quantity == "residual" and (self.heads is not None or self.kind == "cross"):
            raise FixError(
                "The residual stream has no heads, and enters a layer once.",
                evidence=f"heads={self.heads}, kind={self.kind!r}",
                remedy='Leave out heads, and use kind="self".',
            )
        if not isinstance(self.value, Tensor):
            raise FixError("The value must be a tensor.", evidence=f"got {type(self.value).__name__}")
        for name in ("heads", "positions"):
            chosen = getattr(self, name)
            if chosen is not None:
                object.__setattr__(self, name, as_numbers(chosen, name))
        whole_number(self.layer, "layer", 0, 2**31)
        as_tower(self.tower, self.kind)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layer it acts on."""
        return (self.layer,)

    @property
    def steps(self) -> tuple[str, ...]:
        """The one step that this quantity needs."""
        return (_STEP[self.quantity],)

    @property
    def neutral(self) -> bool:
        """True when nothing is named."""
        return any(chosen is not None and len(chosen) == 0 for chosen in (self.heads, self.positions))

    def edit_qkv(
        self, q: Tensor, k: Tensor, v: Tensor, site: Site, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, one of them replaced."""
        parts = {"q": q, "k": k, "v": v}
        own = parts[self.quantity]
        own_rows = self.quantity == "q" or own.shape[2] == len(
            context.positions
        )  # a window has keys of its own
        at = context.positions if own_rows else torch.arange(own.shape[2], device=own.device)
        parts[self.quantity] = self._put(own, at)
        return parts["q"], parts["k"], parts["v"]

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern with the rows replaced."""
        return self._put(pattern, context.positions)

    def scale(
        self, z: Float[Tensor, "batch query head width"], site: Site, context: Context
    ) -> Float[Tensor, "batch query head width"]:
        """Head outputs with the rows replaced."""
        return self._put(z, context.positions)

    def edit_residual(
        self, residual: Float[Tensor, "batch query width"], site: Site, context: Context
    ) -> Float[Tensor, "batch query width"]:
        """The residual with the rows replaced."""
        return self._put(residual, context.positions)

    def _put(self, own: Tensor, at: Tensor) -> Tensor:
        """`own`, whose positions are `at`, with the value in the chosen places."""
        axis = _POSITION_AXIS[self.quantity]
        value = self.value.to(device=own.device, dtype=own.dtype)
        if value.dim() != own.dim() or len(value) not in (1, len(own)):
            raise self._misfit(own)
        chosen = at < value.shape[axis]
        if self.positions is not None:
            chosen &= torch.isin(at, torch.tensor(self.positions, device=at.device))
        rows = chosen.nonzero()[:, 0]
        if len(rows) == 0:
            return own
        value = value.index_select(axis, at[rows])
        if self.quantity == "pattern":
            value = value[..., : own.shape[-1]]
        where: list = [slice(None)] * own.dim()
        where[axis] = rows
        if self.heads is not None:
            self._check_heads(own)
            if value.shape[_HEAD_AXIS[self.quantity]] != own.shape[_HEAD_AXIS[self.quantity]]:
                raise self._misfit(own)
            heads = torch.tensor(self.heads, device=own.device)
            value = value.index_select(_HEAD_AXIS[self.quantity], heads)
            first, second = sorted((axis, _HEAD_AXIS[self.quantity]))
            by_axis = {axis: rows, _HEAD_AXIS[self.quantity]: heads}
            where[first], where[second] = by_axis[first][:, None], by_axis[second][None]
        new = own.clone()
        place = tuple(where)
        value = value.expand(len(own), *value.shape[1:])
        if value.shape != own[place].shape:
            raise self._misfit(own)
        # Padded rows of a recorded pattern are NaN; they keep the model's own.
        new[place] = torch.where(value.isnan(), own[place], value) if self.quantity == "pattern" else value
        return new

    def _misfit(self, own: Tensor) -> FixError:
        return FixError(
            f"The value for {self.quantity} does not fit layer {self.layer}.",
            evidence=f"value {tuple(self.value.shape)}, activation {tuple(own.shape)}",
            remedy="Record it from the same model, whole, with an input of the same kind.",
        )

    def _check_heads(self, own: Tensor) -> None:
        count = own.shape[_HEAD_AXIS[self.quantity]]
        missing = [head for head in self.heads or () if not 0 <= head < count]
        if missing:
            raise FixError(
                f"There is no head {head_name(self.layer, missing[0])} for {self.quantity}.",
                evidence=f"the layer has {count}, 0 to {count - 1}",
            )
