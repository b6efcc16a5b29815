"""Figures of evaluations, comparisons and searches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.figures.colours import CATEGORIES, CLEAR
from headwise.figures.intervals import Interval, Panel, interval_figure
from headwise.figures.labels import counted, label, model_name, said
from headwise.figures.template import GREY, ONE_COLUMN, TWO_COLUMNS, sheet

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from headwise.evaluation.statistics.estimate import Estimate
    from headwise.evaluation.statistics.paired import Difference

_BETTER = {True: ", better →", False: ", ← better", None: ""}


def estimates_figure(task: str, items: Sequence[Estimate], manifest: Mapping[str, Any]) -> go.Figure:
    """Every metric as a dot with its 95 % interval, in panels of one unit each."""
    panels = []
    for unit in dict.fromkeys(item.unit for item in items):
        intervals = [_interval(item.metric, item) for item in items if item.unit == unit]
        panels.append(Panel("", unit, intervals, bounds=(0.0, 1.0) if unit == "share" else None))
    counts = {item.n for item in items}
    n = f"n = {min(counts):,}" if len(counts) == 1 else f"n = {min(counts):,} to {max(counts):,}"
    subtitle = ", ".join(filter(None, (model_name(manifest), n, "95 % intervals")))
    return interval_figure(panels, title=task, subtitle=subtitle)


def comparison_figure(
    task: str,
    arms: Mapping[str, Mapping[str, Difference]],
    manifest: Mapping[str, Any],
    *,
    n: int,
    metrics: Sequence[str] = (),
) -> go.Figure:
    """Differences of every arm to no fix with their 95 % intervals; a panel per metric, better to the right or left.

    Args:
        task: the title.
        arms: label -> metric -> difference to no fix.
        manifest: says the model.
        n: examples per arm.
        metrics: the metrics to show, in this order; all where none is named.

    Raises:
        InputError: there is no such metric.
    """
    known = list(next(iter(arms.values())))
    chosen = list(metrics) or known
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(
            f"The comparison has no metric {unknown[0]!r}.", evidence=f"it has: {', '.join(known)}"
        )
    panels = []
    for name in chosen:
        found = [(arm, differences[name]) for arm, differences in arms.items()]
        unit = f"{found[0][1].unit}{_BETTER[found[0][1].higher_is_better]}"
        panels.append(Panel(name, unit, [_interval(arm, item, item.significant) for arm, item in found]))
    facts = [
        model_name(manifest),
        f"n = {n:,}",
        "difference to no fix with 95 % interval",
    ]
    note = "; hollow: p (Holm) is 0.05 or more, or unknown"
    return interval_figure(
        panels,
        title=task,
        subtitle=", ".join(filter(None, facts)) + note,
        columns=min(3, len(chosen)),
        zero=True,
    )


def search_figure(
    frame: pd.DataFrame, manifest: Mapping[str, Any], *, metric: str, title: str, unit: str, best: int | None
) -> go.Figure:
    """The metric of every trial against each parameter; the dashed line is no change, the ring the best setting."""
    from plotly.graph_objects import Scatter

    names = list(manifest["space"])
    columns = min(3, len(names))
    values = frame[metric]
    n = len(manifest["validation_ids"])
    marks = "dashed: no change" if best is None else "dashed: no change; orange: the best setting"
    figure = sheet(
        [""] * len(names),
        title=title,
        subtitle=f"{counted(len(values), 'trial')}, n = {n:,} validation examples; {marks}",
        heights=[220] * -(-len(names) // columns),
        columns=columns,
        width=ONE_COLUMN if columns == 1 else TWO_COLUMNS,
        left=66,
        shared_yaxes=True,
    )
    for place, name in enumerate(names):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        figure.add_trace(
            Scatter(
                x=frame[name],
                y=values,
                mode="markers",
                marker={
                    "color": [CATEGORIES[5] if trial == best else CLEAR for trial in range(len(values))],
                    "size": [12 if trial == best else 8 for trial in range(len(values))],
                    "line": {"color": "#ffffff", "width": 1},
                },
                hovertemplate=f"{label(name)} %{{x:.4g}}: %{{y:.4f}}<extra></extra>",
                showlegend=False,
            ),
            **at,
        )
        if isfinite(values.iloc[0]):
            figure.add_hline(y=values.iloc[0], line={"color": GREY, "width": 1.5, "dash": "dash"}, **at)
        span = _padded(manifest["space"][name])
        figure.update_xaxes(title_text=label(said(name)), nticks=6, range=span, **at)
        name_of_axis = label(f"{metric} ({unit}validation)") if at["col"] == 1 else None
        figure.update_yaxes(title_text=name_of_axis, range=_padded(values), **at)
    return figure


def _interval(name: str, item: Estimate | Difference, clear: bool = True) -> Interval:
    return Interval(name, item.value, item.low, item.high, clear)


def _padded(values: Iterable[float]) -> tuple[float, float]:
    """The range of an axis that shows all values, with some room."""
    known = [value for value in values if isfinite(value)] or [0.0, 1.0]
    room = 0.06 * (max(known) - min(known)) or 0.05
    return min(known) - room, max(known) + room
