"""How figures look: the plotly template, and the sheet that panels are laid out on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headwise.figures.colours import CATEGORIES, CIVIDIS, DIVERGING, Colours, stops_of
from headwise.figures.labels import lines

if TYPE_CHECKING:
    import plotly.graph_objects as go

ONE_COLUMN, TWO_COLUMNS = 380, 760
"""Pixels; at 108 to the inch these are one and two columns of a paper, and 12 pixels are 8 points."""
GREY, DARK = "#5a5a5a", "#1a1a1a"
_LETTER = 0.54
"""Mean width of a letter, in font sizes."""
_TITLE, _SUBTITLE, _PANEL = 15, 12, 12


def template() -> go.layout.Template:
    """White, with readable sizes and colours that do not need colour vision.

    It is put on headwise's own figures and never registered, so that other figures of the process stay as they are.

    Example:
        >>> template().layout.font.size
        12
    """
    import plotly.graph_objects as go

    axis = {
        "showline": True,
        "linecolor": "#8c8c8c",
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#8c8c8c",
        "gridcolor": "#e4e4e4",
        "zeroline": False,
        "title": {"standoff": 6, "font": {"size": 12}},
        "tickfont": {"size": 11},
    }
    return go.layout.Template(
        layout={
            "font": {"family": "Helvetica, Arial, Liberation Sans, sans-serif", "size": 12, "color": DARK},
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "colorway": CATEGORIES,
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"font": {"size": 12}},
            "legend": {"font": {"size": 11}},
        }
    )


def colour_scale(colours: Colours) -> list[tuple[float, str]]:
    """A scale of `headwise.figures.colours` as plotly takes it."""
    stops = stops_of(colours)
    return [(place / (len(stops) - 1), stop) for place, stop in enumerate(stops)]


def sheet(
    titles: Sequence[str],
    *,
    title: str,
    subtitle: str = "",
    heights: Sequence[int],
    columns: int = 1,
    width: int = TWO_COLUMNS,
    left: int = 56,
    right: int = 20,
    gap: int = 52,
    shared_yaxes: bool = False,
) -> go.Figure:
    """Panels of stated sizes in pixels, under a title whose lines fit.

    Args:
        titles: plain text over each panel, row by row.
        title: plain text over all of them.
        subtitle: smaller below it.
        heights: of each row of panels.
        columns: panels in a row.
        width: of the whole figure.
        left: room for the labels of the first column.
        right: room for the colour bar.
        gap: between columns.
        shared_yaxes: labels stand at the first column only.
    """
    from plotly.subplots import make_subplots

    room = width - left - right
    head = lines(title, width=_fits(width - 24, _TITLE * 1.04))
    small = lines(subtitle, width=_fits(width - 24, _SUBTITLE)) if subtitle else []
    each = (room - gap * (columns - 1)) // columns
    above = [lines(name, width=_fits(each + gap - 12, _PANEL), most=2) for name in titles]
    over = 22 * max(map(len, above), default=0)
    down = 46 + over
    top = 22 + 20 * len(head) + 17 * len(small) + (over or 8)
    whole = sum(heights) + down * (len(heights) - 1)
    figure = make_subplots(
        rows=len(heights),
        cols=columns,
        row_heights=list(heights),
        horizontal_spacing=gap / room if columns > 1 else 0,
        vertical_spacing=down / whole if len(heights) > 1 else 0,
        subplot_titles=["<br>".join(name) or " " for name in above],
        shared_yaxes=shared_yaxes,
    )
    figure.update_annotations(font={"size": _PANEL}, yshift=2)
    height = top + whole + 50
    text = [f"<b>{line}</b>" for line in head]
    text += [f'<span style="font-size:{_SUBTITLE}px;color:{GREY}">{line}</span>' for line in small]
    return figure.update_layout(
        template=template(),
        width=width,
        height=height,
        margin={"l": left, "r": right, "t": top, "b": 50, "autoexpand": False},
        title={
            "text": "<br>".join(text),
            "font": {"size": _TITLE},
            "x": 12 / width,
            "xanchor": "left",
            "y": 1 - 24 / height,
            "yanchor": "bottom",
        },
    )


def colour_bar(
    figure: go.Figure, low: float, high: float, *, title: str, diverging: bool = False, length: int = 0
) -> None:
    """One colour scale for all maps of a figure, printed at its right."""
    margin = figure.layout.margin
    room = figure.layout.width - margin.l - margin.r
    whole = figure.layout.height - margin.t - margin.b
    length = min(length or whole, whole)
    longest = _fits(max(length, 110), _SUBTITLE)
    figure.update_layout(
        coloraxis={
            "colorscale": colour_scale(DIVERGING if diverging else CIVIDIS),
            "cmin": low,
            "cmax": high,
            "colorbar": {
                "title": {"text": "<br>".join(lines(title, width=longest, most=2)), "side": "right"},
                "len": length,
                "lenmode": "pixels",
                "thickness": 12,
                "x": 1 + 12 / room,
                "xanchor": "left",
                "xpad": 0,
                "y": 1,
                "yanchor": "top",
                "ypad": 0,
                "ticks": "outside",
                "ticklen": 3,
                "nticks": max(3, length // 26),
                "outlinewidth": 0,
                "tickfont": {"size": 11},
            },
        }
    )


def _fits(pixels: float, font: float) -> int:
    """Letters that stand beside each other in so many pixels."""
    return max(10, int(pixels / (font * _LETTER)))
