"""The largest values as bars: positions, and rows that are named in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwise.figures import svg
from headwise.figures.chart import EXAMPLE, Chart, layer_names
from headwise.figures.labels import label, said
from headwise.figures.template import TWO_COLUMNS, sheet
from headwise.text import head_name, token_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_BAR, _ENDS = 20, 12
"""Pixels per bar, and above the first and below the last together."""
MOST = 12
"""Bars in a panel."""


@dataclass(frozen=True)
class Bars:
    """One panel of bars."""

    title: str
    names: list[str]
    values: list[float]


def panels(chart: Chart) -> list[Bars]:
    """The largest values of every tower and kind, for all examples together."""
    return [
        Bars(title, [_row_name(row, chart) for _, row in part.iterrows()], part[chart.value].to_list())
        for title, part in _parts(chart)
    ]


def figure(chart: Chart) -> go.Figure:
    """One panel per tower and kind."""
    import plotly.graph_objects as go

    drawn = panels(chart)
    low, high = chart.scale()
    longest = max(len(name) for part in drawn for name in part.names)
    axis = label(f"{said(chart.value)} ({chart.unit})", limit=80)
    left_out = len(chart.frame) - sum(len(part.names) for part in drawn)
    known = [chart.about(), f"the {MOST} largest of each panel" if left_out else ""]
    whole = sheet(
        [part.title for part in drawn],
        title=chart.title(),
        subtitle=", ".join(filter(None, known)),
        heights=[_BAR * len(part.names) + _ENDS for part in drawn],
        width=TWO_COLUMNS,
        left=min(330, 44 + round(6.4 * longest)),
    )
    for row, part in enumerate(drawn, start=1):
        texts = [label(name, limit=60) for name in part.names]
        whole.add_trace(
            go.Bar(
                x=part.values,
                y=list(range(len(part.values))),
                customdata=texts,
                orientation="h",
                width=0.72,
                marker={"color": "#0072B2"},
                hovertemplate=f"%{{customdata}}: %{{x:.3f}} {label(chart.unit)}<extra></extra>",
                showlegend=False,
            ),
            row=row,
            col=1,
        )
        whole.update_xaxes(range=[low, high], title_text=axis, row=row, col=1)
        whole.update_yaxes(
            tickvals=list(range(len(part.values))),
            ticktext=texts,
            range=[len(part.values) - 0.5 + _ENDS / _BAR / 2, -0.5 - _ENDS / _BAR / 2],
            showgrid=False,
            row=row,
            col=1,
        )
    return whole


def static(chart: Chart) -> str:
    """The bars as one SVG per panel."""
    axis = f"{said(chart.value)} ({chart.unit})"
    return "".join(
        svg.bars(part.title, part.names, part.values, chart.scale(), axis) for part in panels(chart)
    )


def _parts(chart: Chart) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each panel."""
    groups = [name for name in ("tower", "kind") if name in chart.keys]
    for names, part in chart.frame.groupby(groups, sort=False) if groups else [((), chart.frame)]:
        yield " ".join(map(str, names)), part.nlargest(MOST, chart.value)


def _row_name(row: pd.Series, chart: Chart) -> str:
    """What a bar stands for: token and position; else the columns that name its row."""
    token = row["token"] if "token" in row and isinstance(row["token"], str) else ""
    named = [token_text(token, limit=24)] if token and chart.kind == "positions" else []
    own = ["tower", "kind", *EXAMPLE]
    if {"layer", "head"} <= set(chart.keys):
        named.append(head_name(layer_names(row.to_frame().T).iloc[0], row["head"]))
        own += ["layer", "call", "head"]
    for name in chart.keys:
        if name in own:
            continue
        number = not isinstance(row[name], str)
        named.append(f"{said(name)} {row[name]}" if number else str(row[name]))
    example = f"example {row['example']}" if chart.examples > 1 else ""
    return ", ".join(filter(None, [*named, example]))
