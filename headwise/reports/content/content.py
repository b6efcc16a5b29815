"""What a report page says: plain values, before any figure or markup is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from headwise.figures.graph import Graph
from headwise.reports.content.formatting import Form, Value, round_up
from headwise.reports.content.shown_example import ShownExample, Strip
from headwise.reports.content.word_map import WordMap

if TYPE_CHECKING:
    import numpy as np

    from headwise.figures import intervals

Cells = tuple[tuple[float | None, ...], ...]
"""Layers down, heads (or positions) across; None where there is no value."""


@dataclass(frozen=True)
class Headline:
    """One number of the verdict, large."""

    value: str
    label: str
    detail: str = ""
    links: tuple[tuple[str, str], ...] = ()
    """What to look at, as (words, address on the page)."""


@dataclass(frozen=True, eq=False)
class MapPanel:
    """A map of one tower and kind."""

    label: str
    layers: tuple[str, ...]
    cells: Cells
    across: str = "head"
    group: str = ""
    """Key of the `Group` whose heads these are; empty where the columns are not heads."""
    after: Cells | None = None
    """The same with the fix on, where one was."""
    by_example: np.ndarray | None = field(default=None, repr=False)
    """(example, layer, head), float32, NaN where an example has no value."""


@dataclass(frozen=True, eq=False)
class HeadMap:
    """One number per head, with the one scale that every panel of it shares, before and after a fix."""

    key: str
    title: str
    unit: str
    description: str
    panels: tuple[MapPanel, ...]

    @property
    def form(self) -> Form:
        """How its values are shown."""
        return "share" if self.unit == "share" else "number"

    @property
    def values(self) -> list[float]:
        """All that is known, before and after."""
        grids = [grid for panel in self.panels for grid in (panel.cells, panel.after or ())]
        return [value for grid in grids for row in grid for value in row if value is not None]

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest colour: from 0 (or below it) to the largest value, widened to a round number."""
        finite = list(filter(isfinite, self.values))
        low, high = min(finite, default=0.0), max(finite, default=0.0)
        low = -round_up(-low) if low < 0 else 0.0
        high = round_up(high) if high > 0 else 0.0
        return (low, high) if high > low else (low, low + 1.0)

    @property
    def spread(self) -> float:
        """End of the scale of differences, which runs from its negative through zero to it."""
        changes = [
            abs(new - old)
            for panel in self.panels
            for olds, news in zip(panel.cells, panel.after or (), strict=False)
            for old, new in zip(olds, news, strict=True)
            if old is not None and new is not None
        ]
        return round_up(max(filter(isfinite, changes), default=0.0)) or 1.0


@dataclass(frozen=True, eq=False)
class Group:
    """All heads of one tower and kind, and what is shown of each."""

    key: str
    label: str
    layers: tuple[str, ...]
    heads: int
    rows: str
    """What the rows of a pattern are: positions of this tower."""
    columns: str
    """What its columns are: positions of this tower, or of the one that cross-attention looks at."""
    patterns: np.ndarray | None = None
    """(layer, head, row, key), uint8: 255 √weight, the largest over examples and over `bins`."""
    bins: tuple[int, int] = (1, 1)
    """Rows and keys that one pixel of a pattern stands for."""
    histogram: np.ndarray | None = None
    """(layer, head, bin), rows by normalised entropy, in ten equal bins from 0 to 1."""
    top: tuple[tuple[tuple[TopKey, ...], ...], ...] = ()
    """The keys that receive most, of every layer and head."""
    received: np.ndarray | None = None
    """(example, layer, head, key), uint8: 254 √(mean received attention), 255 where too few rows see a key."""
    own: tuple[OwnPattern, ...] = ()
    """Patterns of single examples, for the heads that the page singles out, or for all of them."""


@dataclass(frozen=True)
class TopKey:
    """A key that receives much from one head."""

    example: int
    position: int
    text: str
    share: float


@dataclass(frozen=True, eq=False)
class OwnPattern:
    """The pattern of one head on one example; coded like `Group.patterns`."""

    example: int
    layer: int
    """Row of the map, which is not the number of the layer where layers are called twice."""
    head: int
    pixels: np.ndarray


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
class Flip:
    """An example of the task whose answer a fix changed."""

    arm: str
    prompt: str
    answer: str
    before: str
    after: str
    kind: str
    """`right → wrong`, `wrong → right` or `changed`."""


@dataclass(frozen=True, eq=False)
class ShownComparison:
    """A comparison on the page: the finding, its table, the replies that changed, and a chart."""

    title: str
    finding: str
    table: Table
    flips: tuple[Flip, ...]
    flips_left_out: int
    chart: intervals.Panel
    """Differences in the first metric; the table has them too."""


@dataclass(frozen=True)
class Finding:
    """A result that is no map of heads and no graph: its figure and what it says."""

    title: str
    summary: str
    figure: str
    """HTML without scripts; empty where nothing was found."""
    description: str


@dataclass(frozen=True, eq=False)
class Content:
    """Everything on the page, in the order in which it is read."""

    title: str
    headlines: tuple[Headline, ...] = ()
    verdict: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metrics: tuple[HeadMap, ...] = ()
    words: tuple[WordMap, ...] = ()
    groups: tuple[Group, ...] = ()
    tables: tuple[Table, ...] = ()
    comparisons: tuple[ShownComparison, ...] = ()
    graphs: tuple[Graph, ...] = ()
    findings: tuple[Finding, ...] = ()
    examples: tuple[ShownExample, ...] = ()
    """Those that are shown one by one."""
    averaged: int = 0
    """Examples that the maps are means over; 0 where that is not known."""
    provenance: tuple[tuple[str, str], ...] = ()
    fix: str = ""
    """The fix behind the `after` maps, in a few words."""
    spec: str = ""
    """The fix as a patch spec, to copy into a file."""
    call: str = ""
    command: str = ""
    sink_share: float | None = None
    """Share of heads that have a sink; None where that is not known."""

    @property
    def largest_share(self) -> float:
        """The top of the token shading: one scale for all examples."""
        return _top([token.share for strip in self._strips for token in strip.tokens])

    @property
    def largest_rest(self) -> float:
        """The top of the token shading without sinks."""
        return _top([token.rest for strip in self._strips for token in strip.tokens])

    @property
    def largest_patch(self) -> float:
        """The top of the image overlays: one scale for all examples."""
        pictures = [example.picture for example in self.examples if example.picture]
        return round_up(max((float(picture.shares.max()) for picture in pictures), default=0.0)) or 1.0

    @property
    def _strips(self) -> list[Strip]:
        return [strip for example in self.examples for strip in example.strips]


def _top(shares: Sequence[float | None]) -> float:
    return round_up(max((share for share in shares if share is not None), default=0.0)) or 1.0
