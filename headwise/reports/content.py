"""What a report page says: plain values, before any figure or markup is made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Form = Literal["text", "token", "number", "share", "count"]
"""How a column is shown: `share` lies in 0..1 and is shown in percent, `number` with three digits."""

Value = str | int | float | None


@dataclass(frozen=True)
class Headline:
    """One number of the verdict, large."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class Panel:
    """A map of one stack and kind: layers down, heads (or positions) across; None where there is no value."""

    label: str
    layers: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    across: str = "head"


@dataclass(frozen=True)
class Metric:
    """One number per head, with the one scale that every panel of it shares."""

    key: str
    title: str
    unit: str
    description: str
    panels: tuple[Panel, ...]

    @property
    def form(self) -> Form:
        """How its values are shown."""
        return "share" if self.unit == "share" else "number"

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest colour: from 0 (or below it) to the largest value, widened to a round number."""
        values = [v for panel in self.panels for row in panel.cells for v in row if v is not None]
        low, high = min(values, default=0.0), max(values, default=0.0)
        low = -round_up(-low) if low < 0 else 0.0
        high = round_up(high) if high > 0 else 0.0
        return (low, high) if high > low else (low, low + 1.0)


@dataclass(frozen=True)
class Column:
    """A column of a table: its name in JSON, its heading on the page, and how its values are shown."""

    name: str
    label: str
    form: Form = "text"


@dataclass(frozen=True)
class Table:
    """Rows of plain values; `note` says how to read them."""

    key: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    def records(self) -> list[dict[str, Value]]:
        """One dictionary per row, by column name."""
        return [dict(zip((column.name for column in self.columns), row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Token:
    """One position of an example. `share` is the attention it receives, None where too few rows see it."""

    position: int
    text: str
    role: str
    share: float | None


@dataclass(frozen=True)
class Example:
    """The tokens of one example on one stack; `left_out` counts tokens that are not shown."""

    label: str
    tokens: tuple[Token, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Content:
    """Everything on the page, in the order in which it is read."""

    title: str
    headlines: tuple[Headline, ...] = ()
    verdict: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    tables: tuple[Table, ...] = ()
    examples: tuple[Example, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    call: str = ""
    command: str = ""
    sink_share: float | None = None
    """Share of heads that have a sink; None where that is not known."""

    @property
    def largest_share(self) -> float:
        """The top of the token shading: one scale for all examples."""
        shares = [t.share for example in self.examples for t in example.tokens if t.share is not None]
        return round_up(max(shares, default=0.0)) or 1.0


def round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10 times a power of ten.

    Example:
        >>> round_up(0.47), round_up(3.9), round_up(0.0)
        (0.5, 4.0, 0.0)
    """
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return next(round(step * power, 12) for step in steps if step * power >= value * (1 - 1e-9))


def percent(share: float) -> str:
    """A share in whole percent, for prose.

    Example:
        >>> percent(0.416), percent(0.002), percent(0.0)
        ('42 %', '<1 %', '0 %')
    """
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def tick(value: float, form: Form) -> str:
    """An end of a colour scale.

    Example:
        >>> tick(0.0, "share"), tick(0.015, "share"), tick(40.0, "number")
        ('0 %', '1.5 %', '40')
    """
    return f"{100 * value:.3g} %" if form == "share" else f"{value:.3g}"


def show(value: Value, form: Form) -> str:
    """A table cell as text; a missing number is an en dash.

    Example:
        >>> show(0.4712, "share"), show(1234, "count"), show(float("nan"), "number")
        ('47.1 %', '1,234', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if form == "share":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if form == "count" else f"{value:.3g}"
