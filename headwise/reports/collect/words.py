"""Maps of words: the kinds, or clusters, of all heads on one map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.analyses import HEAD
from headwise.figures.labels import said
from headwise.reports.collect.maps import layer_label
from headwise.reports.content.formatting import group_key, head_address
from headwise.reports.content.word_map import WordCell, WordMap, WordPanel
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.results.result import Result


def word_map_of(result: Result) -> WordMap:
    """The words of a result, and all that its table says of each head as their evidence."""
    counts = result.frame[result.value].value_counts()
    places = {word: place for place, word in enumerate(counts.index)}
    panels = [
        _panel(result, part, (str(tower), str(kind)), places)
        for (tower, kind), part in result.frame.groupby(["tower", "kind"], sort=False)
    ]
    return WordMap(
        key=result.name,
        title=said(result.name).capitalize(),
        summary=result.summary,
        description=result.description,
        words=tuple((str(word), int(count)) for word, count in counts.items()),
        panels=tuple(panels),
    )


def _panel(result: Result, part: pd.DataFrame, site: tuple[str, str], places: dict[Any, int]) -> WordPanel:
    heads, group = 1 + int(part["head"].max()), group_key(*site)
    rows: dict[str, list[WordCell | None]] = {}
    for row in part.to_dict("records"):
        layer = layer_label(row["layer"], row["call"])
        evidence = f"{head_name(layer, row['head'])}: {_evidence(result, row)}"
        cell = WordCell(places[row[result.value]], evidence, head_address(group, layer, row["head"]))
        rows.setdefault(layer, [None] * heads)[row["head"]] = cell
    return WordPanel(" · ".join(site), group, tuple(rows), tuple(map(tuple, rows.values())))


def _evidence(result: Result, row: dict[Any, Any]) -> str:
    """As in "induction; score 0.81, baseline 0.03, also retrieval"."""
    facts = {str(name): value for name, value in row.items() if name not in (*HEAD, result.value)}
    shown = [
        f"{said(name)} {value:.2f}" if isinstance(value, float) else f"{said(name)} {value}"
        for name, value in facts.items()
        if value == value and value not in ("", row[result.value])
    ]
    return "; ".join(filter(None, [str(row[result.value]), ", ".join(shown)]))
