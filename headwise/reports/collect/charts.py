"""The chart of a comparison: what every arm changes, with its interval, in one SVG without scripts."""

from __future__ import annotations

from math import ceil, floor, isfinite
from typing import TYPE_CHECKING

from headwise.figures.intervals import Interval, Panel
from headwise.reports.content.formatting import round_up

if TYPE_CHECKING:
    from headwise.evaluation.results.comparison import Comparison

BETTER = {True: ", better →", False: ", ← better", None: ""}


def difference_chart(comparison: Comparison, metric: str) -> Panel:
    """Differences of every arm to no fix in one metric, with 95 % intervals; shares in percentage points."""
    changes = [(arm.label, arm.differences[metric]) for arm in comparison.arms[1:]]
    first = changes[0][1]
    scale, unit = (100.0, "percentage points") if first.unit == "share" else (1.0, first.unit)
    intervals = [
        Interval(name, scale * item.value, scale * item.low, scale * item.high, item.significant)
        for name, item in changes
    ]
    return Panel(f"{metric}: difference", f"{unit}{BETTER[first.higher_is_better]}", intervals)


def round_ticks(panel: Panel) -> list[float]:
    """Round numbers from one end of the axis to the other, zero among them.

    Example:
        >>> round_ticks(Panel("", "", [Interval("fix", 10.0, -3.0, 21.0)]))
        [-6.0, 0.0, 6.0, 12.0, 18.0, 24.0]
    """
    ends = [
        0.0,
        *(end for item in panel.intervals for end in (item.value, item.low, item.high) if isfinite(end)),
    ]
    step = round_up(max(ends) / 4 - min(ends) / 4) or 1.0
    first = floor(min(ends) / step)
    last = max(ceil(max(ends) / step), first + 1)
    return [round(step * number, 12) for number in range(first, last + 1)]
