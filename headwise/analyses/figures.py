"""Figures of results: maps on one shared scale, bars, and differences with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING

import numpy as np

from headwise.figures.cell import Map
from headwise.figures.intervals import Interval, Panel, interval_figure
from headwise.figures.labels import counted, label, model_name, said
from headwise.figures.template import ONE_COLUMN, TWO_COLUMNS, colour_bar, sheet
from headwise.text import token_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from headwise.analyses.result import Result

RANGES = {"share": (0.0, 1.0), "percent": (0.0, 100.0)}
"""Units with a natural range; others run from 0 to a round number above their largest value."""
LIKELY = 0.05
"""A p below this is clear."""
_BAR, _ENDS = 20, 12
"""Pixels per bar, and above the first and below the last together."""
_MOST = 12
"""Bars in a panel."""


def figure_of(result: Result) -> go.Figure:
    """The figure behind `Result.plot`."""
    if "arm" in result.frame:
        return _arms(result)
    return _maps(result) if "layer" in result.frame else _bars(result)


def panels_of(result: Result) -> list[Map]:
    """The maps of a result, one per stack, kind and role: the mean over examples where the rows are heads."""
    across = "head" if "head" in result.frame else "offset"
    frame = result.mean() if across == "head" else result.frame
    groups = list(frame.select_dtypes(exclude="number"))
    parts = frame.groupby(groups, sort=False) if groups else [((), frame)]
    found = []
    for names, part in parts:
        site, others = (" ".join(map(str, some)) for some in (names[:2], names[2:]))
        found.append(Map(": ".join(filter(None, (site, others))), _grid(part, across, result.value), across))
    return found


def scale_of(result: Result) -> tuple[float, float]:
    """The ends of the colour scale: the whole range of the unit, else 0 to a round number, or about 0."""
    if result.unit in RANGES:
        return RANGES[result.unit]
    shown = result.mean() if "head" in result.frame and "layer" in result.frame else result.frame
    values = shown[result.value].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    high = _round_up(float(np.abs(values).max(initial=0.0)))
    return (-high if (values < 0).any() else 0.0), high


def about(result: Result) -> str:
    """The model and the number of examples behind a result, for below its title."""
    known = [model_name(result.provenance)]
    examples = _examples(result)
    if examples:
        mean = "head" in result.frame and examples > 1
        known.append(f"{'mean over ' if mean else ''}{counted(examples, 'example')}")
    if "triples" in result.frame:
        low, high = result.frame["triples"].min(), result.frame["triples"].max()
        per = f"{low}" if low == high else f"{low} to {high}"
        known.append(f"n = {per} (example, head) pairs per cell")
    return ", ".join(filter(None, known))


def _examples(result: Result) -> int:
    return len(result.frame["example"].unique()) if "example" in result.frame else 0


def _arms(result: Result) -> go.Figure:
    """Differences of arms to the one without a fix, with intervals: one panel per metric, each on its own scale."""
    frame, value = result.frame, result.value
    frame = frame[frame.groupby("arm")[value].transform(lambda values: values.notna().any())]
    judged = "p_holm" in frame
    panels = []
    for metric, part in frame.groupby("metric", sort=False):
        intervals = [
            Interval(row["arm"], row[value], low, high, row["p_holm"] < LIKELY if judged else low * high > 0)
            for _, row in part.iterrows()
            for low, high in [(row[f"{value}_low"], row[f"{value}_high"])]
        ]
        panels.append(Panel(str(metric), str(part["unit"].iloc[0]), intervals))
    facts = [model_name(result.provenance), f"n = {int(frame['n'].iloc[0]):,}" if "n" in frame else ""]
    facts.append("difference to no fix with 95 % interval")
    grey = f"p (Holm) is {LIKELY} or more, or unknown" if judged else "the interval holds 0"
    return interval_figure(
        panels,
        title=said(result.name),
        subtitle=f"{', '.join(filter(None, facts))}; hollow: {grey}",
        columns=min(3, len(panels)),
        zero=True,
    )


def _maps(result: Result) -> go.Figure:
    import plotly.graph_objects as go

    panels = panels_of(result)
    across = panels[0].across
    low, high = scale_of(result)
    most = max(len(panel.grid) for panel in panels)
    columns = 1 if across == "offset" else min(len(panels), 3)
    width = ONE_COLUMN if len(panels) == 1 and across == "head" else TWO_COLUMNS
    left, right, gap = 56, 92, 44
    each = (width - left - right - gap * (columns - 1)) / columns
    tall = round(min(max(most * (18 if columns == 1 else 24), 110), 420 if columns == 1 else each * 1.1))
    figure = sheet(
        [panel.title for panel in panels],
        title=_title(result),
        subtitle=about(result),
        heights=[max(tall, 110)] * ceil(len(panels) / columns),
        columns=columns,
        width=width,
        left=left,
        right=right,
        gap=gap,
    )
    for place, grid in enumerate(panel.grid for panel in panels):
        row, column = place // columns + 1, place % columns + 1
        figure.add_trace(
            go.Heatmap(
                z=grid.to_numpy(),
                x=list(grid.columns),
                y=list(grid.index),
                coloraxis="coloraxis",
                hovertemplate=f"layer %{{y}}, {_NAMES[across]} %{{x}}: %{{z:.3f}} {label(result.unit)}<extra></extra>",
                hoverongaps=False,
                xgap=_gap(each, grid.shape[1]),
                ygap=_gap(tall, grid.shape[0]),
            ),
            row=row,
            col=column,
        )
        last = place + columns >= len(panels)
        titles = _TITLES[across] if last else None, "layer" if column == 1 else None
        figure.update_xaxes(
            title_text=titles[0],
            dtick=_step(grid.shape[1], each / 26, decimal=across == "offset"),
            showgrid=False,
            row=row,
            col=column,
        )
        figure.update_yaxes(
            title_text=titles[1],
            autorange="reversed",
            type="category",
            dtick=_step(grid.shape[0], tall / 16),
            showgrid=False,
            row=row,
            col=column,
        )
    title = f"{said(result.value)} ({result.unit})"
    colour_bar(figure, low, high, title=title, diverging=low < 0, length=max(tall, 160))
    return figure


_NAMES = {"head": "head", "offset": "position"}
_TITLES = {"head": "head", "offset": "position from the first key"}


def _title(result: Result) -> str:
    """Analysis, value and unit; what says the same is said once."""
    name, value = said(result.name), said(result.value)
    whole = name if value in name else value if name in value else f"{name}: {value}"
    return f"{whole[:1].upper()}{whole[1:]} ({result.unit})"


def _grid(part: pd.DataFrame, across: str, value: str) -> pd.DataFrame:
    """Layers down, heads or positions across; every call of a layer has a row of its own."""
    layer = part["layer"].astype(str)
    if "call" in part and part["call"].any():
        layer = layer + "." + part["call"].astype(str)
    grid = part.assign(layer=layer).pivot_table(
        index="layer", columns=across, values=value, sort=False, dropna=False
    )
    if across == "head":  # those that were not kept have their place
        return grid.reindex(columns=range(int(max(grid.columns)) + 1))
    return grid[sorted(grid.columns)]


def _bars(result: Result) -> go.Figure:
    """The largest values as bars: one panel per stack and kind, for all examples together."""
    import plotly.graph_objects as go

    panels = list(_parts(result))
    low, high = scale_of(result)
    heights = [_BAR * len(part) + _ENDS for _, part in panels]
    names = [[_row_name(row, result) for _, row in part.iterrows()] for _, part in panels]
    longest = max(len(name) for part in names for name in part)
    axis = label(f"{said(result.value)} ({result.unit})", limit=80)
    left_out = len(result.frame) - sum(len(part) for _, part in panels)
    known = [about(result), f"the {_MOST} largest of each panel" if left_out else ""]
    figure = sheet(
        [name for name, _ in panels],
        title=_title(result),
        subtitle=", ".join(filter(None, known)),
        heights=heights,
        width=TWO_COLUMNS,
        left=min(330, 44 + round(6.4 * longest)),
    )
    for row, ((_, part), ticks) in enumerate(zip(panels, names, strict=True), start=1):
        values = part[result.value].to_list()
        texts = [label(name, limit=60) for name in ticks]
        figure.add_trace(
            go.Bar(
                x=values,
                y=list(range(len(values))),
                customdata=texts,
                orientation="h",
                width=0.72,
                marker={"color": "#0072B2"},
                hovertemplate=f"%{{customdata}}: %{{x:.3f}} {label(result.unit)}<extra></extra>",
                showlegend=False,
            ),
            row=row,
            col=1,
        )
        figure.update_xaxes(range=[low, high], title_text=axis, row=row, col=1)
        figure.update_yaxes(
            tickvals=list(range(len(values))),
            ticktext=texts,
            range=[len(values) - 0.5 + _ENDS / _BAR / 2, -0.5 - _ENDS / _BAR / 2],
            showgrid=False,
            row=row,
            col=1,
        )
    return figure


def _parts(result: Result) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each panel of bars."""
    frame = result.frame
    groups = [name for name in ("stack", "kind") if name in frame]
    parts = frame.groupby(groups, sort=False) if groups else [((), frame)]
    for names, part in parts:
        yield " ".join(map(str, names)), part.nlargest(_MOST, result.value)


def _row_name(row: pd.Series, result: Result) -> str:
    """What a bar stands for: token and position; else all that is no measured number."""
    frame = result.frame
    if "position" in frame:
        token = row["token"] if "token" in frame and isinstance(row["token"], str) else ""
        named = [token_text(token, limit=24) if token else "", f"position {row['position']}"]
    else:
        keys = frame.select_dtypes(exclude="float").columns
        named = [str(row[name]) for name in keys if name not in ("example", "stack", "kind")]
    example = f"example {row['example']}" if _examples(result) > 1 else ""
    return ", ".join(filter(None, [*named, example]))


def _round_up(value: float) -> float:
    """The next of 1, 2, 3, 4, 5, 6, 8 times a power of ten; 1 for 0."""
    if not value > 0 or not isfinite(value):
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if value <= step * power * (1 + 1e-9))


def _step(count: int, room: float, *, decimal: bool = False) -> int:
    """Every which label is shown where there is room for so many."""
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if decimal else (1, 2, 4, 8, 16, 32, 64)
    return next((step for step in steps if count <= room * step), count)


def _gap(pixels: float, cells: int) -> int:
    """Pixels between cells: none where they are small."""
    return 1 if pixels / cells >= 8 else 0
