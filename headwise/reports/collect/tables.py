"""The tables of the page: strongest sinks, mass per role, means per layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool

from headwise.probes.trace.frames import key_axis, labels, statistics
from headwise.reports.collect.maps import layer_label
from headwise.reports.content.content import Column, HeadMap, Table
from headwise.reports.content.formatting import Value, group_key, head_address

if TYPE_CHECKING:
    import pandas as pd

    from headwise.analyses import Result
    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace

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
        site=frame["tower"] + " · " + frame["kind"], token=frame["token"].fillna("(no text)")
    )
    columns = (
        Column("token", "token", "token"),
        Column("example", "example", "count"),
        Column("position", "position", "count"),
        Column("role", "role"),
        Column("site", "tower"),
        Column("peak_layer", "layer", "count"),
        Column("peak_received", "share", "share"),
        Column("mean_received", "all layers", "share"),
        Column("heads", "heads", "count"),
    )
    left_out = len(result.frame) > len(frame)
    note = f"{SINK_NOTE} The strongest {len(frame)} of {len(result.frame)}." if left_out else SINK_NOTE
    return Table("sinks", "Strongest sinks", note, columns, _rows(frame, columns))


def role_table(
    result: Result | None, left: Mapping[tuple[str, str], Mapping[str, float]] | None = None
) -> Table | None:
    """Mass per role (or modality), mean over heads, with the head that gives most.

    Args:
        result: of `headwise.analyses.mass`.
        left: the same per tower, kind and role without the sinks, from `shares_without_sinks`.
    """
    if result is None:
        return None
    by = result.provenance["parameters"]["by"]
    left = left if left and by == "role" else {}
    rows = []
    for _, heads in result.mean().groupby(["tower", "kind", by], sort=False):
        best = max(heads.to_dict("records"), key=lambda row: row["mass"])
        if best["mass"] == 0:  # a role that this tower does not have
            continue
        tower, kind, role = best["tower"], best["kind"], best[by]
        without = [left.get((tower, kind), {}).get(role)] if left else []
        name = head_address(group_key(tower, kind), layer_label(best["layer"], best["call"]), best["head"])
        rows.append((f"{tower} · {kind}", role, fmean(heads["mass"]), *without, name, best["mass"]))
    rows.sort(key=lambda row: (row[0], -row[2]))
    columns = (
        Column("site", "tower"),
        Column(by, by),
        Column("mean", "mean over heads", "share"),
        *((Column("without_sinks", "without the sinks", "share"),) if left else ()),
        Column("largest_head", "largest in", "address"),
        Column("largest", "share there", "share"),
    )
    more = (
        " Without the sinks: of the attention that does not go to a key which a tenth of the heads or more have as "
        "a sink."
    )
    title = f"Attention per {by}, with and without sinks" if left else f"Attention per {by}"
    return Table("roles", title, result.description + (more if left else ""), columns, tuple(rows))


def shares_without_sinks(
    trace: Trace, sinks: Mapping[Site, Bool[torch.Tensor, "example key"]]
) -> dict[tuple[str, str], dict[str, float]]:
    """Share of the attention per role once the sink keys are taken away, per tower and kind; empty without sinks.

    Mean over layers, heads and examples of what is left; a head that leaves nothing does not count.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    if not any(keys.any() for keys in sinks.values()):
        return {}
    for site, record in statistics(trace.records).items():
        received = record["received"].detach().float().cpu().nan_to_num(0)
        kept = received.where(~sinks[site][:, None], 0)
        rest = kept.sum(-1)
        roles = labels(key_axis(trace.layout, site), *record["n_queries"].shape)[1]
        for role in {role for role in roles.flat if role not in (None, "padding")}:
            own = kept.where(torch.from_numpy(roles == role)[:, None], 0).sum(-1) / rest
            mean = own[rest > 1e-6].mean().item() if (rest > 1e-6).any() else float("nan")
            found.setdefault((site.tower, site.kind), {}).setdefault(role, []).append(mean)
    return {
        place: {role: float(np.nanmean(means)) for role, means in roles.items() if not np.isnan(means).all()}
        for place, roles in found.items()
    }


def layer_table(metrics: Sequence[HeadMap]) -> Table | None:
    """Mean over heads of every map, one row per layer: the maps in numbers."""
    shown = [m for m in metrics if m.key != "mass" and all(panel.across == "head" for panel in m.panels)]
    means: dict[tuple[str, str], dict[str, float | None]] = {}
    for metric in shown:
        for panel in metric.panels:
            for layer, values in zip(panel.layers, panel.cells, strict=True):
                known = [value for value in values if value is not None]
                row = means.setdefault((panel.label, layer), {})
                row[metric.key] = sum(value / len(known) for value in known) if known else None
    if not means:
        return None
    units = ["" if metric.form == "share" else f" ({metric.unit})" for metric in shown]
    columns = (
        Column("site", "tower"),
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
