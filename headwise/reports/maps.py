"""Layer × head maps: from tables of results, and the strongest key of every head from a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from headwise.analyses._sinks import MIN_ROWS
from headwise.probes.trace.fields import at_numbers
from headwise.probes.trace.frames import statistics
from headwise.reports.content import Cells, Metric, Panel
from headwise.reports.wording import group_key

if TYPE_CHECKING:
    import pandas as pd

    from headwise.analyses import Result
    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.fields import Record
    from headwise.probes.trace.trace import Trace

WIDEST = 32
"""Maps by position show this many positions."""

WORDING = {
    "entropy": (
        "Row entropy",
        "Entropy of a row as a share of the largest possible: 0 % is one key, 100 % is flat.",
    ),
    "distance": ("Distance", "How far from itself a row looks on average; 0 is itself."),
    "sink_rate": ("Sink rate per position", ""),
    "mass": ("Attention per role", ""),
}
"""Title and description on the page, where the result's own are written for its table."""


def maps_of(result: Result, after: Result | None = None) -> list[Metric]:
    """The map of a result, mean over examples; none for a result that has no layers.

    Args:
        result: what is shown.
        after: the same analysis with a fix on.
    """
    across = next((name for name in ("head", "offset") if name in result.frame), None)
    if across is None or "layer" not in result.frame:
        return []
    parts, changed = _parts(result, across), _parts(after, across) if after is not None else {}
    panels = [_panel(names, part, across, result.value, changed.get(names)) for names, part in parts.items()]
    if any(len(names) > 2 for names in parts):  # roles that a stack does not have
        panels = [panel for panel in panels if any(any(row) for row in panel.cells)]
    title, description = WORDING.get(result.name, (result.name.replace("_", " ").capitalize(), ""))
    key = "".join(character if character.isalnum() else "_" for character in result.name) or "metric"
    return [Metric(key, title, result.unit, description or result.description, tuple(panels))]


def strongest_keys(trace: Trace, after: Trace | None = None) -> Metric:
    """The largest mean attention that one key receives from a head, mean over examples: where sinks are."""
    panels = site_panels(_strongest(trace), _strongest(after) if after is not None else None)
    description = (
        "The largest share of attention that one key receives from a head, mean over the rows that see "
        f"the key ({MIN_ROWS} or more). Bright heads have a sink."
    )
    return Metric("strongest_key", "Strongest key of each head", "share", description, panels)


def without_sinks(
    values: Mapping[Site, torch.Tensor], after: Mapping[Site, torch.Tensor] | None = None
) -> Metric:
    """Row entropy with the sinks left out."""
    description = (
        "Row entropy when the keys that a tenth of the heads have as a sink are left out and the rest of each row is "
        "scaled up to one. Beside the row entropy it tells a head that parks its attention on a sink (this map "
        "bright, that one dark) from a head that picks something out (both dark)."
    )
    return Metric(
        "entropy_without_sinks",
        "Row entropy without sinks",
        "share",
        description,
        site_panels(values, after),
    )


def site_panels(
    values: Mapping[Site, torch.Tensor], after: Mapping[Site, torch.Tensor] | None = None
) -> tuple[Panel, ...]:
    """Panels of values that are known per site, (example, head)."""
    grouped: dict[tuple[str, str], list[Site]] = {}
    for site in values:
        grouped.setdefault((site.stack, site.kind), []).append(site)
    panels = []
    for (stack, kind), sites in grouped.items():
        own = [values[site] for site in sites]
        new = [after[site] for site in sites if site in after] if after else []
        panels.append(
            Panel(
                label=f"{stack} · {kind}",
                layers=tuple(layer_label(site.layer, site.call) for site in sites),
                cells=_means(own),
                group=group_key(stack, kind),
                after=_means(new) if len(new) == len(sites) else None,
                by_example=_by_site(own),
            )
        )
    return tuple(panels)


def sink_share(trace: Trace, epsilon: float) -> float | None:
    """Share of (example, head) pairs with a key above epsilon; None if no key can be judged."""
    strongest = [values.flatten() for values in _strongest(trace).values()]
    judged = torch.cat([values[values.isfinite()] for values in strongest])
    return (judged > epsilon).float().mean().item() if len(judged) else None


