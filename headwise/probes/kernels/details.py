"""Details of rows that a capture keeps when asked: nearest keys, largest weights, what later rows give a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.errors import CaptureError, InputError

NEAR, TOP, LATER = 10, (1, 5, 10), (10, 100)
"""What True stands for: the window of WAAD, the sizes of top-k mass, the horizon of FAI."""
_MOST = 2**16
_FOLD = 8
"""Weights to a lane."""


@dataclass(frozen=True)
class Details:
    """Details that are kept of every row and key beside its statistics."""

    near: int = 0
    """Weights on the row's own position and the `near - 1` before it."""
    top: tuple[int, ...] = ()
    """Sizes k of sums of the k largest weights of a row."""
    later: tuple[int, int] | None = None
    """Weights that a key receives from rows this many positions later, both ends included."""

    @classmethod
    def of(cls, near: int | bool, top: Sequence[int] | bool, later: tuple[int, int] | bool | None) -> Details:
        """Options of `hw.capture`, checked.

        Raises:
            InputError: one of them is no count, no list of sizes, or no pair of distances.
        """
        near = NEAR if near is True else near or 0
        sizes = TOP if top is True else _whole(top or ())
        span = LATER if later is True else None if later in (None, False) else _whole(later)
        if not _whole([near]) or not 0 <= near <= _MOST:
            raise _wrong("near", near, "a number of keys", NEAR)
        if (
            sizes is None
            or list(sizes) != sorted(set(sizes))
            or (sizes and not 1 <= sizes[0] <= sizes[-1] <= _MOST)
        ):
            raise _wrong("top", top, "sizes in rising order", TOP)
        if later not in (None, False) and (span is None or len(span) != 2 or not 0 <= span[0] <= span[1]):
            raise _wrong("later", later, "the nearest and the farthest of those rows, in positions", LATER)
        return cls(int(near), sizes, None if span is None else (span[0], span[1]))

    def __bool__(self) -> bool:
        return bool(self.near or self.top or self.later)

    def joined(self, other: Details) -> Details:
        """What serves both of two captures of one model.

        Raises:
            CaptureError: they ask for different `later`.
        """
        if self.later and other.later and self.later != other.later:
            raise CaptureError(
                "Two captures of one model ask for different rows behind a key.",
                evidence=f"later={self.later} and later={other.later}",
                remedy="Run the model once for each.",
            )
        sizes = tuple(sorted({*self.top, *other.top}))
        return Details(max(self.near, other.near), sizes, self.later or other.later)

    def rows(
        self, pattern: Float[Tensor, "*batch query key"], own: Int[Tensor, " query"] | None
    ) -> dict[str, Tensor]:
        """Details of the rows of a pattern by field name, (*batch, query, detail).

        `own` is the column of each row's own position; None in cross-attention, where there is none.
        """
        keys, found = pattern.shape[-1], {}
        if self.near and own is not None:
            column = own[:, None] - torch.arange(self.near, device=pattern.device)
            index = column.clamp(0, keys - 1).expand(*pattern.shape[:-1], -1)
            there = (column >= 0) & (column < keys)
            found["near"] = pattern.gather(-1, index) * there
        if self.top:
            largest = _largest(pattern, min(self.top[-1], keys)).cumsum(-1)
            found["top"] = largest[..., [min(size, keys) - 1 for size in self.top]]
        return found

    def keys(
        self,
        pattern: Float[Tensor, "*batch query key"],
        own: Int[Tensor, " query"] | None,
        weights: Float[Tensor, "*batch_or_1 query"],
    ) -> Float[Tensor, "*batch key"] | None:
        """Weights that every key receives from the rows of a pattern that are `later`; None where that is not asked.

        `weights` is 0 on padded rows and 1 on real ones.
        """
        if self.later is None or own is None:
            return None
        found = pattern.new_zeros(*pattern.shape[:-2], pattern.shape[-1])
        lowest, highest = (int(end) for end in own.aminmax())
        keys = slice(max(lowest - self.later[1], 0), max(highest - self.later[0] + 1, 0))  # what rows reach
        apart = own[:, None] - torch.arange(pattern.shape[-1], device=pattern.device)[keys]
        band = (apart >= self.later[0]) & (apart <= self.later[1])
        near = pattern[..., keys] * band
        found[..., keys] = torch.einsum("...qk,...q->...k", near, weights.to(pattern.dtype))
        return found


NO_DETAILS = Details()


def _largest(pattern: Float[Tensor, "*batch query key"], count: int) -> Float[Tensor, "*batch query count"]:
    """The largest weights of every row, in falling order.

    On a CPU `topk` is slow on rows of fewer than 64 times as many keys. They are folded into lanes of 8: those with the
    highest maxima hold all of these weights.
    """
    keys = pattern.shape[-1]
    lanes = keys // _FOLD
    if pattern.device.type != "cpu" or not 2 * _FOLD * count <= keys < 64 * count:
        return pattern.topk(count, dim=-1).values
    highest = pattern[..., : _FOLD * lanes].unflatten(-1, (_FOLD, lanes)).amax(-2)
    best = highest.topk(count, dim=-1, sorted=False).indices
    members = (best.unsqueeze(-2) + lanes * torch.arange(_FOLD)[:, None]).flatten(-2)
    candidates = pattern.gather(-1, members)
    if keys % _FOLD:
        candidates = torch.cat([candidates, pattern[..., _FOLD * lanes :]], -1)
    return candidates.topk(count, dim=-1).values


def _whole(values: Any) -> tuple[int, ...] | None:
    """Whole numbers as a tuple; None when they are not."""
    try:
        listed = tuple(values)
    except TypeError:
        return None
    if any(isinstance(value, bool) or not isinstance(value, Integral) for value in listed):
        return None
    return tuple(int(value) for value in listed)


def _wrong(name: str, value: Any, what: str, example: Any) -> InputError:
    return InputError(
        f"{name} is {what}.",
        evidence=f"got {value!r}",
        remedy=f"For example {name}={example!r}, or {name}=True.",
    )
