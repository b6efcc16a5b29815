"""Statistics of attention rows and keys, without keeping the pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.errors import CaptureError
from headwise.layout import ROLES
from headwise.probes.kernels.call import Call, visible_keys
from headwise.probes.kernels.details import NO_DETAILS, Details
from headwise.probes.selection import Heads

ROW_FIELDS = ("entropy", "maximum", "lse", "distance")
DETAIL_FIELDS = ("near", "top", "later")


@dataclass(frozen=True)
class CallLayout:
    """Positions, roles and padding of the rows and keys of one attention call."""

    positions: Int[Tensor, " query"]
    """Absolute positions of the query rows."""
    roles: tuple[int, ...]
    """Indices into `ROLES` of the roles that occur among the keys, in the order of `classes`."""
    classes: Float[Tensor, "batch_or_1 key role"]
    """1 where a key has the role."""
    cross: bool = False
    key_start: int = 0
    """Absolute position of the first key at hand (a sliding cache has dropped earlier ones)."""
    query_valid: Bool[Tensor, "batch query"] | None = None
    """False on padded rows; None when all are real."""
    key_valid: Bool[Tensor, "batch key"] | None = None
    """False on padded keys; None when all are real."""
    details: Details = NO_DETAILS
    """What is kept beside the usual statistics."""

    def rows(self, index: Int[Tensor, " row"] | slice) -> CallLayout:
        """The same for some of the rows, counted within the call."""
        valid = self.query_valid
        return replace(
            self, positions=self.positions[index], query_valid=None if valid is None else valid[:, index]
        )


@dataclass(frozen=True)
class Statistics:
    """Statistics of one call. Shapes (batch, head, query), (batch, head, key) and so on; float32 or wider."""

    positions: Int[Tensor, " query"]
    entropy: Float[Tensor, "batch head query"]
    maximum: Float[Tensor, "batch head query"]
    lse: Float[Tensor, "batch head query"]
    distance: Float[Tensor, "batch head query"]
    mass: Float[Tensor, "batch head query role"]
    received: Float[Tensor, "batch head key"]
    n_keys: Float[Tensor, "batch query"]
    n_queries: Float[Tensor, "batch key"]
    near: Float[Tensor, "batch head query offset"] | None = None
    top: Float[Tensor, "batch head query size"] | None = None
    later: Float[Tensor, "batch head key"] | None = None
    roles: tuple[int, ...] = ()
    key_start: int = 0

    def before(self, length: int) -> Statistics:
        """The same without the keys from an absolute position on, of which no row sees any."""
        count = max(0, length - self.key_start)
        later = None if self.later is None else self.later[..., :count]
        received, n_queries = self.received[..., :count], self.n_queries[..., :count]
        return replace(self, received=received, n_queries=n_queries, later=later)

    @property
    def details(self) -> list[str]:
        """The fields of details that were asked for."""
        return [name for name in DETAIL_FIELDS if getattr(self, name) is not None]

    def of_heads(self, heads: Heads) -> Statistics:
        """The same for some of the heads."""
        if heads.numbers is None:
            return self
        names = (*ROW_FIELDS, "mass", "received", *self.details)
        return replace(self, **{name: heads.of(getattr(self, name), 1) for name in names})

    def of_details(self, wanted: Details, held: Details) -> Statistics:
        """The same with some of the details that it holds."""
        if wanted == held:
            return self
        near, top = self.near, self.top
        return replace(
            self,
            near=None if near is None or not wanted.near else near[..., : wanted.near],
            top=None if top is None or not wanted.top else top[..., [held.top.index(k) for k in wanted.top]],
            later=self.later if wanted.later else None,
        )


def counts(
    visibility: Bool[Tensor, "batch_or_1 query key"] | None,
    rows: int,
    keys: int,
    layout: CallLayout,
    *,
    causal: bool = False,
) -> tuple[Float[Tensor, "rows_batch query"], Float[Tensor, "keys_batch key"]]:
    """Number of real keys that each row may see, and of real rows that may see each key.

    `seen_by` is True where a row may see a key; None means everywhere, or, with `causal`, on and below the diagonal.
    """
    device = layout.classes.device
    if visibility is None and layout.query_valid is None and layout.key_valid is None:
        if causal:
            index = torch.arange(rows, device=device, dtype=torch.float32)
            return (index + 1)[None], (rows - index)[None]
        return torch.full((1, rows), float(keys), device=device), torch.full(
            (1, keys), float(rows), device=device
        )
    if visibility is None:
        visibility = torch.ones(1, rows, keys, dtype=torch.bool, device=device)
        if causal:
            visibility = visibility.tril()
    if layout.key_valid is not None:
        visibility = visibility & layout.key_valid[:, None]
    n_keys = visibility.sum(-1, dtype=torch.float32)
    if layout.query_valid is not None:
        visibility = visibility & layout.query_valid[..., None]
    return n_keys, visibility.sum(1, dtype=torch.float32)


def counts_of(call: Call, layout: CallLayout) -> tuple[Tensor, Tensor]:
    """`counts` of a call."""
    visibility = None if call.causal else visible_keys(call)
    return counts(visibility, *call.shape[2:], layout, causal=call.causal)


def separable(rows: int, n_draft_rows: int) -> list[slice]:
    """The rows of a call in groups of which sums are kept: the last `loose`, which may be rolled back, one by one.

    Example:
        >>> separable(5, 2)
        [slice(0, 3, None), slice(3, 4, None), slice(4, 5, None)]
    """
    stay = [slice(0, rows - n_draft_rows)] if rows > n_draft_rows else []
    return stay + [slice(row, row + 1) for row in range(rows - n_draft_rows, rows)]


def finish(
    row: dict[str, Tensor],
    mass: Tensor,
    received: Tensor,
    layout: CallLayout,
    count: tuple[Tensor, Tensor],
    details: dict[str, Tensor] | None = None,
) -> Statistics:
    """Raw sums as `Statistics`: padded rows and padded keys become NaN. Takes over the tensors it is given."""
    details = details or {}
    batch = received.shape[0]
    n_keys, n_queries = (value.expand(batch, -1).clone() for value in count)
    if layout.cross:
        row["distance"].fill_(torch.nan)
    if layout.query_valid is not None:
        padded = ~layout.query_valid
        for value in row.values():
            value.masked_fill_(padded[:, None], torch.nan)
        for value in (mass, *(details[name] for name in ("near", "top") if name in details)):
            value.masked_fill_(padded[:, None, :, None], torch.nan)
        n_keys.masked_fill_(padded, torch.nan)
    if layout.key_valid is not None:
        for value in (received, *(details[name] for name in ("later",) if name in details)):
            value.masked_fill_(~layout.key_valid[:, None], torch.nan)
        n_queries.masked_fill_(~layout.key_valid, torch.nan)
    return Statistics(
        positions=layout.positions,
        mass=mass,
        received=received,
        n_keys=n_keys,
        n_queries=n_queries,
        roles=layout.roles,
        key_start=layout.key_start,
        **row,
        **details,
    )


def from_pattern(
    probabilities: Float[Tensor, "batch head query key"],
    layout: CallLayout,
    count: tuple[Tensor, Tensor],
    *,
    lse: Float[Tensor, "batch head query"] | None = None,
) -> Statistics:
    """The statistics of a pattern that is at hand; `lse` is NaN where it is not known."""
    p = probabilities.detach().to(torch.promote_types(probabilities.dtype, torch.float32))
    if layout.key_valid is not None:
        p = p.masked_fill(~layout.key_valid[:, None, None], 0.0)
    keys = torch.arange(layout.key_start, layout.key_start + p.shape[-1], device=p.device)
    distance = (layout.positions[:, None] - keys).abs().to(p.dtype)
    weights = torch.ones(1, p.shape[2], dtype=p.dtype, device=p.device)
    if layout.query_valid is not None:
        weights = layout.query_valid.to(p.dtype)
    row = {
        "entropy": torch.special.entr(p).sum(-1),
        "maximum": p.amax(-1),
        "lse": torch.full_like(p[..., 0], torch.nan) if lse is None else lse.to(p.dtype, copy=True),
        "distance": torch.linalg.vecdot(p, distance),
    }
    mass = torch.matmul(p, layout.classes[:, None].to(p.dtype))
    received = torch.einsum("bq,bhqk->bhk", weights.expand(p.shape[0], -1), p)
    details: dict[str, Tensor] = {}
    if layout.details:
        own = None if layout.cross else (layout.positions - layout.key_start).to(p.device)
        details = layout.details.rows(p, own)
        later = layout.details.keys(p, own, weights[:, None])
        details |= {} if later is None else {"later": later}
    return finish(row, mass, received, layout, count, details)


class RunningStatistics:
    """Statistics of one site over the calls of one run: prefill, then decode steps.

    `update` adds the rows of a call, `merge` those of another accumulator over the same examples, `reorder`
    follows a beam search, `truncate` forgets rows that were rolled back, `compute` gives the tensors.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Statistics, int]] = []
        self._orders: list[Tensor] = []

    def update(self, statistics: Statistics) -> None:
        """Adds the rows of one call."""
        self._calls.append((statistics, len(self._orders)))

    def merge(self, other: RunningStatistics) -> None:
        """Adds the rows that `other` has seen."""
        for statistics in other._ordered():
            self.update(statistics)

    def reorder(self, index: Int[Tensor, " example"]) -> None:
        """Makes example b what example `index[b]` was."""
        self._orders.append(index)

    def fork(self) -> RunningStatistics:
        """An accumulator that has seen the same, and goes its own way."""
        twin = RunningStatistics()
        twin._calls, twin._orders = list(self._calls), list(self._orders)
        return twin

    def require_separable(self, length: int) -> None:
        """Refuses to forget some of the rows of a call and not the others."""
        for call, _ in reversed(self._calls):
            first, last = int(call.positions[0]), int(call.positions[-1])
            if last < length:
                return
            if first < length:
                raise CaptureError(
                    "A cache was cropped amid positions that were read in one call, and the sums over its rows cannot "
                    "be taken apart.",
                    evidence=f"cropped to {length}, and one call read the positions {first} to {last}",
                    remedy="Read what stays and what may be cropped in two calls, begin again with an empty cache, or "
                    "keep no sums: hw.capture(..., stats=False, maps=True).",
                )

    def truncate(self, length: int, *, keys: bool = False) -> None:
        """Forgets calls with rows at or after absolute position `length` and, with `keys`, the keys there."""
        while self._calls and int(self._calls[-1][0].positions[-1]) >= length:
            self._calls.pop()
        for number in reversed(range(len(self._calls) if keys else 0)):
            call, since = self._calls[number]
            if call.key_start + call.received.shape[-1] <= length:
                break  # nor did calls before it have later keys
            self._calls[number] = (call.before(length), since)

    @property
    def size(self) -> tuple[int, int]:
        """Examples and rows so far."""
        return len(self._calls[-1][0].n_keys), sum(len(call.positions) for call, _ in self._calls)

    def __bool__(self) -> bool:
        return bool(self._calls)

    def compute(self) -> dict[str, Tensor]:
        """All rows and keys so far, by field name; the last axis of `mass` is `ROLES`."""
        calls = self._ordered()
        if not calls:
            return {}
        result = {name: torch.cat([getattr(c, name) for c in calls], dim=2) for name in ROW_FIELDS}
        rows = [name for name in calls[0].details if name != "later"]
        result |= {name: torch.cat([getattr(c, name) for c in calls], dim=2) for name in rows}
        result["n_keys"] = torch.cat([call.n_keys for call in calls], dim=1)
        result["mass"] = torch.cat([_every_role(call) for call in calls], dim=2)
        keys = max(call.key_start + call.received.shape[-1] for call in calls)
        result["received"] = _add_keys([(call.received, call.key_start) for call in calls], keys)
        result["n_queries"] = _add_keys([(call.n_queries, call.key_start) for call in calls], keys)
        later = [(call.later, call.key_start) for call in calls if call.later is not None]
        if later:
            result["later"] = _add_keys(later, keys)
        result["positions"] = torch.cat([call.positions for call in calls])
        return result

    def _ordered(self) -> list[Statistics]:
        """The calls, their examples in the order of the last one."""
        order = orders(self._orders)
        return [_reordered_call(call, order[since]) for call, since in self._calls]


