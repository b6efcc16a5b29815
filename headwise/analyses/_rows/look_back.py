"""How much of its attention each written token gives to the image, the sound, the source and the text before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._rows.written import Rows, Written, written
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.layout import ROLES, role_groups
from headwise.probes.trace.frames import key_axis, site_columns, statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.fields import Record
    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame, by: str) -> str:
    clauses = []
    for (tower, kind), part in frame.groupby(["tower", "kind"], sort=False):
        steps = part.groupby("step")["mass"].size().index
        changes = [_change(rows, name, steps) for name, rows in part.groupby(by, sort=False)]
        clauses.append(f"{tower} {kind}: {', '.join(changes)}")
    count = int(frame["step"].max()) + 1
    return f"Attention of the {count} rows that write tokens, first to last. {'; '.join(clauses)}."


def _change(part: pd.DataFrame, name: object, steps: pd.Index) -> str:
    means = part.groupby("step")["mass"].mean().reindex(steps)
    return f"{name} {percent(means.iloc[0])} to {percent(means.iloc[-1])}"


@analysis(
    kind="matrix",
    axes=("layer", "step"),
    keys=("example", "tower", "kind", "layer", "call", "{by}", "step"),
    value="mass",
    unit="share",
    description="Share of attention that the row which writes the token gives to the keys of each {by}, mean over the "
    "heads of a layer. `relative` divides it by the share of such keys among those that the row may see.",
    summary=_summary,
    writes=True,
    title="Look back",
)
def look_back(
    trace: Trace, by: Literal["role", "modality"] = "modality", rows: Rows = "auto"
) -> pd.DataFrame:
    """What each written token looked back at: attention to image, sound, source and text, layer by layer.

    The row that writes a token is the one that reads the token before it: step 0 is the last row of the prompt, which
    writes the first token. These are the curves along which work on hallucination and on token pruning shows how
    attention to the image fades; no single paper defines them (ours: means over heads, and `relative`).

    Args:
        trace: a capture with statistics, best of a generation.
        by: `"modality"` (text, image, audio, silence) or `"role"` (bos, content, image, generated, …).
        rows: `"generated"`, `"all"`, or `"auto"`: generated ones where there are any.

    Returns:
        One row per example, layer, modality (or role) that occurs among the keys, and step: `mass`, 0 to 1; `relative`,
        1 where the keys get what a flat row would give them, NaN where the row sees none; `token`, which the row
        writes; `position` of the row.

    Raises:
        InputError: `by` or `rows` is something else.
        CaptureError: the trace holds no statistics, or no row writes a token.
    """
    import pandas as pd

    records = statistics(trace.records)
    parts = [
        _of_site(trace, site, records[site], tower, by)
        for tower in written(trace, rows)
        for site in tower.sites
    ]
    frame = pd.concat(parts, ignore_index=True)
    there = frame.groupby(["tower", "kind", by])["mass"].transform("max") > 0
    return frame[there].reset_index(drop=True)


def _of_site(trace: Trace, site: Site, record: Record, rows: Written, by: str) -> pd.DataFrame:
    import pandas as pd

    mass = record["mass"].detach().float().nanmean(1)  # (example, row, role)
    visible = _visible(trace, site, record)
    example, row = np.nonzero(rows.chosen)
    parts = []
    for name, members in role_groups(by).items():
        share = mass[..., members].sum(-1).cpu().numpy()[example, row]
        keys = visible[..., members].sum(-1).cpu().numpy()[example, row]
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = np.where(keys > 0, share / keys, np.nan)
        parts.append(
            pd.DataFrame(
                {
                    "example": example,
                    **site_columns(site),
                    by: name,
                    "step": rows.step[example, row],
                    "mass": share,
                    "relative": relative,
                    "position": rows.positions[row],
                    "token": rows.token[example, row],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _visible(trace: Trace, site: Site, record: Record) -> Float[Tensor, "example row role"]:
    """Share of the keys that a row may see which have each role: of the last `n_keys` real keys up to the row in
    self-attention of a language model, of all real keys in cross-attention.
    """
    n_keys = record["n_keys"].detach().float().cpu()
    examples, axis = len(n_keys), key_axis(trace.layout, site)
    if axis is None or examples % len(axis.roles):
        return torch.full((*n_keys.shape, len(ROLES)), torch.nan)
    roles = axis.roles.long().cpu().repeat_interleave(examples // len(axis.roles), 0)
    real = ~record["n_queries"].isnan().cpu()
    width = min(real.shape[1], roles.shape[1])
    has = torch.nn.functional.one_hot(roles[:, :width], len(ROLES)).float() * real[:, :width, None]
    upto = torch.nn.functional.pad(has.cumsum(1), (0, 0, 1, 0))  # keys before each position
    if site.kind == "cross":
        counts = upto[:, -1:].expand(-1, n_keys.shape[1], -1)
    else:
        end = (record["positions"].cpu().long() + 1).clamp(max=width)
        total = upto.sum(-1)[:, end]
        seen = upto.sum(-1).contiguous()
        start = torch.searchsorted(seen, (total - n_keys.nan_to_num()).contiguous(), right=True) - 1
        counts = upto[:, end] - upto.gather(1, start.clamp_min(0)[..., None].expand(-1, -1, len(ROLES)))
    return counts / counts.sum(-1, keepdim=True)
