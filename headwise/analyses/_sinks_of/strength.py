"""What the strongest key of a head writes: a rest, or a bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.analyses._heads import HEAD, by_tower
from headwise.analyses._received import MIN_ROWS, received, share_to_logits, with_rows
from headwise.analyses._sink_sentences import logit_clause
from headwise.analyses._sinks import check_options
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.errors import CaptureError
from headwise.probes.trace.fields import Record, at_heads, head_numbers
from headwise.probes.trace.frames import key_axis, labels, site_columns, statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace

NORMS = ("value_norm", "others_norm", "relative_norm", "written")
NORMS_BEHIND = ("write_norm", "others_write_norm", "relative_write_norm", "write_share")
"""Norms of the strongest key, before and behind W_O: its own, the median of others, their ratio, and its share of the
sum of attention times norm."""


def _summary(frame: pd.DataFrame, epsilon: float) -> str:
    return by_tower(frame, lambda part: _sentence(part, epsilon))


def _sentence(frame: pd.DataFrame, epsilon: float) -> str:
    sinks, told = frame[frame["sink"]], logit_clause(frame["to_logit"].mean())
    if sinks.empty:
        return f"none of {len(frame)} heads has a sink (alpha > {epsilon:g}){told}"
    alpha, norm = sinks["mean_received"].mean(), sinks["relative_norm"].median()
    written, behind = percent(sinks["written"].mean()), sinks["relative_write_norm"].median()
    projected = f" ({behind:.2g} behind W_O)" if behind == behind else ""
    return (
        f"{len(sinks)} of {len(frame)} heads have a sink (alpha > {epsilon:g}): it takes {percent(alpha)} of the "
        f"attention, its value is {norm:.2g} times as long{projected} as that of other keys, and it is {written} of "
        f"what they write{told}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="relative_norm",
    unit="ratio",
    description="Norm of the value of the key that a head looks at most, over the median norm of the other keys of the "
    "head. Near 0 the head rests there; 1 or more, it adds a constant.",
    summary=_summary,
    needs=("stats", "norms"),
    title="Sink strength",
)
def sink_strength(trace: Trace, epsilon: float = 0.3, min_rows: int = MIN_ROWS) -> pd.DataFrame:
    """What the key that takes the most of a head's attention writes, beside what it takes (ours).

    Args:
        trace: a capture with statistics and `norms`.
        epsilon: a key is a sink of a head when its mean received attention exceeds this share.
        min_rows: leave out keys that fewer rows may see.

    Returns:
        One row per example and head: `position`, `token` and `role` of its strongest key, `mean_received`, whether it
        is a `sink`, `value_norm` (of v, before W_O), `others_norm` (median over the other keys), `relative_norm`, their
        ratio, NaN where there is no other key; `written`, its share of the sum of attention times norm over all keys;
        the same four behind W_O, `write_norm`, `others_write_norm`, `relative_write_norm` and `write_share`, NaN where
        W_O is not known; and `to_logit`, the share of the head's attention that goes to a sink logit and so to no key.

    Raises:
        InputError: epsilon is not a share or min_rows is below 1.
        CaptureError: the trace holds no statistics or no norms, or no key was seen by `min_rows` rows.
    """
    from pandas import DataFrame

    check_options(epsilon, min_rows)
    found = [
        row
        for site, record in statistics(trace.records).items()
        if "value_norm" in record
        for row in _rows(trace, site, record, epsilon, min_rows)
    ]
    if not found:
        with_rows(received(trace), min_rows)
        raise CaptureError(
            "No site of this trace has both statistics and norms of values.",
            evidence=f"{len(trace.sites)} sites",
            remedy="Capture again with hw.capture(subject, norms=True).",
        )
    return DataFrame(found)


def _rows(trace: Trace, site: Site, record: Record, epsilon: float, min_rows: int) -> list[dict[str, Any]]:
    sums = record["received"].detach().float().cpu()
    seen = record["n_queries"].detach().float().cpu()[:, None]
    numbers = head_numbers(record, "received")
    norms = {
        name: at_heads(record, name, numbers).detach().float().cpu().where(seen > 0, torch.nan)
        for name in ("value_norm", "write_norm")
        if name in record
    }
    norms.setdefault("write_norm", torch.full_like(sums, torch.nan))
    alpha = (sums / seen).where(seen >= min_rows, torch.nan)
    best = alpha.nan_to_num(-1).argmax(-1, keepdim=True)
    columns: dict[str, Tensor] = {
        "mean_received": alpha.gather(-1, best)[..., 0],
        **_compared(sums, norms["value_norm"], best, NORMS),
        **_compared(sums, norms["write_norm"], best, NORMS_BEHIND),
        "to_logit": share_to_logits(record),
    }
    tokens, roles = labels(key_axis(trace.layout, site), len(sums), sums.shape[2])
    rows, kept = [], torch.tensor([number in head_numbers(record, "value_norm") for number in numbers])
    for example, head in (~columns["mean_received"].isnan() & kept).nonzero().tolist():
        position = int(best[example, head])
        numeric = {name: float(values[example, head]) for name, values in columns.items()}
        rows.append(
            {
                "example": example,
                **site_columns(site),
                "head": numbers[head],
                "position": position,
                "token": tokens[example, position],
                "role": roles[example, position],
                "sink": numeric["mean_received"] > epsilon,
                **numeric,
            }
        )
    return rows


def _compared(sums: Tensor, norms: Tensor, best: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The columns of `NORMS`, by these names."""
    own, others = norms.gather(-1, best)[..., 0], norms.scatter(-1, best, torch.nan).nanmedian(-1)[0]
    share = (sums * norms).gather(-1, best)[..., 0] / (sums * norms).nansum(-1)
    return dict(zip(names, (own, others, own / others, share), strict=True))
