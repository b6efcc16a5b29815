"""Attention that the keys of every site receive, and sites by tower and kind: read once from a trace, used by all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._received import MIN_ROWS
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import at_numbers
from headwise.probes.trace.frames import statistics

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace

KeyShares = Mapping[Site, Float[Tensor, "example head key"]]
"""Mean attention from the rows that see a key, NaN if they are fewer than four; heads that were not kept are NaN."""


def key_shares(trace: Trace) -> KeyShares:
    """The shares of every site with statistics."""
    found = {}
    for site, record in statistics(trace.records).items():
        n_queries = record["n_queries"].detach().float()[:, None]
        received = record["received"].detach().float() / n_queries
        found[site] = at_numbers(received.where(n_queries >= MIN_ROWS, torch.nan).cpu(), record, "received")
    return found


def by_tower(sites: Iterable[Site]) -> dict[tuple[str, str], list[Site]]:
    """The sites of every tower and kind, in their order."""
    grouped: dict[tuple[str, str], list[Site]] = {}
    for site in sites:
        grouped.setdefault((site.tower, site.kind), []).append(site)
    return grouped
