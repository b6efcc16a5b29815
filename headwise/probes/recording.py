"""What a capture keeps of one site during one run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headwise.probes.statistics import Places, RunningStatistics, Statistics


@dataclass(frozen=True)
class Want:
    """What a capture was asked to keep."""

    stats: bool = True
    maps: bool = False
    rows: tuple[int, ...] | None = None
    """Absolute positions of the rows whose pattern is kept; negative ones count from the end of the prompt."""
    qkv: bool = False
    heads: bool = False
    residual: bool = False
    gradients: bool = False
    map_limit: int = 4 * 2**30
    """Largest number of bytes of patterns to keep."""


class Buffer:
    """Records of one site and run, call after call."""

    def __init__(self) -> None:
        self.statistics = RunningStatistics()
        self._rows: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._last: dict[str, Tensor] = {}

    def add_statistics(self, statistics: Statistics) -> None:
        """Adds the statistics of a call."""
        self.statistics.update(statistics)

    def add_rows(self, field: str, value: Tensor, places: Places, *, index: Tensor | None = None) -> None:
        """Adds rows of a tensor whose query axis is third for `maps` and `q`, second for `z` and `residual`."""
        axis = _QUERY_AXIS[field]
        positions, valid = places.positions, places.query_valid
        if index is not None:
            positions = positions[index]
            valid = None if valid is None else valid[:, index]
        if field == "maps":
            if places.key_start:
                value = torch.nn.functional.pad(value, (places.key_start, 0))
            if valid is not None and not value.requires_grad:
                value = value.masked_fill(~valid[:, None, :, None], torch.nan)
        if value.shape[axis] != len(positions):
            positions = torch.arange(value.shape[axis])
        self._rows.setdefault(field, []).append((positions, value))

    def set(self, field: str, value: Tensor) -> None:
        """Keeps the latest value of a field that already holds the whole past (keys and values with their cache)."""
        self._last[field] = value

    def reorder(self, index: Tensor) -> None:
        """Follows a beam search."""
        self.statistics.reorder(index)
        for field, parts in self._rows.items():
            self._rows[field] = [(at, _reordered(value, index)) for at, value in parts]
        self._last = {field: _reordered(value, index) for field, value in self._last.items()}

    def truncate(self, length: int) -> None:
        """Forgets rows at or after an absolute position."""
        self.statistics.truncate(length)
        for field, parts in self._rows.items():
            axis = _QUERY_AXIS[field]
            kept = [(at[at < length], value.narrow(axis, 0, int((at < length).sum()))) for at, value in parts]
            self._rows[field] = [(at, value) for at, value in kept if len(at)]

    def compute(self) -> dict[str, Tensor]:
        """The record of this run: every field, all rows."""
        record = self.statistics.compute()
        for field, parts in self._rows.items():
            if not parts:
                continue
            keys = max(value.shape[-1] for _, value in parts)
            values = [_wider(value, keys) if field == "maps" else value for _, value in parts]
            record[field] = values[0] if len(values) == 1 else torch.cat(values, dim=_QUERY_AXIS[field])
            positions = torch.cat([at for at, _ in parts])
            record.setdefault("positions", positions)
            if field == "maps" and len(positions) != len(record["positions"]):
                record["row_positions"] = positions
        return record | self._last

    def __bool__(self) -> bool:
        return bool(self.statistics) or any(self._rows.values()) or bool(self._last)


_QUERY_AXIS = {"maps": 2, "q": 2, "z": 1, "residual": 1, "z_graph": 1}


def _reordered(value: Tensor, index: Tensor) -> Tensor:
    return value.index_select(0, index) if len(value) == len(index) else value


def _wider(value: Tensor, keys: int) -> Tensor:
    """Patterns with zeros for keys that did not exist yet; padded rows stay NaN throughout."""
    if value.shape[-1] == keys:
        return value
    padded = value[..., :1].isnan()
    return torch.nn.functional.pad(value, (0, keys - value.shape[-1])).masked_fill(padded, torch.nan)
