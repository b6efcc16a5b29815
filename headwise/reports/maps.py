"""Layer × head maps: from tables of results, and the strongest key of every head from a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from headwise.analyses._sinks import MIN_ROWS
from headwise.probes.frames import statistics
from headwise.reports.content import Metric, Panel

if TYPE_CHECKING:
    import pandas as pd

    from headwise.analyses import Result
    from headwise.probes.records import Record
    from headwise.probes.trace import Trace

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


def maps_of(result: Result) -> list[Metric]:
    """The map of a result, mean over examples; none for a result that has no layers."""
    across = next((name for name in ("head", "offset") if name in result.frame), None)
    if across is None or "layer" not in result.frame:
        return []
    frame = result.mean() if across == "head" else result.frame
    groups = list(frame.select_dtypes(exclude="number"))
    panels = [
        _panel(" · ".join(part[groups].iloc[0]), part, across, result.value)
        for _, part in frame.groupby(groups, sort=False)
    ]
    if len(groups) > 2:  # roles that a stack does not have
        panels = [panel for panel in panels if any(any(row) for row in panel.cells)]
    title, description = WORDING.get(result.name, (result.name.replace("_", " ").capitalize(), ""))
    return [Metric(result.name, title, result.unit, description or result.description, tuple(panels))]


def strongest_keys(trace: Trace) -> Metric:
    """The largest mean attention that one key receives from a head, mean over examples: where sinks are."""
    rows: dict[str, dict[str, list[float | None]]] = {}
    for site, record in statistics(trace).items():
        strongest = mean_received(record).nan_to_num(-torch.inf).amax(-1)
        means = strongest.where(strongest.isfinite(), torch.nan).nanmean(0)
        layer = f"{site.layer}.{site.call}" if site.call else str(site.layer)
        rows.setdefault(f"{site.stack} · {site.kind}", {})[layer] = [
            _number(value) for value in means.tolist()
        ]
    panels = tuple(
        Panel(label, tuple(layers), tuple(tuple(row) for row in layers.values()))
        for label, layers in rows.items()
    )
    description = (
        "The largest share of attention that one key receives from a head, mean over the rows that see "
        f"the key ({MIN_ROWS} or more). Bright heads have a sink."
    )
    return Metric("strongest_key", "Strongest key of each head", "share", description, panels)


def sink_share(trace: Trace, epsilon: float) -> float | None:
    """Share of (example, head) pairs with a key above epsilon; None if no key can be judged."""
    strongest = [
        mean_received(record).nan_to_num(-torch.inf).amax(-1).flatten()
        for record in statistics(trace).values()
    ]
    judged = torch.cat([values[values.isfinite()] for values in strongest])
    return (judged > epsilon).float().mean().item() if len(judged) else None


def mean_received(record: Record) -> torch.Tensor:
    """(example, head, key): mean attention from the rows that see a key, NaN if they are fewer than four."""
    seen = record["seen"].detach().float()[:, None]
    received = record["received"].detach().float() / seen
    return received.where(seen >= MIN_ROWS, torch.nan).cpu()


def _panel(label: str, part: pd.DataFrame, across: str, value: str) -> Panel:
    calls = part["call"] if "call" in part else [0] * len(part)
    layers = [
        f"{layer}.{call}" if call else str(layer) for layer, call in zip(part["layer"], calls, strict=True)
    ]
    grid = part.assign(layer=layers).pivot_table(
        index="layer", columns=across, values=value, sort=False, dropna=False
    )
    grid = grid[sorted(grid.columns)]
    title = "head" if across == "head" else "position from the first key"
    if across == "offset" and len(grid.columns) > WIDEST:
        grid, title = grid.iloc[:, :WIDEST], f"{title} (first {WIDEST})"
    cells = tuple(tuple(_number(cell) for cell in row) for row in grid.to_numpy().tolist())
    return Panel(label, tuple(grid.index), cells, title)


def _number(value: float) -> float | None:
    return value if value == value else None
