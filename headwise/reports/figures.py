"""Figures as plotly JSON: plain dictionaries, drawn by the script of the page."""

from __future__ import annotations

from typing import Any

from headwise.reports.content import Metric, Panel

COLOURS = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)
"""Cividis in ten steps: lightness rises evenly and is read the same with any colour vision."""

ROW_PIXELS, MARGIN_PIXELS = 24, 62
LOWEST_MAP, HIGHEST_MAP = 130, 640


def head_map(panel: Panel, metric: Metric) -> dict[str, Any]:
    """The heatmap of one panel, coloured on the scale of its metric.

    Returns:
        `data` and `layout` for `Plotly.react`. Missing values are None and stay blank. No text from the
        input appears in it.
    """
    low, high = metric.scale
    heads = max((len(row) for row in panel.cells), default=0)
    gap = 1 if max(heads, len(panel.layers)) <= 48 else 0
    last = len(COLOURS) - 1
    across = panel.across.split()[0]
    shown = ".1%" if metric.form == "share" else ".3~g"
    heat = {
        "type": "heatmap",
        "z": [[_rounded(value) for value in row] for row in panel.cells],
        "y": list(panel.layers),
        "zmin": low,
        "zmax": high,
        "colorscale": [[round(step / last, 4), colour] for step, colour in enumerate(COLOURS)],
        "showscale": False,
        "xgap": gap,
        "ygap": gap,
        "hoverongaps": False,
        "hovertemplate": f"layer %{{y}}, {across} %{{x}}<br><b>%{{z:{shown}}}</b><extra></extra>",
    }
    height = min(max(MARGIN_PIXELS + ROW_PIXELS * len(panel.layers), LOWEST_MAP), HIGHEST_MAP)
    layout = {
        "height": height,
        "margin": {"l": 46, "r": 4, "t": 4, "b": 42},
        "xaxis": {
            "title": {"text": panel.across},
            "dtick": _tick_step(heads),
            "fixedrange": True,
            "showgrid": False,
        },
        "yaxis": {
            "title": {"text": "layer"},
            "type": "category",
            "autorange": "reversed",
            "dtick": _tick_step(len(panel.layers)),
            "fixedrange": True,
            "showgrid": False,
        },
    }
    return {"data": [heat], "layout": layout}


def gradient() -> str:
    """The colour scale as a CSS gradient, low to high."""
    return f"linear-gradient(to right, {', '.join(COLOURS)})"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _tick_step(count: int) -> int:
    return next(
        step for step in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if count <= 16 * step or step == 1024
    )
