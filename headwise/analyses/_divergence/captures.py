"""How far two captures of the same inputs are apart: two checkpoints, or a model without and with a fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from headwise.analyses._divergence.measure import PATTERNS, OutputDistance, PatternDistance
from headwise.analyses._heads import HEAD, by_tower, extremes
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.functional.divergence import head_divergence as outputs_apart
from headwise.layout import ROLES
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import head_numbers
from headwise.probes.trace.frames import site_columns

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace

Rows = Literal["all", "generated"]


def _sentence(frame: pd.DataFrame) -> str:
    return by_tower(frame, _clause)


def _clause(frame: pd.DataFrame) -> str:
    low, high = extremes(frame, "divergence")
    if not high[1]:
        return "no head differs"
    return (
        f"heads differ by {frame['divergence'].mean():.3g} on average, from {low[1]:.3g} in {low[0]} to "
        f"{high[1]:.3g} in {high[0]}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="divergence",
    unit="distance",
    inputs="pair",
    needs=("heads",),
    description="Distance ({distance}) between a head's outputs before W_O in two captures of the same inputs, mean "
    "over rows ({rows}); 0 is no change.",
    summary=_sentence,
    title="Divergence between captures",
)
def trace_divergence(
    before: Trace, after: Trace, distance: OutputDistance = "plain", rows: Rows = "all"
) -> pd.DataFrame:
    """How far the outputs of every head are apart in two captures of the same inputs.

    Two checkpoints of one architecture (base and tuned, full and quantised, early and late), or one model without and
    with a fix.

    Args:
        before: a capture with head outputs.
        after: another, of the same inputs.
        distance: `"plain"` (Euclidean), `"relative"` to the norm before, or `"cosine"`.
        rows: `"all"`, or `"generated"`: the rows of generated tokens and the last of the prompt, which together predict
            what was generated.

    Returns:
        One row per example and head.

    Raises:
        CaptureError: a trace holds no head outputs.
        InputError: the models are of different shape, or nothing was generated.
    """

    def apart(one: Tensor, two: Tensor) -> Tensor:
        return outputs_apart(one, two, distance=distance).transpose(1, 2)

    return _table(before, after, "z", apart, rows)


@analysis(
    kind="heads",
    keys=HEAD,
    value="divergence",
    unit="distance",
    inputs="pair",
    needs=("maps",),
    description="Distance ({distance}) between a head's rows of attention in two captures of the same inputs, mean "
    "over rows ({rows}); 0 is no change.",
    summary=_sentence,
    title="Pattern divergence between captures",
)
def pattern_divergence(
    before: Trace, after: Trace, distance: PatternDistance = "jensen_shannon", rows: Rows = "all"
) -> pd.DataFrame:
    """How far the patterns of every head are apart in two captures of the same inputs.

    Args:
        before: a capture with patterns.
        after: another, of the same inputs.
        distance: `"jensen_shannon"`, 0 to ln 2 nats, or `"total_variation"`, the share of the weight that has moved.
        rows: `"all"`, or `"generated"`, as of `trace_divergence`.

    Returns:
        One row per example and head.

    Raises:
        CaptureError: a trace holds no patterns.
        InputError: the models are of different shape, or nothing was generated.
    """
    return _table(before, after, "maps", PATTERNS[distance], rows)


def _table(
    before: Trace, after: Trace, field: str, apart: Callable[[Tensor, Tensor], Tensor], rows: Rows
) -> pd.DataFrame:
    """One row per example and head: the mean over rows that are no padding."""
    from pandas import DataFrame

    found: list[dict[str, Any]] = []
    for site, one, two, heads, positions in _pairs(before, after, field):
        values = apart(one, two)
        counted = _counted(before, site, len(values), positions, rows).to(values.device)
        values = values.where(counted[:, None], torch.nan)
        means = values.double().nanmean(-1)
        for example, row in enumerate(means.tolist()):
            found += [
                {"example": example, **site_columns(site), "head": head, "divergence": value}
                for head, value in zip(heads, row, strict=True)
                if value == value  # NaN: an example that this tower did not see
            ]
    if not found:
        raise InputError(
            "There are no such rows in these captures.",
            evidence=f"rows={rows!r}",
            remedy='Run model.generate inside hw.capture, or use rows="all".',
        )
    return DataFrame(found)


def _pairs(
    before: Trace, after: Trace, field: str
) -> Iterator[tuple[Site, Tensor, Tensor, list[int], Tensor]]:
    """Every site of both, with one field in each, the numbers of its heads and the positions of its rows."""
    one, two = (
        {site.place: (site, record) for site, record in trace.records.items() if field in record}
        for trace in (before, after)
    )
    chosen = field == "maps" and any("row_positions" in record for _, record in one.values())
    for place, (site, mine) in one.items():
        theirs = two[place][1]
        at = mine["row_positions" if chosen else "positions"]
        yield site, mine[field].detach(), theirs[field].detach(), head_numbers(mine, field), at


def _counted(trace: Trace, site: Site, examples: int, positions: Tensor, rows: Rows) -> Tensor:
    """True on the rows that count, (example, row): no padding, and those that predict a generated token if so asked."""
    axis = trace.layout.axes.get(site.tower)
    if axis is None or examples % len(axis.roles):
        return torch.full((examples, len(positions)), rows == "all")
    axis = axis.repeat(examples // len(axis.roles))
    counted = axis.valid
    if rows == "generated":
        counted = axis.roles == ROLES.index("generated")
        first = counted & (counted.cumsum(1) == 1)
        counted = counted.clone()
        counted[:, :-1] |= first[:, 1:]
    return counted[:, positions.cpu().clamp_max(counted.shape[1] - 1)]
