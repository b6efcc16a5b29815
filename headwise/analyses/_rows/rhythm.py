"""Rhythm of reasoning: where local heads reach far, and which tokens global heads return to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._rows.written import Rows, Written, written
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.errors import CaptureError, InputError
from headwise.functional.rhythm import kurtosis, peaks, rows_behind, windowed_distance
from headwise.probes.trace.fields import Record, head_numbers
from headwise.probes.trace.frames import statistics
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace

LAG = 1
"""An anchor follows a reach when that stands at its token or so many before it (ours)."""
_BEHIND = 4
"""Rows nearer than this do not count for receiver heads, after Bogdan et al., "Thought Anchors"."""


class Heads(NamedTuple):
    """Statistics of all heads of a tower, side by side in the order of layers."""

    names: list[str]
    reach: Float[Tensor, "example head row"]
    distance: Float[Tensor, "example head row"]
    later: Float[Tensor, "example head key"]
    behind: Float[Tensor, "example head key"]
    """Received from rows `_BEHIND` or more positions later."""


def _summary(frame: pd.DataFrame, facts: dict[str, Any] | None) -> str:
    far, kept = int(frame["waad_peak"].sum()), int(frame["fai_peak"].sum())
    counts = f"{far} of {len(frame)} tokens are peaks of WAAD, {kept} of FAI"
    anchors = frame[frame["fai_peak"]]
    if anchors.empty:
        return f"{counts}."
    observed, chance = anchors["after_reach"].mean(), frame["after_reach"].mean()
    lift = f", {observed / chance - 1:+.0%}" if chance > 0 else ""
    heads = "" if facts is None else f" Local heads: {facts['local']}; global heads: {facts['global']}."
    return (
        f"{counts}; {percent(observed)} of the FAI peaks stand at a WAAD peak or right behind one, "
        f"{percent(chance)} of all tokens do{lift}.{heads}"
    )


@analysis(
    kind="positions",
    keys=("example", "tower", "kind", "position"),
    value="waad",
    unit="positions",
    description="Mean distance, cut at {window} positions, that the local heads look back from a token; `fai` is the "
    "mean weight that later tokens give it in the global heads.",
    summary=_summary,
    needs=("stats", "near", "later"),
    sizes={"near": "window"},
    writes=True,
    title="Rhythm",
)
def rhythm(
    trace: Trace, window: int = 10, quantile: float = 0.3, peak_share: float = 0.4, rows: Rows = "auto"
) -> pd.DataFrame:
    """Preplan and anchor: how far each token makes the local heads reach (WAAD), and how much later tokens return to it
    in the global heads (FAI).

    "Attention Illuminates LLM Reasoning" (arXiv 2510.13554), which published no code. Heads of all layers are sorted by
    the mean distance they look back, over the chosen rows of an example; the lowest `quantile` are local, the highest
    global. The horizon of FAI is what was captured as `later`. Peaks, coupling and rounding are ours: a peak is no
    lower than its neighbours and among the highest `peak_share`.

    Args:
        trace: a capture with `near` and `later`: `hw.capture(subject, near=True, later=True)`, of one reading of prompt
            and response or of a generation.
        window: W, at which distances are cut; at most what was captured as `near`.
        quantile: share of the heads that are local, and that are global; at most 0.5.
        peak_share: a peak is among this share of the highest values.
        rows: the tokens R that the table is about, by the row that reads them: `"generated"`, `"all"`, or `"auto"`.

    Returns:
        One row per example and token: `waad`, 0 to W positions; `fai`, 0 to 1, NaN where no row stands that far behind;
        `receiver_fai`, the same over the 20 heads whose received attention has the highest kurtosis (at most a quarter
        of the heads, ours); `delta`, |WAAD of it and of the next|; `waad_peak`, `fai_peak`, `receiver_peak`;
        `after_reach`: a peak of WAAD stands at it or right before it.

    Raises:
        InputError: a parameter is out of range.
        CaptureError: the trace holds no `near` or `later`, or a smaller window.
    """
    import pandas as pd

    _check(window, quantile, peak_share)
    parts, facts = [], {}
    for tower in written(trace, rows):
        sites = [site for site in tower.sites if site.kind == "self"]
        records = {site: statistics(trace.records)[site] for site in sites}
        heads = _heads(records, window)
        chosen = torch.from_numpy(tower.chosen)
        reach = heads.distance.masked_fill(~chosen[:, None], torch.nan).nanmean(-1)
        order = torch.argsort(reach, dim=1, stable=True)
        size = max(1, round(quantile * order.shape[1]))
        usual = torch.argsort(reach.nanmean(0), stable=True)
        ends = {"local": usual[:size], "global": usual[-size:]}
        facts = {name: _named(heads.names, index) for name, index in ends.items()}
        spans = tuple(next(iter(records.values()))["later_span"].tolist())
        for example in range(len(chosen)):
            local, far = order[example, :size], order[example, -size:]
            parts.append(_of_example(heads, tower, example, local, far, spans, peak_share))
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs["facts"] = facts
    return frame


def _check(window: int, quantile: float, peak_share: float) -> None:
    if window < 1:
        raise InputError(f"window is 1 or more, got {window}.")
    if not 0.0 < quantile <= 0.5:
        raise InputError(f"quantile is above 0 and at most 0.5, got {quantile}.")
    if not 0.0 < peak_share <= 1.0:
        raise InputError(f"peak_share is above 0 and at most 1, got {peak_share}.")


def _named(names: list[str], index: Tensor) -> str:
    shown = [names[number] for number in index.tolist()]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def _heads(records: dict[Any, Record], window: int) -> Heads:
    names, parts = [], []
    for site, record in records.items():
        near = record["near"].detach().float().cpu()
        if near.shape[-1] < window:
            raise CaptureError(
                f"This trace holds the weights on {near.shape[-1]} keys near each row, and the window is {window}.",
                evidence=f"{site}",
                remedy=f"Capture again with hw.capture(subject, near={window}, later=True).",
            )
        total = record["mass"].detach().float().cpu().sum(-1)
        names += [head_name(site.layer, number) for number in head_numbers(record, "near")]
        parts.append(
            (
                windowed_distance(near[..., :window], total),
                record["distance"].detach().float().cpu(),
                record["later"].detach().float().cpu(),
                record["received"].detach().float().cpu() - _received_near(near, record),
            )
        )
    reach, distance, later, behind = (torch.cat(values, 1) for values in zip(*parts, strict=True))
    return Heads(names, reach, distance, later, behind)


def _received_near(
    near: Float[Tensor, "example head row offset"], record: Record
) -> Float[Tensor, "example head key"]:
    """What every key receives from its own row and the `_BEHIND - 1` after it."""
    keys = record["received"].shape[-1]
    positions = record["positions"].cpu().long()
    found = near.new_zeros(*near.shape[:2], keys)
    for offset in range(min(_BEHIND, near.shape[-1])):
        at = positions - offset
        inside = (at >= 0) & (at < keys)
        found.index_add_(2, at[inside], near[:, :, inside, offset].nan_to_num())
    return found


def _of_example(
    heads: Heads,
    tower: Written,
    example: int,
    local: Tensor,
    far: Tensor,
    span: tuple[int, int],
    peak_share: float,
) -> pd.DataFrame:
    import pandas as pd

    row = np.nonzero(tower.chosen[example])[0]
    at = tower.positions[row]
    keys = heads.later.shape[-1]
    is_row = torch.zeros(1, max(keys, int(tower.positions.max()) + 1), dtype=torch.bool)
    is_row[0, at] = True
    index = torch.from_numpy(row)
    waad = heads.reach[example, local].mean(0)[index].numpy()
    there = torch.from_numpy(at)
    n_rows = rows_behind(is_row, span)[0, there]
    n_rows = n_rows.where(n_rows > 0, torch.nan)
    fai = (heads.later[example, far].mean(0)[there] / n_rows).numpy()
    n_behind = rows_behind(is_row, (_BEHIND, keys))[0, :keys]
    known = is_row[0, :keys] & (n_behind > 0)
    spread = kurtosis(heads.behind[example] / n_behind.clamp_min(1), known).nan_to_num(-1.0)
    most = torch.argsort(spread, descending=True, stable=True)[: max(1, min(20, len(spread) // 4))]
    receiver = (heads.later[example, most].mean(0)[there] / n_rows).numpy()
    waad_peak = peaks(waad, peak_share)
    reach = waad_peak.copy()
    for lag in range(1, LAG + 1):
        reach[lag:] |= waad_peak[:-lag]
    return pd.DataFrame(
        {
            "example": example,
            "tower": tower.sites[0].tower,
            "kind": "self",
            "position": at,
            "token": tower.read[example, row],
            "role": tower.role[example, row],
            "waad": waad,
            "fai": fai,
            "receiver_fai": receiver,
            "delta": np.append(np.abs(np.diff(waad)), np.nan),
            "waad_peak": waad_peak,
            "fai_peak": peaks(fai, peak_share),
            "receiver_peak": peaks(receiver, peak_share),
            "after_reach": reach,
        }
    )
