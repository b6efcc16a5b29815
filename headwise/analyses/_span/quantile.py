"""How far back heads must look to see most of what they look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headwise.analyses._heads import HEAD, by_tower, extremes, heads_frame, some_heads
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.errors import CaptureError, InputError
from headwise.functional.distance import quantile_distance as within
from headwise.probes.trace.frames import statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame, quantile: float) -> str:
    return by_tower(frame, lambda part: _sentence(part, quantile))


def _sentence(frame: pd.DataFrame, quantile: float) -> str:
    low, high = extremes(frame, "reach")
    inside = frame["inside"].mean()
    least = "" if inside == 1.0 else f" or more: in {percent(1.0 - inside)} of the rows it lies farther back"
    return (
        f"{percent(quantile)} of a row lies within {frame['reach'].mean():.1f} positions on average, "
        f"from {low[1]:.1f} in {low[0]} to {high[1]:.1f} in {high[0]}{least}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="reach",
    unit="positions",
    description="Distance back within which {quantile:g} of a row's weight lies, mean over rows of self-attention; 0 "
    "looks at itself. Rows that need more than {window} keys count as {window}; `inside` is the share of the others.",
    summary=_summary,
    needs=("stats", "near"),
    sizes={"near": "window"},
    title="Quantile distance",
)
def quantile_distance(trace: Trace, quantile: float = 0.9, window: int = 64) -> pd.DataFrame:
    """Smallest distance back within which a share of each row's weight lies, mean over the rows of a head.

    Streamed: the capture keeps the weights on the nearest keys of every row. A mean distance is carried away by a sink
    that takes a tenth of a row; this is not, while the quantile leaves it out.

    Args:
        trace: a capture with `near`.
        quantile: the share, above 0 and at most 1.
        window: how far back it looks, in keys; at most what was captured as `near`.

    Returns:
        One row per example and head of self-attention: `reach` in positions, a lower bound where `inside`,
        the share of rows whose quantile lies inside of the window, is below 1.

    Raises:
        InputError: `quantile` is no share, or `window` below 1.
        CaptureError: the trace holds no `near`, or a smaller one.
    """
    if not 0.0 < quantile <= 1.0:
        raise InputError(f"quantile is above 0 and at most 1, got {quantile}.")
    if window < 1:
        raise InputError(f"window is 1 or more, got {window}.")
    parts = []
    for site, record in statistics(trace.records).items():
        if "near" not in record:
            continue
        near = record["near"].detach().float()
        if near.shape[-1] < window:
            raise CaptureError(
                f"This trace holds the weights on {near.shape[-1]} keys near each row, and the window is {window}.",
                evidence=f"{site}",
                remedy=f"Capture again with hw.capture(subject, near={window}).",
            )
        found = within(near[..., :window], record["mass"].detach().float().sum(-1), quantile=quantile)
        within_window = (found < window).float().where(~found.isnan(), torch.nan)
        columns = {"reach": found.nanmean(-1).cpu(), "inside": within_window.nanmean(-1).cpu()}
        parts.append(heads_frame(site, record, "near", columns))
    return some_heads(trace, parts, "Quantile distance")
