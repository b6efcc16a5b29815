"""How widely heads spread their attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.analyses._heads import HEAD, by_tower, extremes, head_table
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    low, high = extremes(frame, "normalised_entropy")
    return (
        f"heads use {percent(frame['normalised_entropy'].mean())} of the largest possible entropy on average "
        f"(mean {frame['entropy'].mean():.2f} nats), "
        f"from {percent(low[1])} in {low[0]} to {percent(high[1])} in {high[0]}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="normalised_entropy",
    unit="share",
    description="Row entropy divided by log(visible keys), mean over rows that see two keys or more: 0 is all "
    "weight on one key, 1 is a flat row. The column `entropy` is in nats.",
    summary=_summary,
)
def entropy(trace: Trace) -> pd.DataFrame:
    """Row entropy of every head, raw and normalised by the logarithm of the keys a row may see.

    Means over the rows of an example that see two keys or more; a row with one key has no choice to make.
    `entropy` is in nats. `normalised_entropy` is a share: 0 is a head that always looks at a single key, 1 a
    flat one.

    Args:
        trace: a capture with statistics.

    Returns:
        One row per example and head.

    Raises:
        CaptureError: when the trace holds no statistics, or no row sees two keys.
    """
    return head_table(trace, [*HEAD, "entropy", "normalised_entropy"], value="normalised_entropy")
