"""Figures of evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from headwise.evaluation.evaluation import Evaluation


def estimates_figure(evaluation: Evaluation) -> go.Figure:
    """Every metric as a dot with its 95 % interval, in panels of one unit each."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    units = list(dict.fromkeys(item.unit for item in evaluation.estimates.values()))
    figure = make_subplots(rows=1, cols=len(units), horizontal_spacing=0.18)
    for number, unit in enumerate(units, start=1):
        items = [item for item in evaluation.estimates.values() if item.unit == unit]
        spread = {
            "type": "data",
            "array": [item.high - item.value for item in items],
            "arrayminus": [item.value - item.low for item in items],
        }
        dots = Scatter(
            x=[item.value for item in items],
            y=[item.metric for item in items],
            error_x=spread,
            mode="markers",
            marker={"color": "#1f5fa8", "size": 9},
            showlegend=False,
        )
        figure.add_trace(dots, row=1, col=number)
        bounds = {"range": [0, 1]} if unit == "share" else {}
        figure.update_xaxes(title_text=unit, row=1, col=number, **bounds)
        figure.update_yaxes(autorange="reversed", row=1, col=number)
    count = next(iter(evaluation.estimates.values())).n
    return figure.update_layout(
        title=f"{evaluation.task}, n = {count}, 95 % intervals", template="plotly_white"
    )
