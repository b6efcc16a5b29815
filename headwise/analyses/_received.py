"""Received attention of every key, aligned on the first real key of each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.errors import CaptureError
from headwise.probes.attach.sites import Site
from headwise.probes.trace.frames import key_axis, labels, statistics

if TYPE_CHECKING:
    from headwise.probes.trace.fields import Record
    from headwise.probes.trace.trace import Trace

MIN_ROWS = 4
"""Rows that must see a key before its mean received attention counts (ours)."""


@dataclass(frozen=True)
class Received:
    """Mean received attention of one tower and kind; offset 0 is the first real key of an example.

    Heads of all layers stand side by side. NaN where an example, a layer or a key does not exist.
    """

    tower: str
    kind: str
    sites: tuple[Site, ...]
    alpha: Float[Tensor, "example head offset"]
    rows: Float[Tensor, "example head offset"]
    """Number of rows that may see the key."""
    layers: Int[Tensor, " head"]
    first: Int[Tensor, " example"]
    """Position of the first real key."""

    @property
    def name(self) -> str:
        return f"{self.tower} {self.kind}"

    @property
    def unknown(self) -> bool:
        """True when there are rows, and what they give is NaN throughout."""
        return bool((self.rows > 0).any()) and bool(self.alpha.isnan().all())

    def per_layer(self, values: Float[Tensor, "example head offset"]) -> dict[int, Tensor]:
        """The heads of every layer, (example, head, offset)."""
        return {int(layer): values[:, self.layers == layer] for layer in self.layers.unique()}


def received(trace: Trace) -> list[Received]:
    """Mean received attention of every tower and kind of a trace.

    Raises:
        CaptureError: when the trace holds no statistics.
    """
    groups: dict[tuple[str, str], list[Site]] = {}
    records = statistics(trace.records)
    for site in records:
        groups.setdefault((site.tower, site.kind), []).append(site)
    joined = []
    for (tower, kind), sites in groups.items():
        parts = [_aligned(records[site]["received"], records[site]["n_queries"]) for site in sites]
        joined.append(
            Received(
                tower=tower,
                kind=kind,
                sites=tuple(sites),
                alpha=side_by_side([alpha for alpha, _, _ in parts]),
                rows=side_by_side([rows for _, rows, _ in parts]),
                layers=torch.cat(
                    [
                        torch.full((part[0].shape[1],), site.layer)
                        for site, part in zip(sites, parts, strict=True)
                    ]
                ),
                first=max((first for _, _, first in parts), key=len),
            )
        )
    return joined


def with_rows(groups: Sequence[Received], min_rows: int) -> list[Received]:
    """The groups without the keys that fewer rows may see.

    Raises:
        CaptureError: that leaves nothing.
    """
    kept = [replace(g, alpha=g.alpha.where(g.rows >= min_rows, torch.nan)) for g in groups]
    kept = [group for group in kept if not group.alpha.isnan().all()]
    if not kept:
        most = max(int(group.rows.nan_to_num(0).max()) for group in groups)
        check_known(groups)
        raise CaptureError(
            f"No key was seen by {min_rows} rows.",
            evidence=f"the most is {most}",
            remedy="Capture a longer input, or lower min_rows.",
        )
    return kept


def share_to_logits(record: Record) -> Float[Tensor, "example head"]:
    """Share of a head's attention that goes to no key, mean over rows: to a sink logit, where the model has them."""
    return (1.0 - record["mass"].detach().float().sum(-1).nanmean(-1).cpu()).clamp_min(0.0)


def labels_of(group: Received, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Text and role of every key, (example, position)."""
    return labels(key_axis(trace.layout, group.sites[0]), len(group.first), group.alpha.shape[2])


def check_known(groups: Sequence[Received]) -> None:
    """Refuses attention that is NaN throughout.

    Raises:
        CaptureError: it is.
    """
    if groups and all(group.unknown for group in groups):
        raise CaptureError(
            "The attention of this trace is NaN throughout.",
            evidence=", ".join(group.name for group in groups),
            remedy="See trace.warnings for the site where it begins; run the model in bfloat16 or float32.",
        )


def _aligned(received: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """α and row counts, both (example, head, offset), and the first real key of every example."""
    received, seen = received.detach().float().cpu(), seen.detach().float().cpu()
    keys = seen.shape[1]
    first = (~seen.isnan()).int().argmax(1)
    columns = first[:, None] + torch.arange(keys)
    seen = seen.gather(1, columns.clamp(max=keys - 1)).where(columns < keys, torch.nan)
    rows = seen.where(seen > 0, torch.nan)[:, None].expand(received.shape)
    index = columns.clamp(max=keys - 1)[:, None].expand(received.shape)
    return received.gather(2, index) / rows, rows, first


def side_by_side(blocks: Sequence[Tensor]) -> Tensor:
    """Concatenate along heads; shorter example and offset axes are filled with NaN."""
    examples = max(block.shape[0] for block in blocks)
    width = max(block.shape[2] for block in blocks)
    joined = torch.full((examples, sum(block.shape[1] for block in blocks), width), torch.nan)
    start = 0
    for block in blocks:
        joined[: block.shape[0], start : start + block.shape[1], : block.shape[2]] = block
        start += block.shape[1]
    return joined
