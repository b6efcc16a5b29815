"""What the page shows of every head: top keys, spread of its rows, received attention, pictures of its pattern."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from headwise.analyses import sinks
from headwise.errors import CaptureError
from headwise.functional.entropy import normalised_entropy
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.trace.fields import Record, at_numbers
from headwise.probes.trace.frames import key_axis, labels, statistics
from headwise.reports.collect.maps import layer_label
from headwise.reports.collect.shares import KeyShares, by_tower
from headwise.reports.content.content import Cells, Group, HeadMap, OwnPattern, TopKey
from headwise.reports.content.formatting import group_key

if TYPE_CHECKING:
    from headwise.analyses import Result
    from headwise.probes.trace.trace import Trace
    from headwise.reports.collect.patterns import PatternThumbnails

BINS, TOP = 10, 5
MOST_KEYS, MOST_EXAMPLES = 1024, 16
EVERY_PATTERN = 3_000_000
"""Bytes up to which the patterns of every head on every example are kept; above it, those of singled-out heads."""
EVERY_RECEIVED = 1_500_000
MIN_SHARE = 0.1
"""A key counts as a sink of a whole tower when this share of the heads has it as one (ours)."""


def sinks_of(trace: Trace) -> Result | None:
    """The sinks of a trace; None where it is too short to say."""
    try:
        return sinks(trace)
    except CaptureError:
        return None


def sink_keys(trace: Trace, found: Result | None) -> dict[Site, Bool[Tensor, "example key"]]:
    """True at the keys that a tenth of the heads of a tower or more have as a sink, per site of the tower."""
    masks = {}
    for site, record in statistics(trace.records).items():
        keys = torch.zeros(record["n_queries"].shape, dtype=torch.bool)
        if found is not None:
            frame = found.frame
            own = frame[
                (frame["tower"] == site.tower) & (frame["kind"] == site.kind) & (frame["share"] >= MIN_SHARE)
            ]
            for example, position in zip(own["example"], own["position"], strict=True):
                if example < len(keys) and position < keys.shape[1]:
                    keys[example, position] = True
        masks[site] = keys
    return masks


def groups_of(
    trace: Trace, shares: KeyShares, thumbnails: PatternThumbnails | None, metrics: Sequence[HeadMap]
) -> tuple[Group, ...]:
    """Every tower and kind of the trace with what is shown of its heads."""
    return tuple(
        _group(trace, tower, kind, {site: shares[site] for site in sites}, thumbnails, metrics)
        for (tower, kind), sites in by_tower(shares).items()
    )


def partly_drawn(trace: Trace, thumbnails: PatternThumbnails | None) -> list[str]:
    """What is said where patterns were kept of some layers only: the page draws those of all layers or none."""
    pixels = thumbnails.pixels if thumbnails is not None else {}
    grouped = by_tower(statistics(trace.records)) if pixels else {}
    return [
        f"Patterns of {tower} {kind} attention were kept of {drawn} of {len(sites)} layers and are not drawn; "
        f'capture the same layers of both, as with sites="{tower} {kind} …".'
        for (tower, kind), sites in grouped.items()
        if 0 < (drawn := sum(site in pixels for site in sites)) < len(sites)
    ]


def _group(
    trace: Trace,
    tower: str,
    kind: str,
    received: KeyShares,
    thumbnails: PatternThumbnails | None,
    metrics: Sequence[HeadMap],
) -> Group:
    key = group_key(tower, kind)
    sites = list(received)
    shares = [share[:MOST_EXAMPLES] for share in received.values()]
    drawn = thumbnails is not None and all(site in thumbnails.pixels for site in sites)
    pictures = (
        [thumbnails.pixels[site][:MOST_EXAMPLES].numpy() for site in sites] if thumbnails and drawn else []
    )
    heads = max(block.shape[1] for block in (*shares, *pictures))
    chosen = singled_out(key, metrics)
    codes = _stacked([_coded(share) for share in shares], heads, fill=255)
    patterns, own, bins = None, (), (1, 1)
    if thumbnails is not None and pictures:
        pixels = _filled(_stacked(pictures, heads, fill=0), square=kind == "self")
        patterns, bins = pixels.max(0), thumbnails.bins[sites[0]]
        own = tuple(_own(pixels, chosen))
    if codes.size > EVERY_RECEIVED:
        codes = _only(codes, chosen)
    return Group(
        key=key,
        label=f"{tower} · {kind}",
        layers=tuple(layer_label(site.layer, site.call) for site in sites),
        heads=heads,
        rows=tower,
        columns=key_tower(tower, kind, trace.layout.axes),
        patterns=patterns,
        bins=bins,
        histogram=_stacked([_histogram(trace.records[site])[None] for site in sites], heads, fill=0)[0],
        top=tuple(_top(trace, site, share) for site, share in zip(sites, shares, strict=True)),
        received=codes,
        own=own,
    )


def singled_out(group: str, metrics: Iterable[HeadMap]) -> tuple[tuple[int, int], ...]:
    """(row of the map, head) of the heads that stand at an end of a metric, or that the fix changes most."""
    chosen: dict[tuple[int, int], None] = {}
    for metric in metrics:
        for panel in metric.panels:
            if panel.group != group:
                continue
            grids = [panel.cells, panel.after, _changes(panel.cells, panel.after)]
            for grid in filter(None, grids):
                known = [
                    (v, (i, j)) for i, row in enumerate(grid) for j, v in enumerate(row) if v is not None
                ]
                chosen |= dict.fromkeys((max(known)[1], min(known)[1])) if known else {}
    return tuple(chosen)


def _changes(before: Cells, after: Cells | None) -> Cells | None:
    if after is None:
        return None
    return tuple(
        tuple(None if a is None or b is None else abs(b - a) for a, b in zip(old, new, strict=True))
        for old, new in zip(before, after, strict=True)
    )


def _filled(pixels: np.ndarray, *, square: bool) -> np.ndarray:
    """Without the rows that no example has: room for tokens that were not generated. Every row has a weight."""
    rows = int(np.flatnonzero(pixels.any((0, 1, 2, 4))).max(initial=0)) + 1
    return pixels[..., :rows, :rows] if square else pixels[..., :rows, :]


def _own(pixels: np.ndarray, chosen: Sequence[tuple[int, int]]) -> Iterable[OwnPattern]:
    examples, layers, heads = pixels.shape[:3]
    if examples == 1:  # the pattern over all examples is that of the only one
        return
    every = pixels.size <= EVERY_PATTERN
    wanted = [(i, j) for i in range(layers) for j in range(heads)] if every else chosen
    for layer, head in wanted:
        for example in range(examples):
            yield OwnPattern(example, layer, head, pixels[example, layer, head])


def _only(received: np.ndarray, chosen: Sequence[tuple[int, int]]) -> np.ndarray:
    """The codes of the chosen heads; 255 everywhere else."""
    kept = np.full_like(received, 255)
    for layer, head in chosen:
        kept[:, layer, head] = received[:, layer, head]
    return kept


def _coded(shares: Tensor) -> np.ndarray:
    """Shares as 254 √share in a byte, 255 for what is not known."""
    codes = (254.0 * shares.clamp(0, 1).sqrt()).round()
    return codes.nan_to_num(255).to(torch.uint8).numpy()[..., :MOST_KEYS]


def _stacked(blocks: Sequence[np.ndarray], heads: int, *, fill: int) -> np.ndarray:
    """(example, head, …) of every layer as (example, layer, head, …); what a layer does not have is `fill`."""
    shape = [max(block.shape[axis] for block in blocks) for axis in range(blocks[0].ndim)]
    out = np.full((shape[0], len(blocks), heads, *shape[2:]), fill, dtype=blocks[0].dtype)
    for layer, block in enumerate(blocks):
        place = tuple(slice(size) for size in block.shape)
        out[(place[0], layer, *place[1:])] = block
    return out


def _histogram(record: Record) -> np.ndarray:
    """(head, bin): rows by normalised entropy; rows that see fewer than two keys do not count."""
    n_keys = record["n_keys"].detach().float()
    entropy = normalised_entropy(record["entropy"].detach().float(), n_keys=n_keys)
    bins = (entropy * BINS).floor().clamp(0, BINS - 1)
    counts = torch.stack([(bins == number).sum((0, 2)) for number in range(BINS)], -1).to(torch.int32)
    return at_numbers(counts[None].cpu(), record, "entropy", fill=0)[0].numpy()


def _top(trace: Trace, site: Site, shares: Tensor) -> tuple[tuple[TopKey, ...], ...]:
    """The keys with the largest mean received attention of every head, over all examples."""
    texts, roles = labels(key_axis(trace.layout, site), len(shares), shares.shape[2])
    flat = shares.transpose(0, 1).flatten(1)
    best = flat.nan_to_num(-1).topk(min(TOP, flat.shape[1]), dim=1)
    rows = []
    for values, places in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        found = []
        for share, place in zip(values, places, strict=True):
            example, position = divmod(place, shares.shape[2])
            if share > 0:
                text = texts[example, position] or roles[example, position] or ""
                found.append(TopKey(example, position, str(text), share))
        rows.append(tuple(found))
    return tuple(rows)
