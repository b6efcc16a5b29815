"""The tables of the page: strongest sinks, mass per role, means per layer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from headwise.reports.content import Column, Metric, Table, Value

if TYPE_CHECKING:
    import pandas as pd

    from headwise.analyses import Result

MOST_SINKS = 20
SINK_NOTE = (
    "Mean attention a key receives from the rows that may see it: in the layer where it is strongest, over "
    "the heads of that layer, and over all layers. The last column counts the heads in which it is a sink."
)


def sink_table(result: Result | None) -> Table | None:
    """The strongest sinks with their tokens."""
    if result is None:
        return None
    frame = result.frame.sort_values("peak_received", ascending=False, kind="stable").head(MOST_SINKS)
    frame = frame.assign(
        site=frame["stack"] + " · " + frame["kind"], token=frame["token"].fillna("(no text)")
    )
    columns = (
        Column("token", "token", "token"),
        Column("example", "example", "count"),
        Column("position", "position", "count"),
        Column("role", "role"),
        Column("site", "stack"),
        Column("peak_layer", "layer", "count"),
        Column("peak_received", "share", "share"),
        Column("mean_received", "all layers", "share"),
        Column("heads", "heads", "count"),
    )
    left_out = len(result.frame) > len(frame)
    note = f"{SINK_NOTE} The strongest {len(frame)} of {len(result.frame)}." if left_out else SINK_NOTE
    return Table("sinks", "Strongest sinks", note, columns, _rows(frame, columns))


def role_table(result: Result | None) -> Table | None:
    """Mass per role (or modality), mean over heads, with the head that gives most."""
    if result is None:
        return None
    by = result.provenance["parameters"]["by"]
    rows = []
    for _, heads in result.mean().groupby(["stack", "kind", by], sort=False):
        best = max(heads.to_dict("records"), key=lambda row: row["mass"])
        if best["mass"] == 0:  # a role that this stack does not have
            continue
        name = f"{best['layer']}.{best['head']}"
        site = f"{best['stack']} · {best['kind']}"
        rows.append((site, best[by], fmean(heads["mass"]), name, best["mass"]))
    rows.sort(key=lambda row: (row[0], -row[2]))
    columns = (
        Column("site", "stack"),
        Column(by, by),
        Column("mean", "mean over heads", "share"),
        Column("largest_head", "largest in layer.head"),
        Column("largest", "share there", "share"),
    )
    return Table("roles", f"Attention per {by}", result.description, columns, tuple(rows))


def layer_table(metrics: Sequence[Metric]) -> Table | None:
    """Mean over heads of every map, one row per layer: the maps in numbers."""
    shown = [m for m in metrics if m.key != "mass" and all(panel.across == "head" for panel in m.panels)]
    means: dict[tuple[str, str], dict[str, float | None]] = {}
    for metric in shown:
        for panel in metric.panels:
            for layer, values in zip(panel.layers, panel.cells, strict=True):
                known = [value for value in values if value is not None]
                row = means.setdefault((panel.label, layer), {})
                row[metric.key] = fmean(known) if known else None
    if not means:
        return None
    units = ["" if metric.form == "share" else f" ({metric.unit})" for metric in shown]
    columns = (
        Column("site", "stack"),
        Column("layer", "layer"),
        *(
            Column(metric.key, metric.title.lower() + unit, metric.form)
            for metric, unit in zip(shown, units, strict=True)
        ),
    )
    rows = tuple((*names, *(row.get(metric.key) for metric in shown)) for names, row in means.items())
    note = "Means over the heads and examples of every layer: the maps in numbers."
    return Table("layers", "Layers", note, columns, rows)


def _rows(frame: pd.DataFrame, columns: Sequence[Column]) -> tuple[tuple[Value, ...], ...]:
    table = frame[[column.name for column in columns]].astype(object)
    return tuple(tuple(None if cell != cell else cell for cell in row) for row in table.to_numpy().tolist())
