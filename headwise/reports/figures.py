"""Figures as plotly JSON: plain dictionaries, drawn by the script of the page in the colours of its theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.figures.colours import CLEAR, UNCLEAR
from headwise.figures.labels import label

if TYPE_CHECKING:
    from headwise.evaluation.results.comparison import Comparison


def difference_chart(comparison: Comparison, metric: str) -> dict[str, Any]:
    """Differences of every arm to no fix in one metric, with 95 % intervals.

    Returns:
        `data` and `layout` for `Plotly.react`. Labels are escaped for plotly, which reads tags in text.
    """
    arms = comparison.arms[1:]
    changes = [arm.differences[metric] for arm in arms]
    share = changes[0].unit == "share"
    scale = 100.0 if share else 1.0
    better = {True: ", better →", False: ", ← better", None: ""}[changes[0].higher_is_better]
    unit = "percentage points" if share else changes[0].unit
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [_rounded(scale * item.value) for item in changes],
        "y": [label(arm.label) for arm in arms],
        "error_x": {
            "type": "data",
            "array": [_rounded(scale * (item.high - item.value)) for item in changes],
            "arrayminus": [_rounded(scale * (item.value - item.low)) for item in changes],
            "color": UNCLEAR,
        },
        "marker": {"size": 10, "color": [CLEAR if item.clear else UNCLEAR for item in changes]},
        "hovertemplate": "%{y}: %{x:+.3~g}<extra></extra>",
    }
    layout = {
        "height": 116 + 44 * len(arms),
        "margin": {"l": 8, "r": 12, "t": 8, "b": 64},
        "showlegend": False,
        "xaxis": {
            "title": {
                "text": f"{label(f'{metric}: difference', limit=80)}<br>{label(f'{unit}{better}', limit=80)}",
                "font": {"size": 13},
            },
            "zeroline": True,
            "fixedrange": True,
        },
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category", "fixedrange": True},
    }
    return {"data": [dots], "layout": layout}


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if value == value else None
