"""Which class of token takes the attention: ends, tags, punctuation or content, and how even the content's share is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.analyses._heads import HEAD
from headwise.analyses._received import check_known, received, side_by_side
from headwise.analyses.record import analysis
from headwise.analyses.sentences import one_sentence, percent
from headwise.functional.entropy import LEAST, evenness
from headwise.layout.roles import MARKS, is_punctuation
from headwise.probes.trace.fields import head_numbers
from headwise.probes.trace.frames import key_axis, labels, statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace

CLASSES = ("eos", "language", "special", "punctuation", "silence", "content")
"""Classes of keys. What a token without a class of its own is, its text says."""
_OF_ROLE = {"bos": "special", "task": "special", "padding": ""} | {name: name for name in CLASSES[:-1]}
_BY_TEXT = ("content", "first", "generated", "cached")

Facts = dict[str, dict[str, float]]
"""Tower and kind -> the numbers of the mean over all heads and rows, mean over examples."""


def _summary(frame: pd.DataFrame, facts: Facts | None) -> str:
    clauses = {}
    for (tower, kind), part in frame.groupby(["tower", "kind"], sort=False):
        shares = part[list(CLASSES)].mean()
        told = ", ".join(f"{name} {percent(share)}" for name, share in shares[shares > 0].items())
        even = facts and facts[f"{tower} {kind}"]
        clauses[f"{tower} {kind}"] = f"attention falls on {told}" + (
            f"; the mean row has evenness {even['evenness']:.2f}, on content alone {even['content_evenness']:.2f}"
            if even
            else ""
        )
    return one_sentence(clauses)


@analysis(
    kind="heads",
    keys=HEAD,
    value="content",
    unit="share",
    description="Share of a head's attention on content tokens, mean over rows; the rest goes to ends, tags, "
    "punctuation and silence.",
    summary=_summary,
    title="Sinks by class of token",
)
def class_sinks(trace: Trace) -> pd.DataFrame:
    """Share of every head's attention on each class of token, and how evenly the share of content is spread.

    After "Attention Sinks in Massively Multilingual Neural Machine Translation" (arXiv 2605.01229), which looks at
    cross-attention. First the mean over rows, then the filter (ours: the paper's order is not found).

    Args:
        trace: a capture with statistics.

    Returns:
        One row per example and head. Shares `eos`, `language`, `special`, `punctuation`, `silence` and `content`, which
        add up to 1, or to less where the model has sink logits; `evenness` of the mean row over all keys,
        `content_evenness` and `content_entropy` (0 to 1) of its content keys alone, scaled up to one, NaN where content
        gets next to nothing, the last also where there is but one; `content_keys`, their number.

    Raises:
        CaptureError: the trace holds no statistics, or its attention is NaN throughout.
    """
    from pandas import DataFrame, concat

    groups: dict[tuple[str, str], list[Site]] = {}
    records = statistics(trace.records)
    for site in records:
        groups.setdefault((site.tower, site.kind), []).append(site)
    parts, facts = [], {}
    for (tower, kind), sites in groups.items():
        seen = side_by_side([records[site]["n_queries"].detach().float().cpu()[:, None] for site in sites])
        weights = side_by_side([_mean_rows(records[site]) for site in sites])
        tokens, roles = labels(key_axis(trace.layout, sites[0]), len(weights), weights.shape[2])
        classes = torch.tensor(
            [[_class_of(*key) for key in zip(*row, strict=True)] for row in zip(roles, tokens, strict=True)]
        ).masked_fill(~(seen > 0).any(1), -1)
        found = _numbers(weights, classes)
        pooled = _numbers(weights.nanmean(1, keepdim=True), classes)
        facts[f"{tower} {kind}"] = {name: values.nanmean().item() for name, values in pooled.items()}
        example, head = (~found["content"].isnan()).nonzero(as_tuple=True)
        names = np.array(
            [
                (site.layer, site.call, number)
                for site in sites
                for number in head_numbers(records[site], "received")
            ]
        )[head.numpy()]
        place: dict[str, Any] = dict(zip(("layer", "call", "head"), names.reshape(-1, 3).T, strict=True))
        columns = {name: values[example, head].numpy() for name, values in found.items()}
        parts.append(
            DataFrame({"example": example.numpy(), "tower": tower, "kind": kind, **place, **columns})
        )
    frame = concat(parts, ignore_index=True).astype({"content_keys": int})
    if frame.empty:
        check_known(received(trace))
    frame.attrs["facts"] = facts
    return frame


def _mean_rows(record: Any) -> Float[Tensor, "example head key"]:
    """Attention of every key, mean over the rows that see any."""
    rows = (~record["n_keys"].isnan()).sum(-1)[:, None, None]
    return (record["received"].detach().float() / rows).cpu()


def _class_of(role: str | None, token: str | None) -> int:
    name = _OF_ROLE.get(role or "", "content")
    if token is not None and role in _BY_TEXT and (is_punctuation(token) or not MARKS.sub("", token)):
        name = "punctuation"
    return CLASSES.index(name) if name else -1


def _numbers(
    weights: Float[Tensor, "example head key"], classes: Int[Tensor, "example key"]
) -> dict[str, Float[Tensor, "example head"]]:
    real, known = (classes >= 0)[:, None], ~weights.isnan().all(-1)
    shares = {
        name: weights.where((classes == number)[:, None], 0.0).nansum(-1).where(known, torch.nan)
        for number, name in enumerate(CLASSES)
    }
    content = (classes == CLASSES.index("content"))[:, None] & known[..., None]
    keys = content.sum(-1)
    filtered = weights.where(content, 0.0).nan_to_num() / shares["content"].clamp_min(LEAST)[..., None]
    enough = shares["content"] > LEAST
    entropy = torch.special.entr(filtered).sum(-1) / keys.clamp_min(2).log()
    return {
        **shares,
        "evenness": evenness(weights.nan_to_num(), keys=real & known[..., None]),
        "content_evenness": evenness(filtered, keys=content).where(enough, torch.nan),
        "content_entropy": entropy.where(enough & (keys >= 2), torch.nan),
        "content_keys": keys.float(),
    }
