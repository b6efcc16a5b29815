"""Differences of arms to the one without a fix, with intervals: one panel per metric, each on its own scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.figures.chart import Chart
from headwise.figures.intervals import Interval, Panel, interval_figure
from headwise.figures.labels import model_name, said
from headwise.figures.tables import table

if TYPE_CHECKING:
    import plotly.graph_objects as go

ALPHA = 0.05
"""A p below this is clear."""


def figure(chart: Chart) -> go.Figure:
    """Dots with intervals; hollow where the difference may be chance."""
    frame, value = chart.frame, chart.value
    told = frame.groupby("arm")[value].transform(lambda values: values.notna().any())
    frame = frame[told] if told.any() else frame
    judged = "p_holm" in frame
    panels = []
    for metric, part in frame.groupby("metric", sort=False):
        intervals = [
            Interval(row["arm"], row[value], low, high, row["p_holm"] < ALPHA if judged else low * high > 0)
            for _, row in part.iterrows()
            for low, high in [(row[f"{value}_low"], row[f"{value}_high"])]
        ]
        panels.append(Panel(str(metric), str(part["unit"].iloc[0]), intervals))
    facts = [model_name(chart.provenance), f"n = {int(frame['n'].iloc[0]):,}" if "n" in frame else ""]
    facts.append("difference to no fix with 95 % interval")
    grey = f"p (Holm) is {ALPHA} or more, or unknown" if judged else "the interval holds 0"
    return interval_figure(
        panels,
        title=said(chart.name),
        subtitle=f"{', '.join(filter(None, facts))}; hollow: {grey}",
        columns=min(3, len(panels)),
        zero=True,
    )


def static(chart: Chart) -> str:
    """Every difference with its interval, as a table."""
    columns = ["metric", "arm", chart.value, f"{chart.value}_low", f"{chart.value}_high"]
    return table(chart.frame[columns].dropna(subset=chart.value), caption="Differences to no fix")
