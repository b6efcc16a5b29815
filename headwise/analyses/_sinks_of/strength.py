"""What the strongest key of a head writes: a rest, or a bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.analyses._heads import HEAD, by_tower
from headwise.analyses._received import MIN_ROWS, received, with_rows
from headwise.analyses._sinks import check_options
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.errors import CaptureError
from headwise.probes.trace.fields import Record, head_numbers
from headwise.probes.trace.frames import key_axis, labels, site_columns, statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame, epsilon: float) -> str:
    return by_tower(frame, lambda part: _sentence(part, epsilon))


def _sentence(frame: pd.DataFrame, epsilon: float) -> str:
    sinks, logits = frame[frame["sink"]], frame["to_logit"].mean()
    told = (
        f"; sink logits take {percent(logits)} of the attention and write nothing" if logits > 0.005 else ""
    )
    if sinks.empty:
        return f"none of {len(frame)} heads has a sink (alpha > {epsilon:g}){told}"
    alpha, norm = sinks["mean_received"].mean(), sinks["relative_norm"].median()
    written = percent(sinks["written"].mean())
    return (
        f"{len(sinks)} of {len(frame)} heads have a sink (alpha > {epsilon:g}): it takes {percent(alpha)} of the "
        f"attention, its value is {norm:.2g} times as long as that of other keys, and it is {written} of what they "
        f"write{told}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="relative_norm",
    unit="ratio",
    description="Norm of the value of the key that a head looks at most, over the median norm of the other keys of the "
    "head. Near 0 the head rests there; 1 or more, it adds a constant.",
    summary=_summary,
    needs=("stats", "qkv"),
    title="Sink strength",
)
def sink_strength(trace: Trace, epsilon: float = 0.3, min_rows: int = MIN_ROWS) -> pd.DataFrame:
    """What the key that takes the most of a head's attention writes, beside what it takes (ours).

    Args:
        trace: a capture with statistics and `qkv`.
        epsilon: a key is a sink of a head when its mean received attention exceeds this share.
        min_rows: leave out keys that fewer rows may see.

    Returns:
        One row per example and head: `position`, `token` and `role` of its strongest key, `mean_received`, whether it
        is a `sink`, `value_norm` (of v, before W_O), `others_norm` (median over the other keys), `relative_norm`, their
        ratio, NaN where there is no other key; `written`, its share of the sum of attention times norm over all keys;
        and `to_logit`, the share of the head's attention that goes to a sink logit and so to no key.

    Raises:
        InputError: epsilon is not a share or min_rows is below 1.
        CaptureError: the trace holds no statistics or no values, no key was seen by `min_rows` rows, a sliding
            cache has dropped values, or heads were chosen of which nobody knows what key heads they read.
    """
    from pandas import DataFrame

    check_options(epsilon, min_rows)
    found = [
        row
        for site, record in statistics(trace.records).items()
        if "v" in record
        for row in _rows(trace, site, record, epsilon, min_rows)
    ]
    if not found:
        with_rows(received(trace), min_rows)
        raise CaptureError(
            "No site of this trace has both statistics and values.",
            evidence=f"{len(trace.sites)} sites",
            remedy="Capture again with hw.capture(subject, qkv=True).",
        )
    return DataFrame(found)


def _rows(trace: Trace, site: Site, record: Record, epsilon: float, min_rows: int) -> list[dict[str, Any]]:
    sums = record["received"].detach().float().cpu()
    seen = record["n_queries"].detach().float().cpu()[:, None]
    norms = record["v"].detach().float().norm(dim=-1).cpu()[:, _key_heads(site, record)]
    if norms.shape[2] != seen.shape[2]:
        raise CaptureError(
            f"The values of some keys of {site} are gone: a sliding cache drops them.",
            evidence=f"values of {norms.shape[2]} of {seen.shape[2]} keys",
            remedy="Capture the prompt alone, or generate with use_cache=False.",
        )
    norms = norms.where(seen > 0, torch.nan)
    weight = 1.0 - record["mass"].detach().float().sum(-1).nanmean(-1).cpu()
    alpha = (sums / seen).where(seen >= min_rows, torch.nan)
    best = alpha.nan_to_num(-1).argmax(-1, keepdim=True)
    others = norms.scatter(-1, best, torch.nan).nanmedian(-1)[0]
    columns: dict[str, Tensor] = {
        "mean_received": alpha.gather(-1, best)[..., 0],
        "value_norm": norms.gather(-1, best)[..., 0],
        "others_norm": others,
        "written": (sums * norms).gather(-1, best)[..., 0] / (sums * norms).nansum(-1),
        "to_logit": weight.clamp_min(0.0),
    }
    columns["relative_norm"] = columns["value_norm"] / others
    tokens, roles = labels(key_axis(trace.layout, site), len(sums), sums.shape[2])
    rows, numbers = [], head_numbers(record, "received")
    for example, head in (~columns["mean_received"].isnan()).nonzero().tolist():
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


def _key_heads(site: Site, record: Record) -> list[int]:
    """Along the heads of the statistics, the index of the key head that each reads."""
    heads, keys = head_numbers(record, "received"), head_numbers(record, "v")
    if "key_heads" not in record and "query_heads" not in record:
        groups = record["q"].shape[1] // len(keys)
        return [head // groups for head in heads]
    if head_numbers(record, "q") == keys and set(heads) <= set(keys):
        return [keys.index(head) for head in heads]
    raise CaptureError(
        f"Of chosen heads of {site}, this trace does not say which key heads they read.",
        evidence=f"statistics of heads {heads}, values of key heads {keys}",
        remedy="Capture again with hw.capture(subject, qkv=True).",
    )
