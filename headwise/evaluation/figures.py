"""Figures of evaluations and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwise.analyses.figures import interval_dots
from headwise.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from headwise.evaluation.comparison import Comparison
    from headwise.evaluation.estimate import Estimate
    from headwise.evaluation.evaluation import Evaluation
    from headwise.evaluation.paired import Difference
    from headwise.evaluation.search_result import Search


def estimates_figure(evaluation: Evaluation) -> go.Figure:
    """Every metric as a dot with its 95 % interval, in panels of one unit each."""
    from plotly.subplots import make_subplots

    units = list(dict.fromkeys(item.unit for item in evaluation.estimates.values()))
    figure = make_subplots(rows=1, cols=len(units), horizontal_spacing=0.18)
    for number, unit in enumerate(units, start=1):
        items = [item for item in evaluation.estimates.values() if item.unit == unit]
        dots = _dots([item.metric for item in items], items)
        figure.add_trace(dots, row=1, col=number)
        bounds = {"range": [0, 1]} if unit == "share" else {}
        figure.update_xaxes(title_text=unit, row=1, col=number, **bounds)
        figure.update_yaxes(autorange="reversed", row=1, col=number)
    count = next(iter(evaluation.estimates.values())).n
    return figure.update_layout(
        title=f"{evaluation.task}, n = {count}, 95 % intervals", template="plotly_white"
    )


def comparison_figure(comparison: Comparison, metrics: Sequence[str] = ()) -> go.Figure:
    """Differences of every arm to no fix with their 95 % intervals; a panel per metric, better to the right or left.

    Args:
        comparison: what is shown.
        metrics: the metrics to show, in this order; all where none is named.

    Raises:
        InputError: there is no such metric.
    """
    from plotly.subplots import make_subplots

    arms = comparison.arms[1:]
    known = list(arms[0].differences)
    chosen = list(metrics) or known
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(
            f"The comparison has no metric {unknown[0]!r}.", evidence=f"it has: {', '.join(known)}"
        )
    across = min(3, len(chosen))
    down = -(-len(chosen) // across)
    figure = make_subplots(rows=down, cols=across, shared_yaxes=True, subplot_titles=chosen)
    for place, name in enumerate(chosen):
        at = {"row": place // across + 1, "col": place % across + 1}
        items = [arm.differences[name] for arm in arms]
        colors = ["#1f5fa8" if item.clear else "#9a9a9a" for item in items]
        dots = _dots([arm.label for arm in arms], items, color=colors)
        figure.add_trace(dots, **at)
        figure.add_vline(x=0, line={"color": "#666666", "width": 1}, **at)
        better = {True: "better →", False: "← better", None: ""}[items[0].higher_is_better]
        figure.update_xaxes(title_text=f"{items[0].unit} {better}".strip(), **at)
        figure.update_yaxes(autorange="reversed", **at)
    return figure.update_layout(
        title=f"{comparison.task}, n = {comparison.n}: difference to no fix, 95 % intervals",
        template="plotly_white",
        height=max(320, (90 + 40 * len(arms)) * down),
    )


def _dots(names: Sequence[str], items: Sequence[Estimate | Difference], **look: Any) -> go.Scatter:
    return interval_dots(
        names,
        [item.value for item in items],
        [item.low for item in items],
        [item.high for item in items],
        **look,
    )


def search_figure(search: Search) -> go.Figure:
    """The metric of every trial against each parameter; the dashed line is no change."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    names = list(search.manifest["space"])
    values = search.frame[search.metric]
    figure = make_subplots(rows=1, cols=len(names), shared_yaxes=True)
    for number, name in enumerate(names, start=1):
        dots = Scatter(
            x=search.frame[name],
            y=values,
            mode="markers",
            marker={"color": "#1f5fa8", "size": 9},
            showlegend=False,
        )
        figure.add_trace(dots, row=1, col=number)
        figure.add_hline(y=values.iloc[0], line={"color": "#666666", "dash": "dash"}, row=1, col=number)
        figure.update_xaxes(title_text=name, row=1, col=number)
    figure.update_yaxes(title_text=f"{search.metric} (validation)", row=1, col=1)
    return figure.update_layout(
        title=f"{search.task}: settings of {search.kind}", template="plotly_white", height=360
    )
