"""Buffer of what a capture keeps of one site during one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from headwise.probes.kernels.details import Details
from headwise.probes.kernels.statistics import CallLayout, RunningStatistics, orders, reordered
from headwise.probes.kernels.windows import Window, gathered
from headwise.probes.selection import Heads
from headwise.probes.trace.fields import RESIDUALS, head_field


class Part(NamedTuple):
    """Rows of one call."""

    positions: Tensor
    value: Tensor
    valid: Tensor | None
    """False on rows that are padding or see no key, (batch, row); None when all are real."""
    since: int
    """Number of times that the examples had changed places before."""
    start: int = 0
    """Absolute position of the first key, for keys and values."""

    def ordered(self, order: Sequence[Tensor | None]) -> Part:
        """The same with the examples where they stand today."""
        index = order[self.since]
        valid = None if self.valid is None else reordered(self.valid, index)
        return self._replace(value=reordered(self.value, index), valid=valid)


class Buffer:
    """Records of one site and run, call after call.

    Beams change places at every step of a search. What was recorded stays as it came; `compute` puts it in the order of
    the last step.
    """

    def __init__(self) -> None:
        self.statistics = RunningStatistics()
        self._rows: dict[str, list[Part]] = {}
        self._last: dict[str, Part] = {}
        self._keys: dict[str, list[Part]] = {}
        self._same: dict[str, Tensor] = {}
        self._orders: list[Tensor] = []

    def keep_heads(self, field: str, heads: Heads) -> None:
        """Notes the numbers of the heads that are kept, where they are not all."""
        name = head_field(field)
        if heads.numbers is not None and name not in self._same:
            self._same[name] = torch.tensor(heads.numbers)

    def keep_details(self, details: Details, *, cross: bool) -> None:
        """Notes what the details of statistics are of."""
        if details.top:
            self._same["top_sizes"] = torch.tensor(details.top)
        if details.later and not cross:
            self._same["later_span"] = torch.tensor(details.later)

    def add_rows(
        self,
        field: str,
        value: Tensor,
        layout: CallLayout,
        *,
        index: Tensor | None = None,
        sees_key: Tensor | None = None,
    ) -> None:
        """Adds rows of a tensor whose query axis is third for `maps` and `q`, second for `z` and `residual`.

        `sighted` is False on rows of the call that see no key.
        """
        axis = _QUERY_AXIS[field]
        positions, valid = layout.positions, layout.query_valid
        if index is not None:
            positions = positions[index]
            valid = None if valid is None else valid[:, index]
            sees_key = None if sees_key is None else sees_key[:, index]
        if field == "maps":
            if layout.key_start:
                value = torch.nn.functional.pad(value, (layout.key_start, 0))
            if valid is not None and not value.requires_grad:
                value = value.masked_fill(~valid[:, None, :, None], torch.nan)
        if value.shape[axis] != len(positions):
            positions, valid, sees_key = torch.arange(value.shape[axis]), None, None
        if sees_key is not None:
            valid = sees_key if valid is None else valid & sees_key
        self._rows.setdefault(field, []).append(Part(positions, value, valid, len(self._orders)))

    def set(
        self, field: str, value: Tensor, *, valid: Tensor | None = None, behind: bool = False, start: int = 0
    ) -> None:
        """Keeps the latest value of a field that already holds the whole past (keys and values with their cache).

        Of one window after another each holds its own: `behind` adds it to those before. `start` is the absolute
        position of the first key.
        """
        if behind:
            _, before, ok, _, start = self._last[field]
            if valid is not None or ok is not None:
                valid = torch.cat([_or_true(ok, before), _or_true(valid, value)], 1)
            value = torch.cat([before, value], 2)
        self._last[field] = Part(torch.empty(0), value, valid, len(self._orders), start)

    def n_keys(self, field: str) -> int:
        """Keys of which a field of one number per key is known: the absolute position of the next."""
        parts = self._keys.get(field)
        return parts[-1].start + parts[-1].value.shape[2] if parts else 0

    def add_keys(self, field: str, value: Tensor, *, start: int) -> None:
        """Adds keys of (example, head, key); a cache may drop them later. `start` is the position of the first."""
        part = Part(torch.empty(0), value, None, len(self._orders), start)
        self._keys.setdefault(field, []).append(part)

    def set_graph(self, field: str, value: Tensor, axes: tuple[int, ...], window: Window | None) -> None:
        """Keeps a tensor of the autograd graph; of windows, one that gathers their gradients."""
        if window is not None:
            before = self._last[field].value if window.start else None
            value = gathered(before, value, window, axes)
        self._last[field] = Part(torch.empty(0), value, None, len(self._orders))

    def reorder(self, index: Tensor) -> None:
        """Makes example b what example `index[b]` was; there may be fewer or more examples than before."""
        self.statistics.reorder(index)
        self._orders.append(index)

    def fork(self) -> Buffer:
        """A buffer with the same records, which goes its own way."""
        twin = Buffer()
        twin.statistics = self.statistics.fork()
        twin._rows = {field: list(parts) for field, parts in self._rows.items()}
        twin._keys = {field: list(parts) for field, parts in self._keys.items()}
        twin._last, twin._same, twin._orders = dict(self._last), dict(self._same), list(self._orders)
        return twin

    def truncate(self, length: int, *, keys: bool) -> None:
        """Forgets rows at or after an absolute position and, with `keys`, the keys there."""
        self.statistics.truncate(length, keys=keys)
        for field, parts in self._rows.items():
            axis = _QUERY_AXIS[field]
            left = []
            for at, value, valid, since, _ in parts:
                count = int((at < length).sum())
                if count:
                    valid = None if valid is None else valid[:, :count]
                    value = value.narrow(axis, 0, count)
                    if field == "maps" and keys and value.shape[3] > length:
                        value = value[..., :length]
                    left.append(Part(at[at < length], value, valid, since))
            self._rows[field] = left
        for field, parts in self._keys.items() if keys else ():
            left = [part._replace(value=part.value[..., : max(0, length - part.start)]) for part in parts]
            self._keys[field] = [part for part in left if part.value.numel()]
        for field in {"k", "v"} & set(self._last) if keys else ():
            part = self._last[field]
            count = max(0, length - part.start)
            valid = None if part.valid is None else part.valid[:, :count]
            self._last[field] = part._replace(value=part.value[:, :, :count], valid=valid)

    def compute(self) -> dict[str, Tensor]:
        """The record of this run: every field, all rows; no residual that stands `apart`."""
        record, order = self.statistics.compute(), orders(self._orders)
        for field in filter(self._rows.get, _QUERY_AXIS):
            if field in RESIDUALS and self.apart:
                continue
            parts = [part.ordered(order) for part in self._rows[field]]
            keys = max(part.value.shape[-1] for part in parts)
            values = [_wider(part.value, keys) if field == "maps" else part.value for part in parts]
            record[field] = values[0] if len(values) == 1 else torch.cat(values, dim=_QUERY_AXIS[field])
            positions = torch.cat([part.positions for part in parts])
            record.setdefault("positions", positions)
            if field == "maps" and len(positions) != len(record["positions"]):
                record["row_positions"] = positions
        for field, parts in self._keys.items():
            known = torch.cat([part.ordered(order).value for part in parts], 2)
            record[field] = torch.nn.functional.pad(known, (parts[0].start, 0), value=torch.nan)
        if "maps" in self._last:
            record.setdefault("positions", torch.arange(self._last["maps"].value.shape[2]))
        return record | {field: part.ordered(order).value for field, part in self._last.items()} | self._same

    @property
    def apart(self) -> bool:
        """True where the residual has other rows than attention, which works in windows or for learned queries."""
        sizes = {
            field: (len(parts[-1].value), sum(len(part.positions) for part in parts))
            for field, parts in self._rows.items()
            if parts and field in ("q", "z", "residual")
        }
        if self.statistics:
            sizes["statistics"] = self.statistics.size
        return "residual" in sizes and len(set(sizes.values())) > 1

    def valid(self) -> dict[str, Tensor]:
        """False where rows of a field are padding or see no key, (example, row); fields of real rows are left out."""
        order = orders(self._orders)
        last = {field: part.ordered(order).valid for field, part in self._last.items()}
        valid_rows = {field: valid for field, valid in last.items() if valid is not None}
        for field, parts in self._rows.items():
            if any(part.valid is not None for part in parts):
                valid_rows[field] = torch.cat([_valid(part.ordered(order)) for part in parts], 1)
        return valid_rows

    def __bool__(self) -> bool:
        return (
            bool(self.statistics) or any(self._rows.values()) or bool(self._last) or any(self._keys.values())
        )


_QUERY_AXIS = {"q": 2, "z": 1, "z_graph": 1, **dict.fromkeys(RESIDUALS, 1), "maps": 2}
"""Fields of rows, those first of which the rows are surely the rows of attention."""


def _valid(part: Part) -> Tensor:
    if part.valid is not None:
        return part.valid
    return torch.ones(len(part.value), len(part.positions), dtype=torch.bool, device=part.value.device)


def _or_true(valid: Tensor | None, value: Tensor) -> Tensor:
    """Real keys of (batch, head, key, width)."""
    return torch.ones_like(value[:, 0, :, 0], dtype=torch.bool) if valid is None else valid


def _wider(value: Tensor, keys: int) -> Tensor:
    """Patterns with zeros for keys that did not exist yet; padded rows stay NaN throughout."""
    if value.shape[-1] == keys:
        return value
    padded = value[..., :1].isnan()
    return torch.nn.functional.pad(value, (0, keys - value.shape[-1])).masked_fill(padded, torch.nan)
