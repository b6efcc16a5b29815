"""What a cell shows of a trace where no scripts run: a sentence and one small picture per tower."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from headwise.errors import CaptureError
from headwise.figures import data_uri
from headwise.figures.cell import framed
from headwise.reports.content.content import Group, HeadMap
from headwise.text import shortened, visible

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace

MOST_PICTURES = 100_000
"""Letters of all pictures of a cell together."""
_SIDES = (24, 16, 12, 8, 5, 3)
_SMALL = "font-size:12px"
_SHEET = (
    "The pattern of every head: layers down, heads across; within one, queries down and keys across, the largest "
    "weight over examples. Colours follow the square root of the weight, from 0 to 100 %, dark to bright."
)


def trace_cell(trace: Trace) -> str:
    """A trace as static HTML: the patterns of all heads in one picture, or the strongest key of every head."""
    from headwise.probes.trace.frames import statistics
    from headwise.reports.collect.heads import groups_of
    from headwise.reports.collect.maps import strongest_keys
    from headwise.reports.collect.patterns import pattern_thumbnails
    from headwise.reports.collect.shares import key_shares

    try:
        statistics(trace.records)
    except CaptureError:  # still open, or captured without statistics
        return sketch("", [f"{trace!r}."], (), ())
    said = [f"{trace!r}.", *trace.warnings[:1]]
    thumbnails = pattern_thumbnails(trace, {})
    said.append("hw.view(trace) shows one head and one example at a time, hw.report() everything.")
    if thumbnails is None:
        said.append("Patterns are shown after capture(maps=True).")
    shares = key_shares(trace)
    groups = groups_of(trace, shares, thumbnails, ()) if thumbnails is not None else ()
    return sketch(str(trace.meta.get("model") or ""), said, groups, (strongest_keys(shares),))


def sketch(title: str, sentences: Sequence[str], groups: Sequence[Group], metrics: Sequence[HeadMap]) -> str:
    """Static HTML of at most 200 kB: no scripts, inline styles only, see `framed`.

    Args:
        title: the model.
        sentences: what is said above the picture.
        groups: whose patterns are shown, where they have any.
        metrics: the first of them is shown where no group has patterns.
    """
    head = f"<strong>{_text(title, 160)}</strong> " if title else ""
    words = f"<p>{head}{_text(' '.join(sentences), 900)}</p>"
    return framed(f"{words}{_pictures(groups, metrics)}")


def _pictures(groups: Sequence[Group], metrics: Sequence[HeadMap]) -> str:
    from headwise.reports.page.contact_sheets import sheet_png

    drawn = [group for group in groups if group.patterns is not None]
    for side in _SIDES if drawn else ():
        sheets = [
            data_uri(sheet_png(group.patterns, side=side)) for group in drawn if group.patterns is not None
        ]
        if sum(map(len, sheets)) <= MOST_PICTURES:
            figures = "".join(_sheet(group, uri) for group, uri in zip(drawn, sheets, strict=True))
            return f'{figures}<p style="{_SMALL}">{_SHEET}</p>'
    return _map(metrics[0]) if metrics else ""


def _sheet(group: Group, uri: str) -> str:
    words = _text(f"{group.label}: {len(group.layers)} layers × {group.heads} heads", 120)
    return (
        f'<figure style="margin:4px 0"><figcaption style="{_SMALL}">{words}</figcaption>'
        f'<img src="{uri}" alt="Attention patterns of {words}" '
        'style="max-width:100%;image-rendering:pixelated;border:1px solid #8886"></figure>'
    )


def _map(metric: HeadMap) -> str:
    import pandas as pd

    from headwise.figures.cell import Map, maps

    items = [
        Map(panel.label, pd.DataFrame(panel.cells, index=list(panel.layers), dtype=float))
        for panel in metric.panels
    ]
    return maps(items, *metric.scale, value=metric.title.lower(), unit=metric.unit)


def _text(text: str, limit: int) -> str:
    return escape(visible(shortened(visible(text, limit=limit)), limit=limit))