def mean_received(record: Record) -> torch.Tensor:
    """(example, head, key): mean attention from the rows that see a key, NaN if they are fewer than four.

    Heads that were not kept are NaN.
    """
    seen = record["seen"].detach().float()[:, None]
    received = record["received"].detach().float() / seen
    return at_numbers(received.where(seen >= MIN_ROWS, torch.nan).cpu(), record, "received")


def layer_label(layer: int, call: int) -> str:
    """A layer on the page: its number, and the call where the layer is called more than once."""
    return f"{layer}.{call}" if call else str(layer)


def _strongest(trace: Trace) -> dict[Site, torch.Tensor]:
    found = {}
    for site, record in statistics(trace).items():
        values = mean_received(record).nan_to_num(-torch.inf).amax(-1)
        found[site] = values.where(values.isfinite(), torch.nan)
    return found


def _means(values: list[torch.Tensor]) -> Cells:
    heads = max(value.shape[1] for value in values)
    rows = [[_number(cell) for cell in value.nanmean(0).tolist()] for value in values]
    return tuple(tuple(row + [None] * (heads - len(row))) for row in rows)


def _by_site(values: list[torch.Tensor]) -> np.ndarray:
    examples, heads = (max(value.shape[axis] for value in values) for axis in (0, 1))
    out = np.full((examples, len(values), heads), np.nan, dtype=np.float32)
    for layer, value in enumerate(values):
        out[: value.shape[0], layer, : value.shape[1]] = value.numpy()
    return out


def _parts(result: Result, across: str) -> dict[tuple[str, ...], pd.DataFrame]:
    """The rows of every stack and kind (and role), with the layers named as on the page."""
    frame = result.frame
    calls = frame["call"] if "call" in frame else [0] * len(frame)
    layers = [layer_label(int(layer), int(call)) for layer, call in zip(frame["layer"], calls, strict=True)]
    names = [name for name in frame.select_dtypes(exclude="number") if name not in ("example", across)]
    groups = frame.assign(layer=layers).groupby(names, sort=False) if names else [((), frame)]
    return {tuple(map(str, key)): part for key, part in groups}


def _panel(
    names: tuple[str, ...], part: pd.DataFrame, across: str, value: str, after: pd.DataFrame | None
) -> Panel:
    grid = _grid(part, across, value)
    title = "head" if across == "head" else "position from the first key"
    if across == "offset" and len(grid.columns) > WIDEST:
        grid, title = grid.iloc[:, :WIDEST], f"{title} (first {WIDEST})"
    new = None
    if after is not None:
        new = _cells(_grid(after, across, value).reindex(index=grid.index, columns=grid.columns))
    of_heads = across == "head" and {"stack", "kind"} <= set(part)
    return Panel(
        label=" · ".join(names) or value.replace("_", " "),
        layers=tuple(grid.index),
        cells=_cells(grid),
        across=title,
        group=group_key(*part[["stack", "kind"]].iloc[0]) if of_heads else "",
        after=new,
        by_example=_by_example(part, grid, value) if of_heads and "example" in part else None,
    )


def _grid(part: pd.DataFrame, across: str, value: str) -> pd.DataFrame:
    grid = part.pivot_table(index="layer", columns=across, values=value, sort=False, dropna=False)
    if across == "head":  # those that were not kept have their place
        return grid.reindex(columns=range(int(max(grid.columns)) + 1))
    return grid[sorted(grid.columns)]


def _by_example(part: pd.DataFrame, grid: pd.DataFrame, value: str) -> np.ndarray:
    means = part.groupby(["example", "layer", "head"], sort=False)[value].mean()
    examples, layers, heads = (means.index.get_level_values(level) for level in range(3))
    out = np.full((int(examples.max()) + 1, *grid.shape), np.nan, dtype=np.float32)
    out[examples, grid.index.get_indexer(layers), grid.columns.get_indexer(heads)] = means.to_numpy()
    return out


def _cells(grid: pd.DataFrame) -> Cells:
    return tuple(tuple(_number(cell) for cell in row) for row in grid.to_numpy(dtype=float).tolist())


def _number(value: float) -> float | None:
    return value if value == value else None