def orders(steps: Sequence[Tensor]) -> list[Tensor | None]:
    """Index of every example of today before each of some reorderings, and, None, after the last."""
    layout: list[Tensor | None] = [None]
    for index in reversed(steps):
        last = layout[-1]
        layout.append(index if last is None else index[last])
    return layout[::-1]


def reordered(value: Tensor, index: Tensor | None) -> Tensor:
    """The examples of a tensor, taken from where they stood."""
    return value if index is None else value.index_select(0, index.to(value.device))


def _reordered_call(call: Statistics, index: Tensor | None) -> Statistics:
    if index is None:
        return call
    batched = [f.name for f in fields(Statistics) if f.name not in ("positions", "roles", "key_start")]
    values = {name: value for name in batched if (value := getattr(call, name)) is not None}
    return replace(call, **{name: reordered(value, index) for name, value in values.items()})


def _every_role(call: Statistics) -> Tensor:
    wide = call.mass.new_zeros(*call.mass.shape[:-1], len(ROLES))
    wide[..., list(call.roles)] = call.mass
    return wide.masked_fill_(call.entropy.isnan()[..., None], torch.nan)


def _add_keys(parts: list[tuple[Tensor, int]], keys: int) -> Tensor:
    """Sums per key over calls; NaN where a key was padding in every call that had it."""
    first, start = parts[0]
    if len(parts) == 1 and start == 0:
        return first
    total = first.new_zeros(*first.shape[:-1], keys)
    known = torch.zeros_like(total, dtype=torch.bool)
    for values, start in parts:
        window = (..., slice(start, start + values.shape[-1]))
        total[window] += values.nan_to_num()
        known[window] |= ~values.isnan()
    return total.masked_fill_(~known, torch.nan)
