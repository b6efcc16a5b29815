"""Scores of attention patterns, each beside what a flat pattern would have."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float
from torch import Tensor

from headwise.analyses._heads import HEAD
from headwise.analyses._kinds.targets import TYPES, targets_of
from headwise.errors import CaptureError
from headwise.functional.head_types import mass_on
from headwise.probes.trace.frames import key_axis, labels, site_columns

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace

COLUMNS = (*HEAD, "type", "score", "baseline", "rows")


def pattern_scores(trace: Trace, types: Collection[str] = tuple(TYPES)) -> pd.DataFrame:
    """A row for every example, head and type that the input has keys for, see `COLUMNS`.

    Raises:
        CaptureError: it has none.
    """
    from pandas import DataFrame, concat

    parts = [
        DataFrame(part)
        for site in trace.maps
        for example in range(len(trace.maps[site]))
        for part in _of_example(trace, site, example, types)
    ]
    if not parts:
        raise CaptureError(
            "No type of head has keys to look at in this trace.",
            evidence=f"{len(trace.maps)} sites with patterns",
            remedy="Capture a longer input.",
        )
    return concat(parts, ignore_index=True)


def _of_example(trace: Trace, site: Site, example: int, types: Collection[str]) -> list[dict[str, Any]]:
    pattern = trace.maps[site][example].detach().cpu()
    rows = trace.positions[site].cpu().numpy()
    tokens, roles = (found[example] for found in labels(key_axis(trace.layout, site), *_size(trace, site)))
    real = ~pattern.isnan().any(-1).any(0)
    pattern, rows = pattern[:, real], rows[real.numpy()]
    if not len(rows):
        return []
    visible = _visible(pattern)
    found = targets_of(tokens, roles, rows=rows, visible=visible, cross=site.kind == "cross")
    flat = visible / visible.sum(-1, keepdim=True)
    return [
        {
            "example": example,
            **site_columns(site),
            "head": trace.head_numbers(site),
            "type": name,
            "score": mass_on(pattern, target).numpy(),
            "baseline": float(mass_on(flat, target)),
            "rows": int(target.any(-1).sum()),
        }
        for name, target in found.items()
        if name in types
    ]


def _size(trace: Trace, site: Site) -> tuple[int, int]:
    return trace.maps[site].shape[0], trace.maps[site].shape[3]


def _visible(pattern: Float[Tensor, "head query key"]) -> Bool[Tensor, "query key"]:
    """Keys that rows may see: those that some head of the site gives weight."""
    return (pattern > 0).any(0)
