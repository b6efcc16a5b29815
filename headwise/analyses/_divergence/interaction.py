"""Cross-modal interaction intensity: how much the rows of one modality look at keys of each role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from headwise.analyses._heads import by_tower
from headwise.analyses.record import analysis
from headwise.analyses.sentences import kinds_of, percent
from headwise.errors import CaptureError
from headwise.layout import ROLES, role_groups
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import Record
from headwise.probes.trace.frames import roles_present, site_columns, statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace

Queries = Literal["text", "generated", "last", "image", "audio"]


def _summary(frame: pd.DataFrame, by: str, queries: str) -> str:
    return by_tower(frame, lambda part: _clause(part, by, queries))


def _clause(frame: pd.DataFrame, by: str, queries: str) -> str:
    shares = frame.groupby(by, sort=False)["intensity"].mean().sort_values(ascending=False)
    said = []
    for name, share in list(shares.items())[:3]:
        layers = frame[frame[by] == name].groupby("layer")["intensity"].mean()
        said.append(f"{name} {percent(share)} (most in layer {layers.idxmax()}, {percent(layers.max())})")
    return f"{queries} rows look at {', '.join(said)}"


@analysis(
    kind="layers",
    keys=("example", "tower", "kind", "layer", "call", "{by}"),
    value="intensity",
    unit="share",
    description="Attention that the {queries} rows of a layer give to the keys of each {by}, mean over heads and rows; "
    "1 is all of it.",
    summary=_summary,
    writes=True,
    title="Interaction intensity",
)
def interaction(
    trace: Trace,
    queries: Queries = "text",
    by: Literal["role", "modality"] = "modality",
    prompt_row: bool = False,
) -> pd.DataFrame:
    """Interaction intensity of every layer: how much the rows of one modality look at another.

    Mean over heads and rows, per layer: I of Eq. 1 of arXiv 2511.22663, with `queries="generated"` and the line of
    `image`. The shares of a layer add up to 1, or to less where the model has sink logits.

    Args:
        trace: a capture with statistics.
        queries: the rows: `"text"`, all text, of the prompt only what stands behind its image or sound (ours);
            `"generated"`, rows that read a generated token, as in the paper's code; `"last"`, the last of the prompt;
            `"image"` or `"audio"`, those of a model that generates pictures or of an encoder.
        by: of the keys, `"modality"` or `"role"`.
        prompt_row: with `"generated"`, also the last row of the prompt, which predicts the first generated token. The
            paper's code skips it.

    Returns:
        One row per example, layer and modality (or role) that occurs among the keys.

    Raises:
        CaptureError: the trace holds no statistics, or no such rows.
    """
    from pandas import DataFrame

    groups = role_groups(by, roles_present(trace.records, trace.layout))
    found: list[dict[str, Any]] = []
    for site, record in statistics(trace.records).items():
        rows = _rows(trace, site, record, queries, prompt_row=prompt_row)
        if rows is None:
            continue
        mass = record["mass"].detach().double()
        mass = mass.where(rows[:, None, :, None].to(mass.device), torch.nan).nanmean((1, 2)).cpu()
        for example, shares in enumerate(mass):
            if shares.isnan().all():
                continue
            found += [
                {
                    "example": example,
                    **site_columns(site),
                    by: name,
                    "intensity": float(shares[members].sum()),
                }
                | {"rows": int(rows[example].sum())}
                for name, members in groups.items()
            ]
    if not found:
        raise CaptureError(
            f"This trace has no {queries} rows.",
            evidence=kinds_of(trace.sites),
            remedy="Run subject.model.generate(**inputs, max_new_tokens=8) inside hw.capture(subject)."
            if queries == "generated"
            else 'Use queries="text" or "last", or capture an input that has such rows.',
        )
    frame = DataFrame(found)
    there = frame.groupby(["tower", "kind", by])["intensity"].transform("max") > 0  # else no key has the role
    return frame[there].reset_index(drop=True)


def _rows(trace: Trace, site: Site, record: Record, queries: Queries, *, prompt_row: bool) -> Tensor | None:
    """True on the rows that are meant, (example, query); None where a tower has none."""
    axis = trace.layout.axes.get(site.tower)
    examples = record["mass"].shape[0]
    if axis is None or examples % len(axis.roles):
        return None
    roles = axis.repeat(examples // len(axis.roles)).roles

    def having(*names: str) -> Tensor:
        return torch.isin(roles, torch.tensor([ROLES.index(name) for name in names], dtype=roles.dtype))

    generated, seen = having("generated"), having("image", "audio", "silence")
    prompt = ~having("padding") & ~generated
    last = prompt & (prompt.flip(1).cumsum(1).flip(1) == 1)
    if queries == "text":
        behind = (seen.cumsum(1) > 0) | ~seen.any(1, keepdim=True)
        chosen = (prompt & ~seen & behind) | generated
        chosen &= ~having("cached")
    elif queries == "generated":
        chosen = generated | (last & generated.any(1, keepdim=True)) if prompt_row else generated
    else:
        chosen = last & ~seen if queries == "last" else having(queries)
    chosen = chosen[:, record["positions"].cpu().clamp_max(roles.shape[1] - 1)]
    chosen = chosen & ~record["n_keys"].isnan().cpu()
    return chosen if bool(chosen.any()) else None
