"""Small charts as SVG pictures: they need no script and no style sheet, and hold every letter as text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite, isnan

from headwise.figures.colours import CATEGORIES, CLEAR, UNCLEAR
from headwise.figures.tables import cell_text
from headwise.text import visible

_WIDTH, _ROW, _NAMES = 560.0, 18.0, 200.0
_LETTERS = 34
"""Letters of a name."""


def bars(
    title: str, names: Sequence[str], values: Sequence[float], ends: tuple[float, float], axis: str
) -> str:
    """Horizontal bars from zero on one printed scale.

    Example:
        >>> bars("text self", ["a"], [0.5], (0.0, 1.0), "mass (share)")[:10]
        '<img src="'
    """
    low, high = ends
    room, height = _WIDTH - _NAMES - 60, _ROW * (len(names) + 2)
    zero = _NAMES + room * _part(0.0, low, high)
    parts = [_text(0, 12, title)]
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        top, end = _ROW * (number + 1), _NAMES + room * _part(value, low, high)
        parts.append(_text(_NAMES - 6, top + 12, name, "end"))
        parts.append(_rect(min(zero, end), top + 3, abs(end - zero), _ROW - 6, CLEAR))
        parts.append(_text(max(zero, end) + 4, top + 12, cell_text(value)))
    parts.append(_text(_NAMES, height - 4, f"{cell_text(low)} to {cell_text(high)}: {axis}"))
    largest = f"{names[0]} {cell_text(values[0])}" if names else "nothing"
    return _picture(_WIDTH, height, parts, alt=f"{title}: bars of {axis}; largest {largest}")


def lines(
    shown: Sequence[tuple[str, Sequence[float] | Sequence[str], Sequence[float]]],
    ends: tuple[float, float],
    axes: tuple[str, str],
) -> str:
    """Lines on one pair of axes; words stand at equal distances.

    Example:
        >>> lines([("a", [0.0, 1.0], [0.2, 0.4])], (0.0, 1.0), ("size", "faithfulness (share)"))[:10]
        '<img src="'
    """
    left, right, top, floor, height = 60.0, 150.0, 22.0, 180.0, 220.0
    room = _WIDTH - left - right
    ticks = list(dict.fromkeys(x for _, xs, _ in shown for x in xs))
    numbers = [float(x) for x in ticks if not isinstance(x, str)]
    span = (min(numbers), max(numbers)) if numbers else (0.0, max(1.0, len(ticks) - 1.0))

    def across(x: float | str) -> float:
        return left + room * _part(float(ticks.index(x)) if isinstance(x, str) else float(x), *span)

    def up(y: float) -> float:
        return floor - (floor - top) * _part(y, *ends)

    parts = [
        f'<path d="M{left} {top}V{floor}H{left + room}" fill="none" stroke="{UNCLEAR}"/>',
        *(_text(left - 6, up(value) + 4, cell_text(value), "end") for value in ends),
        *(_text(across(x), floor + 14, cell_text(x), "middle") for x in (ticks[0], ticks[-1])),
        _text(left + room / 2, floor + 30, axes[0], "middle"),
        _text(left, 12, axes[1]),
    ]
    for number, (name, xs, ys) in enumerate(shown):
        colour = CATEGORIES[number % len(CATEGORIES)]
        points = [(across(x), up(y)) for x, y in zip(xs, ys, strict=True) if isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        if len(shown) > 1:
            parts.append(_rect(left + room + 10, top + _ROW * number, 10, 10, colour))
            parts.append(_text(left + room + 24, top + 10 + _ROW * number, name))
    alt = f"{axes[1]} over {axes[0]}: {', '.join(name for name, *_ in shown if name) or '1 line'}"
    return _picture(_WIDTH, height, parts, alt=alt)


def graph(
    edges: Iterable[tuple[tuple[float, float], tuple[float, float], float, bool]],
    nodes: Sequence[tuple[float, float, str]],
    size: tuple[float, float],
    dot: float,
) -> str:
    """Nodes and edges where they stand.

    Args:
        edges: both ends, thickness, and whether it is negative.
        nodes: place and name.
        size: width and height of the picture.
        dot: radius of a node.
    """
    parts = [
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="{UNCLEAR}" '
        f'stroke-width="{thick:.2f}"{dashed}/>'
        for a, b, thick, negative in edges
        for dashed in [' stroke-dasharray="4 3"' if negative else ""]
    ]
    for x, y, name in nodes:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{dot}" fill="{CLEAR}"/>')
        parts.append(_text(x, y - dot - 3, name, "middle"))
    names = ", ".join(name for *_, name in nodes)
    return _picture(*size, parts, alt=f"graph of {names}; layers from bottom to top")


def _picture(width: float, height: float, parts: Sequence[str], *, alt: str) -> str:
    """The parts as an `<img>`: hosts that strip inline SVG show it, too."""
    whole = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" '
        f'font-size="11" fill="#1a1a1a"><rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>'
    )
    uri = f"data:image/svg+xml;base64,{base64.b64encode(whole.encode()).decode('ascii')}"
    words = escape(visible(visible(alt, limit=300), limit=300))
    return f'<img src="{uri}" alt="{words}" width="{width:g}" height="{height:g}" style="max-width:100%;height:auto">'


def _part(value: float, low: float, high: float) -> float:
    """Where a value stands between two ends, from 0 to 1."""
    width = high / 2 - low / 2
    return (min(high, max(low, value)) / 2 - low / 2) / width if width > 0 and not isnan(value) else 0.0


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    shown = visible(text, limit=_LETTERS)
    shown = shown if len(shown) <= _LETTERS else f"{shown[: _LETTERS - 1]}…"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
