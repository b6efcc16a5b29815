"""How much of a row its largest weights hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headwise.analyses._heads import HEAD, by_tower, extremes, heads_frame
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.errors import CaptureError
from headwise.probes.trace.frames import statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame, k: int) -> str:
    return by_tower(frame, lambda part: _sentence(part, k))


def _sentence(frame: pd.DataFrame, k: int) -> str:
    low, high = extremes(frame, "top_mass")
    keys = "the largest weight holds" if k == 1 else f"the {k} largest weights hold"
    return (
        f"{keys} {percent(frame['top_mass'].mean())} of a row on average, "
        f"from {percent(low[1])} in {low[0]} to {percent(high[1])} in {high[0]}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="top_mass",
    unit="share",
    description="Sum of the {k} largest weights of a row, mean over rows that see more than {k} keys: 1 is all "
    "weight on {k} keys.",
    summary=_summary,
    needs=("stats", "top"),
    sizes={"top": "k"},
    title="Top-k mass",
)
def top_mass(trace: Trace, k: int = 5) -> pd.DataFrame:
    """Sum of the k largest weights of every row, mean over the rows of a head.

    M_k of "Attention-Challenging Multiple Instance Learning" (ACMIL); rows that see k keys or fewer are left out, since
    theirs is 1 whatever the head does (ours).

    Args:
        trace: a capture with `top`.
        k: how many weights; one of the sizes that were captured.

    Returns:
        One row per example and head: `top_mass`, k / n for a flat row of n keys to 1, and `flat`, the mean of k / n
        over the same rows.

    Raises:
        CaptureError: the trace holds no sums of largest weights, or not of this k, or no row sees more than k keys.
    """
    from pandas import concat

    parts = []
    for site, record in statistics(trace.records).items():
        if "top" not in record:
            continue
        sizes = record["top_sizes"].tolist()
        if k not in sizes:
            raise CaptureError(
                f"This trace holds no sums of the {k} largest weights.",
                evidence=f"captured: {', '.join(map(str, sizes))}",
                remedy=f"Capture again with hw.capture(subject, top=[{k}]).",
            )
        n_keys = record["n_keys"].detach().float()[:, None]
        counted = (n_keys > k).expand(record["top"].shape[:3])
        sums = record["top"].detach().float()[..., sizes.index(k)].where(counted, torch.nan).nanmean(-1)
        flat = (k / n_keys).expand_as(counted).where(counted, torch.nan).nanmean(-1)
        parts.append(heads_frame(site, record, "top", {"top_mass": sums.cpu(), "flat": flat.cpu()}))
    parts = [part for part in parts if len(part)]
    if not parts:
        raise CaptureError(
            f"No row of this trace sees more than {k} keys.",
            evidence=f"k = {k}",
            remedy="Capture a longer input, or ask for fewer.",
        )
    return concat(parts, ignore_index=True)
