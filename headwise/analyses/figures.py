"""Figures of results: heat maps on one shared scale, and bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from headwise.analyses.result import Result

_RANGES = {"share": (0.0, 1.0), "percent": (0.0, 100.0)}
"""Units with a natural range; others run from 0 to their largest value."""


def figure_of(result: Result) -> go.Figure:
    """The figure behind `Result.plot`."""
    if "arm" in result.frame:
        return _arms(result)
    return _maps(result) if "layer" in result.frame else _bars(result)


def interval_dots(
    names: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    color: str | Sequence[str] = "#1f5fa8",
    hover: str | None = None,
) -> go.Scatter:
    """One dot per name, with its interval."""
    import plotly.graph_objects as go

    spread = {
        "type": "data",
        "array": [high - value for high, value in zip(highs, values, strict=True)],
        "arrayminus": [value - low for low, value in zip(lows, values, strict=True)],
    }
    return go.Scatter(
        x=list(values),
        y=list(names),
        error_x=spread,
        mode="markers",
        marker={"color": color, "size": 9},
        hovertemplate=hover,
        showlegend=False,
    )


def _arms(result: Result) -> go.Figure:
    """Differences of arms to the one without a fix, with intervals: one panel per metric, each on its own scale."""
    from plotly.subplots import make_subplots

    frame = result.frame.dropna(subset=[result.value])
    metrics = list(frame["metric"].unique())
    fig = make_subplots(rows=len(metrics), cols=1, subplot_titles=[escape(name) for name in metrics])
    for row, metric in enumerate(metrics, start=1):
        part = frame[frame["metric"] == metric]
        value, low, high = (part[f"{result.value}{end}"] for end in ("", "_low", "_high"))
        hover = f"%{{y}}: %{{x:+.4f}} {escape(str(part['unit'].iloc[0]))}<extra></extra>"
        names = [escape(str(arm)) for arm in part["arm"]]
        dots = interval_dots(names, list(value), list(low), list(high), hover=hover)
        fig.add_trace(dots, row=row, col=1)
        fig.add_vline(x=0, line_dash="dot", row=row, col=1)
    return fig.update_layout(
        title=escape(result.name), template="plotly_white", height=120 + 160 * len(metrics)
    )


def _maps(result: Result) -> go.Figure:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    across = "head" if "head" in result.frame else "offset"
    frame = result.mean() if across == "head" else result.frame
    unit = escape(result.unit)
    panels = list(frame.groupby(list(frame.select_dtypes(exclude="number")), sort=False))
    titles = [escape(" ".join(map(str, names))) for names, _ in panels]
    wide = min(len(panels), 3)
    tall = -(-len(panels) // wide)
    fig = make_subplots(rows=tall, cols=wide, subplot_titles=titles)
    for number, (_, part) in enumerate(panels):
        grid = _grid(part, across, result.value)
        fig.add_trace(
            go.Heatmap(
                z=grid.to_numpy(),
                x=list(grid.columns),
                y=list(grid.index),
                coloraxis="coloraxis",
                hovertemplate=f"layer %{{y}}, {across} %{{x}}: %{{z:.3f}} {unit}<extra></extra>",
            ),
            row=number // wide + 1,
            col=number % wide + 1,
        )
    low, high = _RANGES.get(result.unit, (0.0, float(frame[result.value].max())))
    fig.update_xaxes(title_text="head" if across == "head" else "position from the first key")
    fig.update_yaxes(title_text="layer", autorange="reversed", type="category")
    return fig.update_layout(
        title=escape(result.name.replace("_", " ")),
        template="plotly_white",
        height=120 + 280 * tall,
        coloraxis={
            "colorscale": "Viridis",
            "cmin": low,
            "cmax": high,
            "colorbar": {
                "title": {
                    "text": escape(f"{result.value.replace('_', ' ')} ({result.unit})"),
                    "side": "right",
                }
            },
        },
    )


def _grid(part: pd.DataFrame, across: str, value: str) -> pd.DataFrame:
    """Layers down, heads or positions across; every call of a layer has a row of its own."""
    layer = part["layer"].astype(str)
    if "call" in part and part["call"].any():
        layer = layer + "." + part["call"].astype(str)
    return part.assign(layer=layer).pivot_table(
        index="layer", columns=across, values=value, sort=False, dropna=False
    )


def _bars(result: Result) -> go.Figure:
    import plotly.graph_objects as go

    fig = go.Figure()
    for names, part in result.frame.groupby(["example", "stack", "kind"]):
        example, stack, kind = names
        part = part.head(20)
        text = [escape(token if isinstance(token, str) else "") for token in part["token"]]
        fig.add_bar(
            x=part[result.value],
            y=[f"{position} {token}" for position, token in zip(part["position"], text, strict=True)],
            orientation="h",
            name=escape(f"{stack} {kind}, example {example}"),
            hovertemplate=f"%{{y}}: %{{x:.3f}} {escape(result.unit)}<extra></extra>",
        )
    low, high = _RANGES[result.unit]
    return fig.update_layout(
        title=escape(result.name.replace("_", " ")),
        template="plotly_white",
        colorway=("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
        barmode="group",
        xaxis={"title": escape(f"{result.value.replace('_', ' ')} ({result.unit})"), "range": [low, high]},
        yaxis={"title": "position and token", "autorange": "reversed", "type": "category"},
    )
