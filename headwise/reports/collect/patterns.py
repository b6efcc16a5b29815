"""What a report keeps of attention patterns: small pictures of every head, and what is left without sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from headwise.analyses._received import MIN_ROWS
from headwise.functional.entropy import entropy_without
from headwise.functional.received import received_without
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.trace.fields import Record, at_numbers

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace

SIDE = 64
"""Pictures of patterns have at most this many rows and columns."""


@dataclass(frozen=True, eq=False)
class PatternThumbnails:
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
    """Cross-attention of a tower per example, mean over layers and heads."""


def pattern_thumbnails(
    trace: Trace,
    sinks: Mapping[Site, Bool[Tensor, "example key"]],
    *,
    longest: Mapping[str, int] | None = None,
) -> PatternThumbnails | None:
    """Make the patterns of a trace small; None where it holds none, or only chosen rows.

    Args:
        trace: a capture with `stats=True, maps=True`.
        sinks: True at the keys that are sinks, per site.
        longest: positions of the longest example per tower, where other traces are to be shown with this one.
    """
    held = {
        site: record
        for site, record in trace.records.items()
        if "maps" in record and "n_queries" in record and "row_positions" not in record
    }
    if not held:
        return None
    pixels, bins, without, received = {}, {}, {}, {}
    sums: dict[str, list[list[Tensor]]] = {}
    for site, record in held.items():
        rows, keys = _real_rows(record), _real_keys(record)
        read = key_tower(site.tower, site.kind, trace.layout.axes)
        sizes = (
            max(int(rows.sum(1).max()), (longest or {}).get(site.tower, 1)),
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
                sums.setdefault(site.tower, [[] for _ in range(len(maps))])[example].append(own.mean(0).cpu())
        pixels[site] = at_numbers(small, record, "maps", fill=0)
        if site in sinks:
            left = entropy_without(maps, sinks[site], rows=rows, keys=keys)
            without[site] = at_numbers(left, record, "maps")
            received[site] = received_without(
                maps, sinks[site], rows=rows, n_queries=record["n_queries"].detach(), min_rows=MIN_ROWS
            )
    crossing = {
        tower: tuple(torch.stack(own).mean(0) for own in examples) for tower, examples in sums.items()
    }
    return PatternThumbnails(pixels, bins, without, received, crossing)


def join_thumbnails(parts: Sequence[PatternThumbnails | None]) -> PatternThumbnails | None:
    """The examples of several parts behind one another, as far as all of them have the site; None without any.

    A smaller pattern is filled up with zeros. A site whose patterns were pooled by different factors is left out.
    """
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    bins = known[0].bins
    sites = [site for site in bins if all(one.bins.get(site) == bins[site] for one in known)]
    return PatternThumbnails(
        {site: _side_by_side([one.pixels[site] for one in known]) for site in sites},
        {site: known[0].bins[site] for site in sites},
        _joined([one.entropy_without for one in known], sites),
        _joined([one.received_without for one in known], sites),
        {
            tower: tuple(own for one in known for own in one.crossing[tower])
            for tower in known[0].crossing
            if all(tower in one.crossing for one in known)
        },
    )


def _side_by_side(pixels: Sequence[Tensor]) -> Tensor:
    height, width = (max(one.shape[axis] for one in pixels) for axis in (2, 3))
    return torch.cat([pad(one, (0, width - one.shape[3], 0, height - one.shape[2])) for one in pixels])


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
    return ~record["n_keys"].detach().isnan()


def _real_keys(record: Record) -> Bool[Tensor, "example key"]:
    return ~record["n_queries"].detach().isnan()
