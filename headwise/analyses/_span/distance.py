"""How far heads look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.analyses._heads import HEAD, by_tower, extremes, some_heads
from headwise.analyses.record import analysis

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    low, high = extremes(frame, "distance")
    return (
        f"heads look {frame['distance'].mean():.1f} positions away on average, "
        f"from {low[1]:.1f} in {low[0]} to {high[1]:.1f} in {high[0]}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="distance",
    unit="positions",
    description="Mean of |i − j| under the attention weights, over valid rows of self-attention; 0 looks at itself. "
    "The column `relative_distance` is its share of visible keys − 1.",
    summary=_summary,
)
def distance(trace: Trace) -> pd.DataFrame:
    """Mean attention distance |i − j| of every head of self-attention.

    `distance` is in positions, over all valid rows. `relative_distance` divides every row by its visible keys
    − 1 and leaves out rows that see one key: 0 looks at itself, and in causal attention 0.5 is a flat head
    and 1 looks at the first key. In bidirectional attention the divisor is the length − 1 for every row, so a
    flat head gives about one third.

    Args:
        trace: a capture with statistics.

    Returns:
        One row per example and head. Cross-attention is left out: its queries and keys lie on different axes.

    Raises:
        CaptureError: when the trace holds no statistics, or no self-attention.
    """
    frame = trace.to_frame("head")[[*HEAD, "distance", "relative_distance"]]
    return some_heads(trace, [frame.dropna(subset="distance")], "Distance")
