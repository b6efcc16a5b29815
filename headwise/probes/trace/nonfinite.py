"""Numbers that are not there: rows, activations and logits that are NaN or infinite, counted when a capture ends.

Padding and rows that see no key are NaN by design and do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import RESIDUALS, Record

WORDS = {
    "residual": "residuals",
    "final_residual": "residuals behind the last layer",
    "q": "queries",
    "k": "keys",
    "rows": "rows",
    "v": "values",
    "z": "head outputs",
}
"""Kinds of numbers that are counted, in the order in which a layer computes them."""


@dataclass(frozen=True)
class Absent:
    """Count of NaN and infinite numbers of one kind at one site."""

    site: str
    what: str
    """`rows` of attention, `q`, `k`, `v`, `z`, `residual` or `final_residual`."""
    count: int
    of: int


Counts = dict[tuple[Site, str], tuple[int, int]]


def count(record: Record, valid: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Numbers of one record that are not finite, and numbers there are, by what they are.

    `valid` is False where rows of a field are padding or see no key, (example, row).
    """
    entries = {}
    if "maximum" in record:
        entries["rows"] = _count(record["maximum"][..., None], (record["n_keys"] > 0)[:, None])
    for field, axis in (
        ("maps", 1),
        ("q", 1),
        ("k", 1),
        ("v", 1),
        ("z", 2),
        *((name, None) for name in RESIDUALS),
    ):
        if field not in record or (field == "maps" and "rows" in entries):
            continue
        value, real = record[field].detach(), valid.get(field)
        if field == "maps":  # weights lie between 0 and 1: their sum is finite when all of them are
            value = value.sum(-1, keepdim=True, dtype=torch.promote_types(value.dtype, torch.float32))
        if real is not None and axis is not None:
            real = real.unsqueeze(axis)
        entries["rows" if field == "maps" else field] = _count(value, real)
    return entries


def _count(value: Tensor, real: Tensor | None) -> tuple[int, int]:
    absent = ~value.isfinite().all(-1)
    if real is None:
        return int(absent.sum()), absent.numel()
    real = real.to(absent.device).expand(absent.shape)
    return int((absent & real).sum()), int(real.sum())


def add(total: Counts, site: Site, counts: Mapping[str, tuple[int, int]]) -> None:
    """Adds the counts of one run."""
    for what, (absent, of) in counts.items():
        before = total.get((site, what), (0, 0))
        total[site, what] = (before[0] + absent, before[1] + of)


def absent(total: Counts) -> list[Absent]:
    """Counts of what is not finite, site by site in the order of the capture."""
    sites = list(dict.fromkeys(site for site, _ in total))
    return [
        Absent(str(site), what, *total[site, what])
        for site in sites
        for what in WORDS
        if total.get((site, what), (0, 0))[0]
    ]


def describe(entries: Sequence[Absent], sites: int, *, patched: bool) -> list[str]:
    """One line on where it begins and how far it goes; none when everything is finite."""
    if not entries:
        return []
    first, n_sites = entries[0], len({one.site for one in entries})
    whose = "the patched model's" if patched else "the model's own"
    kind = f"NaN in {whose} scores" if first.what == "rows" else f"NaN or infinite in {whose} numbers"
    of = f"{first.count:,} of {first.of:,} {WORDS[first.what]}"
    return [f"{first.site}: {of} are {kind}; it begins there ({n_sites} of {sites} sites)."]


def largest_logit(output: Any) -> Tensor | None:
    """The largest logit of every example at the last position: NaN or infinite where something went wrong before."""
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.dim() != 3 or not logits.is_floating_point():
        return None
    return logits.detach()[:, -1].amax(-1)


def describe_logits(tops: Sequence[Tensor]) -> list[str]:
    """One line when the logits of some forward were NaN or infinite."""
    wrong = [number for number, top in enumerate(tops, start=1) if not bool(top.isfinite().all())]
    if not wrong:
        return []
    return [
        f"The logits of {len(wrong)} of {len(tops)} forwards are NaN or infinite at the last position, "
        f"first in forward {wrong[0]}."
    ]


def caveat(meta: Mapping[str, Any]) -> str:
    """A sentence for the summary of what was computed from a trace with absent numbers; empty for a whole one."""
    entries = [one for one in meta.get("nonfinite", ()) if one["what"] == "rows"]
    if not entries:
        return ""
    count, of = (sum(one[name] for one in entries) for name in ("count", "of"))
    more = f" and {len(entries) - 1} more site{'s' * (len(entries) > 2)}" if len(entries) > 1 else ""
    return f" Left out as NaN: {count:,} of {of:,} rows of {entries[0]['site']}{more}."


def join(traces: Sequence[Sequence[Absent]]) -> list[dict[str, Any]]:
    """Counts of several traces of a model, as plain values; numbers of traces that are whole are not among `of`."""
    total: dict[tuple[str, str], Absent] = {}
    for one in (one for entries in traces for one in entries):
        before = total.get((one.site, one.what))
        added = one if before is None else replace(one, count=one.count + before.count, of=one.of + before.of)
        total[one.site, one.what] = added
    return as_meta(list(total.values()))


def as_meta(entries: Sequence[Absent]) -> list[dict[str, Any]]:
    """As plain values, for the provenance of a trace."""
    return [asdict(one) for one in entries]
