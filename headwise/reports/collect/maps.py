"""Layer × head maps: from tables of results, and the strongest key of every head from a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from headwise.analyses import HEAD
from headwise.analyses._received import MIN_ROWS
from headwise.figures.labels import said
from headwise.figures.maps import axis_title
from headwise.reports.collect.shares import KeyShares, by_tower
from headwise.reports.content.content import Cells, HeadMap, MapPanel
from headwise.reports.content.formatting import group_key, known

if TYPE_CHECKING:
    import pandas as pd

    from headwise.figures.chart import Panel as ChartPanel
    from headwise.probes.attach.sites import Site
    from headwise.results.result import Result

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


def is_map(result: Result) -> bool:
    """True for a result with one number per head (or a word per example), or per layer and something across."""
    layered = result.kind == "matrix" and result.axes[0] == "layer" and "example" not in result.keys
    heads = result.kind in ("heads", "classes") and not is_word_map(result)
    return (heads or layered) and len(result.frame) > 0


def is_word_map(result: Result) -> bool:
    """True for a result that has one word for every head of a model, whatever the example."""
    return result.kind == "classes" and set(result.keys) == set(HEAD[1:]) and len(result.frame) > 0


def maps_of(result: Result, after: Result | None = None) -> list[HeadMap]:
    """The map of a result, mean over examples; none for a result that is no map.

    Args:
        result: what is shown.
        after: the same analysis with a fix on.
    """
    if not is_map(result):
        return []
    own, new = result.panels(), {}
    if after is not None:
        new = {panel.names: panel.grid for panel in after.panels()}
    panels = [_panel(result, panel, new.get(panel.names)) for panel in own]
    if any(len(panel.names) > 2 for panel in own):  # roles that a tower does not have
        panels = [panel for panel in panels if any(any(row) for row in panel.cells)]
    title, description = WORDING.get(result.name, (said(result.name).capitalize(), ""))
    key = "".join(character if character.isalnum() else "_" for character in result.name) or "metric"
    unit = "share" if result.kind == "classes" else result.unit
    return [HeadMap(key, title, unit, description or result.description, tuple(panels))]


def strongest_keys(shares: KeyShares, after: KeyShares | None = None) -> HeadMap:
    """The largest mean attention that one key receives from a head, mean over examples: where sinks are."""
    panels = site_panels(_strongest(shares), _strongest(after) if after is not None else None)
    description = (
        "The largest share of attention that one key receives from a head, mean over the rows that see "
        f"the key ({MIN_ROWS} or more). Bright heads have a sink."
    )
    return HeadMap("strongest_key", "Strongest key of each head", "share", description, panels)


def without_sinks(
    values: Mapping[Site, torch.Tensor], after: Mapping[Site, torch.Tensor] | None = None
) -> HeadMap:
    """Row entropy with the sinks left out."""
    description = (
        "Row entropy when the keys that a tenth of the heads have as a sink are left out and the rest of each row is "
        "scaled up to one. Beside the row entropy it tells a head that parks its attention on a sink (this map "
        "bright, that one dark) from a head that picks something out (both dark)."
    )
    return HeadMap(
        "entropy_without_sinks",
        "Row entropy without sinks",
        "share",
        description,
        site_panels(values, after),
    )


def site_panels(
    values: Mapping[Site, torch.Tensor], after: Mapping[Site, torch.Tensor] | None = None
) -> tuple[MapPanel, ...]:
    """Panels of values that are known per site, (example, head)."""
    panels = []
    for (tower, kind), sites in by_tower(values).items():
        own = [values[site] for site in sites]
        new = [after[site] for site in sites if site in after] if after else []
        panels.append(
            MapPanel(
                label=f"{tower} · {kind}",
                layers=tuple(layer_label(site.layer, site.call) for site in sites),
                cells=_means(own),
                group=group_key(tower, kind),
                after=_means(new) if len(new) == len(sites) else None,
                by_example=_by_site(own),
            )
        )
    return tuple(panels)


def sink_share(shares: KeyShares, epsilon: float) -> float | None:
    """Share of (example, head) pairs with a key above epsilon; None if no key can be judged."""
    strongest = [values.flatten() for values in _strongest(shares).values()]
    judged = torch.cat([values[values.isfinite()] for values in strongest])
    return (judged > epsilon).float().mean().item() if len(judged) else None


FIRST_CALL = ".0"
"""End of a layer's name in a figure that the page leaves out, so that maps and heads have one address."""


def layer_label(layer: int, call: int) -> str:
    """A layer on the page: its number, and the call where the layer is called more than once."""
    return f"{layer}.{call}" if call else str(layer)


def _strongest(shares: KeyShares) -> dict[Site, torch.Tensor]:
    largest = {site: share.nan_to_num(-torch.inf).amax(-1) for site, share in shares.items()}
    return {site: values.where(values.isfinite(), torch.nan) for site, values in largest.items()}


def _means(values: list[torch.Tensor]) -> Cells:
    heads = max(value.shape[1] for value in values)
    rows = [[known(cell) for cell in value.nanmean(0).tolist()] for value in values]
    return tuple(tuple(row + [None] * (heads - len(row))) for row in rows)


def _by_site(values: list[torch.Tensor]) -> np.ndarray:
    examples, heads = (max(value.shape[axis] for value in values) for axis in (0, 1))
    out = np.full((examples, len(values), heads), np.nan, dtype=np.float32)
    for layer, value in enumerate(values):
        out[: value.shape[0], layer, : value.shape[1]] = value.numpy()
    return out


def _panel(result: Result, panel: ChartPanel, after: pd.DataFrame | None) -> MapPanel:
    grid, across = panel.grid, result.axes[1]
    title = "head" if across == "head" else axis_title(across)
    if across != "head" and len(grid.columns) > WIDEST:
        grid, title = grid.iloc[:, :WIDEST], f"{title} (first {WIDEST})"
    of_heads = across == "head" and {"tower", "kind"} <= set(result.keys)
    return MapPanel(
        label=" · ".join(panel.names) or said(result.value),
        layers=tuple(str(name).removesuffix(FIRST_CALL) for name in grid.index),
        cells=_cells(grid),
        across=title,
        group=group_key(*panel.part[["tower", "kind"]].iloc[0]) if of_heads else "",
        after=None if after is None else _cells(after.reindex(index=grid.index, columns=grid.columns)),
        by_example=_by_example(panel.part, grid, result.value)
        if of_heads and result.kind == "heads" and "example" in result.keys
        else None,
    )


def _by_example(part: pd.DataFrame, grid: pd.DataFrame, value: str) -> np.ndarray:
    means = part.groupby(["example", "layer", "head"], sort=False)[value].mean()
    examples, layers, heads = (means.index.get_level_values(level) for level in range(3))
    out = np.full((int(examples.max()) + 1, *grid.shape), np.nan)
    out[examples, grid.index.get_indexer(layers), grid.columns.get_indexer(heads)] = means.to_numpy()
    return out


def _cells(grid: pd.DataFrame) -> Cells:
    return tuple(tuple(known(cell) for cell in row) for row in grid.to_numpy(dtype=float).tolist())
