"""What a report keeps of attention patterns: small pictures of every head, and what is left without sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from headwise.analyses._sinks import MIN_ROWS
from headwise.probes.records import Record, at_numbers
from headwise.probes.sites import Site, key_stack

if TYPE_CHECKING:
    from headwise.probes.trace import Trace

SIDE = 64
"""Pictures of patterns have at most this many rows and columns."""
_LEAST = 1e-6
"""Rows that leave less than this to keys that are no sinks say nothing about them."""


@dataclass(frozen=True, eq=False)
class Reading:
    """The patterns of a trace, made small; the patterns themselves are no longer needed."""

    pixels: Mapping[Site, UInt8[Tensor, "example _head _row _key"]]
    """255 √weight, the largest weight within every bin; rows and keys count from the first real one."""
    bins: Mapping[Site, tuple[int, int]]
    """Rows and keys that one pixel stands for."""
    entropy_without: Mapping[Site, Float[Tensor, "example _head"]]
    """Normalised entropy of the rows when the sinks are left out and the rest is scaled up to one."""
    received_without: Mapping[Site, Float[Tensor, "example _key"]]
    """Mean received attention of every key when the sinks are left out in the same way, mean over heads."""
    crossing: Mapping[str, tuple[Float[Tensor, "_row _key"], ...]]
    """Cross-attention of a stack per example, mean over layers and heads."""


def read_patterns(
    trace: Trace,
    sinks: Mapping[Site, Bool[Tensor, "example key"]],
    *,
    longest: Mapping[str, int] | None = None,
) -> Reading | None:
    """Make the patterns of a trace small; None where it holds none, or only chosen rows.

    Args:
        trace: a capture with `stats=True, maps=True`.
        sinks: True at the keys that are sinks, per site.
        longest: positions of the longest example per stack, where other traces are to be shown with this one.
    """
    held = {
        site: record
        for site, record in trace.records.items()
        if "maps" in record and "seen" in record and "row_positions" not in record
    }
    if not held:
        return None
    pixels, bins, without, received = {}, {}, {}, {}
    sums: dict[str, list[list[Tensor]]] = {}
    for site, record in held.items():
        rows, keys = _real_rows(record), _real_keys(record)
        read = key_stack(site.stack, site.kind, trace.layout.axes)
        sizes = (
            max(int(rows.sum(1).max()), (longest or {}).get(site.stack, 1)),
            max(int(keys.sum(1).max()), (longest or {}).get(read, 1)),
        )
        bins[site] = (-(-sizes[0] // SIDE), -(-sizes[1] // SIDE))
        shape = (-(-sizes[0] // bins[site][0]), -(-sizes[1] // bins[site][1]))
        maps = record["maps"].detach()
        small = torch.zeros(*maps.shape[:2], *shape, dtype=torch.uint8)
        for example in range(len(maps)):
            own = maps[example][:, rows[example]][:, :, keys[example]].float()
            small[example] = _pooled(own, bins[site], shape)
            if site.kind == "cross":
                sums.setdefault(site.stack, [[] for _ in range(len(maps))])[example].append(own.mean(0).cpu())
        pixels[site] = at_numbers(small, record, "maps", fill=0)
        if site in sinks:
            left = entropy_without(maps, sinks[site], rows=rows, keys=keys)
            without[site] = at_numbers(left, record, "maps")
            received[site] = received_without(maps, sinks[site], rows=rows, seen=record["seen"].detach())
    crossing = {
        stack: tuple(torch.stack(own).mean(0) for own in examples) for stack, examples in sums.items()
    }
    return Reading(pixels, bins, without, received, crossing)


def join_readings(readings: Sequence[Reading | None]) -> Reading | None:
    """The examples of several readings behind one another, as far as all of them have the site; None without any.

    A smaller pattern is filled up with zeros. A site whose patterns were pooled by different factors is left out.
    """
    known = [reading for reading in readings if reading is not None]
    if len(known) < len(readings) or not known:
        return None
    bins = known[0].bins
    sites = [site for site in bins if all(one.bins.get(site) == bins[site] for one in known)]
    return Reading(
        {site: _side_by_side([one.pixels[site] for one in known]) for site in sites},
        {site: known[0].bins[site] for site in sites},
        _joined([one.entropy_without for one in known], sites),
        _joined([one.received_without for one in known], sites),
        {
            stack: tuple(own for one in known for own in one.crossing[stack])
            for stack in known[0].crossing
            if all(stack in one.crossing for one in known)
        },
    )


def _side_by_side(pixels: Sequence[Tensor]) -> Tensor:
    height, width = (max(one.shape[axis] for one in pixels) for axis in (2, 3))
    return torch.cat([pad(one, (0, width - one.shape[3], 0, height - one.shape[2])) for one in pixels])


def entropy_without(
    maps: Float[Tensor, "example head query key"],
    sinks: Bool[Tensor, "example key"],
    *,
    rows: Bool[Tensor, "example query"],
    keys: Bool[Tensor, "example key"],
) -> Float[Tensor, "example head"]:
    """Mean normalised entropy of the rows without the sink keys, the rest of each row scaled up to one (ours).

    0 means that what is not on a sink goes to one key, 1 that it is flat over the keys the row gives any weight.
    Rows that leave next to nothing, or have fewer than two keys left, are left out; NaN where none is left.

    Args:
        maps: attention patterns.
        sinks: True at the keys to leave out.
        rows: True at real query rows.
        keys: True at real keys.

    Example:
        >>> maps = torch.tensor([[[[0.8, 0.1, 0.1]]]])
        >>> every = torch.ones(1, 3, dtype=torch.bool)
        >>> entropy_without(maps, torch.tensor([[True, False, False]]), rows=every[:, :1], keys=every)
        tensor([[1.]])
    """
    means = []
    for example, pattern in enumerate(maps):
        kept = pattern[:, rows[example]][:, :, keys[example] & ~sinks[example].to(keys.device)].float()
        rest = kept.sum(-1, keepdim=True)
        choices = (kept > 0).sum(-1)
        rate = torch.special.entr(kept / rest.clamp_min(_LEAST)).sum(-1) / choices.clamp_min(2).log()
        known = (rest[..., 0] > _LEAST) & (choices >= 2)
        means.append(rate.where(known, torch.nan).nanmean(-1).clamp(max=1.0))
    return torch.stack(means).cpu()


def received_without(
    maps: Float[Tensor, "example head query key"],
    sinks: Bool[Tensor, "example key"],
    *,
    rows: Bool[Tensor, "example query"],
    seen: Float[Tensor, "example key"],
) -> Float[Tensor, "example key"]:
    """Mean attention a key receives without the sink keys, the rest of each row scaled up to one; mean over heads.

    NaN at the sinks, and at keys that fewer than four rows see. A row that leaves next to nothing gives nothing.

    Args:
        maps: attention patterns.
        sinks: True at the keys to leave out.
        rows: True at real query rows.
        seen: number of rows that may see each key; NaN at padding.

    Example:
        >>> maps = torch.tensor([0.8, 0.15, 0.05]).expand(1, 1, 4, 3)
        >>> every, seen = torch.ones(1, 4, dtype=torch.bool), torch.full((1, 3), 4.0)
        >>> received_without(maps, torch.tensor([[True, False, False]]), rows=every, seen=seen)
        tensor([[  nan, 0.7500, 0.2500]])
    """
    known = (seen >= MIN_ROWS) & ~sinks.to(seen.device)
    sums = []
    for example, pattern in enumerate(maps):
        own = pattern[:, rows[example]].float()
        kept = own.where(~sinks[example].to(own.device) & ~seen[example].isnan(), 0.0)
        rest = kept.sum(-1, keepdim=True)
        sums.append((kept / rest.clamp_min(_LEAST)).where(rest > _LEAST, 0.0).sum(-2).mean(0))
    return (torch.stack(sums) / seen).where(known, torch.nan).cpu()


def _joined(found: Sequence[Mapping[Site, Tensor]], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """The examples of all, at the sites that every one has; shorter ones are filled up with NaN."""
    joined = {}
    for site in sites:
        if all(site in one for one in found):
            parts = [one[site] for one in found]
            width = max(part.shape[1] for part in parts)
            joined[site] = torch.cat(
                [torch.nn.functional.pad(part, (0, width - part.shape[1]), value=torch.nan) for part in parts]
            )
    return joined


def _pooled(
    maps: Float[Tensor, "head query key"], bins: tuple[int, int], shape: tuple[int, int]
) -> UInt8[Tensor, "head row column"]:
    """The largest weight of every bin as 255 √weight; what lies behind the example is 0."""
    out = maps.new_zeros(len(maps), *shape)
    if maps.numel():
        pooled = max_pool2d(maps[None], bins, bins, ceil_mode=True)[0]
        out[:, : pooled.shape[1], : pooled.shape[2]] = pooled[:, : shape[0], : shape[1]]
    return (255.0 * out.clamp(0, 1).sqrt()).round().to(torch.uint8).cpu()


def _real_rows(record: Record) -> Bool[Tensor, "example query"]:
    return ~record["visible"].detach().isnan()


def _real_keys(record: Record) -> Bool[Tensor, "example key"]:
    return ~record["seen"].detach().isnan()
