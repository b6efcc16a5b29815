"""A trace's statistics as tidy tables: one row per head, per query or per key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from headwise.errors import CaptureError, InputError
from headwise.functional.distance import relative_distance
from headwise.functional.entropy import normalised_entropy
from headwise.layout import ROLES, Axis, TokenLayout
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.trace.fields import Record, example_count, head_numbers

if TYPE_CHECKING:
    import pandas as pd

Records = Mapping[Site, Record]


def frame_of(records: Records, layout: TokenLayout, level: Literal["head", "query", "key"]) -> pd.DataFrame:
    """The table behind `Trace.to_frame`."""
    import pandas as pd

    if level not in ("head", "query", "key"):
        raise InputError(f"There is no table of level {level!r}.", remedy='Use "head", "query" or "key".')
    counted = statistics(records)
    if level == "key":
        parts = [_keys(site, record, layout) for site, record in counted.items()]
    else:
        roles = roles_present(records, layout)
        of_site = _queries if level == "query" else _heads
        parts = [of_site(site, record, layout, roles) for site, record in counted.items()]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pd.DataFrame(columns)


def with_ids(frame: pd.DataFrame, records: Records, ids: Sequence[str] | None) -> pd.DataFrame:
    """A table of a trace whose examples also carry the names that the user gave them, beside their numbers.

    A tower that reads something else than one thing per example (tiles of pictures, windows of sound) has no names.
    """
    if not ids or "example" not in frame or "id" in frame:
        return frame
    counts = {site.tower: example_count(record) for site, record in records.items()}
    towers = frame["tower"] if "tower" in frame else [None] * len(frame)
    named = [
        ids[example] if counts.get(tower, len(ids)) == len(ids) and example < len(ids) else None
        for example, tower in zip(frame["example"], towers, strict=True)
    ]
    frame = frame.copy()
    frame.insert(list(frame).index("example") + 1, "id", named)
    return frame


def statistics(records: Records) -> dict[Site, Record]:
    """The records that hold streaming statistics.

    Raises:
        CaptureError: when there are none.
    """
    counted = {site: record for site, record in records.items() if "received" in record}
    if not counted:
        raise CaptureError(
            "This trace holds no statistics.",
            evidence=f"{len(records)} sites",
            remedy="Capture again with stats=True, and run the model inside the with block.",
        )
    return counted


def roles_present(records: Records, layout: TokenLayout) -> tuple[str, ...]:
    """Roles, in the order of `ROLES`, that a key of a trace has or that took weight; never padding."""
    present = torch.zeros(len(ROLES), dtype=torch.bool)
    for site, record in statistics(records).items():
        present |= (record["mass"].detach().nan_to_num(0) > 0).flatten(0, 2).any(0).cpu()
        axis = key_axis(layout, site)
        if axis is not None:
            present[axis.roles.long().unique().cpu()] = True
    return tuple(
        role for role, here in zip(ROLES, present.tolist(), strict=True) if here and role != "padding"
    )


def site_columns(site: Site) -> dict[str, Any]:
    """The columns of a table that name a site."""
    return {"tower": site.tower, "kind": site.kind, "layer": site.layer, "call": site.call}


def key_axis(layout: TokenLayout, site: Site) -> Axis | None:
    """Axis of the keys of a site; None where the layout does not know."""
    axes = layout.axes
    return axes.get(key_tower(site.tower, site.kind, axes))


def labels(axis: Axis | None, examples: int, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Text and role of every position, (example, position), None where the layout does not know them."""
    tokens = np.full((examples, positions), None, dtype=object)
    roles = np.array([*ROLES, None], dtype=object)[role_table(axis, examples, positions).numpy()]
    if axis is None or examples % len(axis.roles):
        return tokens, roles
    beams = examples // len(axis.roles)
    width = min(positions, axis.roles.shape[1])
    if axis.tokens is not None:
        tokens[:, :width] = np.array([row[:width] for row in axis.tokens], dtype=object).repeat(beams, 0)
    elif axis.ids is not None:
        tokens[:, :width] = axis.ids[:, :width].cpu().numpy().astype(str).repeat(beams, 0)
    return tokens, roles


def role_table(axis: Axis | None, examples: int, positions: int) -> Int[Tensor, "example position"]:
    """Place in `ROLES` of the role of every position, -1 where the layout does not know it."""
    table = torch.full((examples, positions), -1)
    if axis is not None and examples % len(axis.roles) == 0:
        known = axis.roles[:, :positions].long().cpu()
        beams = examples // len(axis.roles)  # the beams of an example stand side by side
        table[:, : known.shape[1]] = known.repeat_interleave(beams, 0)
    return table


def _queries(site: Site, record: Record, layout: TokenLayout, roles: Iterable[str]) -> dict[str, np.ndarray]:
    n_keys = _numpy(record["n_keys"])
    positions = _numpy(record["positions"]).astype(np.int64)
    real = ~np.isnan(n_keys)
    example, head, row = _index(real, record["entropy"].shape[1])
    last = int(positions.max(initial=-1)) + 1
    tokens, names = labels(layout.axes.get(site.tower), len(n_keys), last)
    columns = _head_columns(site, example, _numbers(record)[head]) | {
        "position": positions[row],
        "token": tokens[example, positions[row]],
        "role": names[example, positions[row]],
    }
    for field in ("entropy", "maximum", "distance", "lse"):
        columns[field] = _numpy(record[field])[example, head, row]
    columns["n_keys"] = n_keys[example, row]
    mass = _numpy(record["mass"])
    for role in roles:
        columns[f"mass_{role}"] = mass[example, head, row, ROLES.index(role)]
    return columns


def _keys(site: Site, record: Record, layout: TokenLayout) -> dict[str, np.ndarray]:
    n_queries, received = _numpy(record["n_queries"]), _numpy(record["received"])
    example, head, key = _index(~np.isnan(n_queries), received.shape[1])
    tokens, names = labels(key_axis(layout, site), *n_queries.shape)
    received, n_queries = received[example, head, key], n_queries[example, key]
    return _head_columns(site, example, _numbers(record)[head]) | {
        "position": key,
        "token": tokens[example, key],
        "role": names[example, key],
        "received": received,
        "mean_received": np.divide(
            received, n_queries, out=np.full_like(received, np.nan), where=n_queries > 0
        ),
        "n_queries": n_queries,
    }


def _heads(site: Site, record: Record, layout: TokenLayout, roles: Iterable[str]) -> dict[str, np.ndarray]:
    n_keys = record["n_keys"].detach().float()
    choice = (n_keys >= 2)[:, None]
    entropy, distance = record["entropy"].detach().float(), record["distance"].detach().float()
    rows = {
        "entropy": entropy.where(choice, torch.nan),
        "normalised_entropy": normalised_entropy(entropy, n_keys=n_keys),
        "maximum": record["maximum"],
        "distance": distance,
        "relative_distance": relative_distance(distance, n_keys=n_keys),
        "lse": record["lse"],
        "n_keys": n_keys[:, None].expand_as(entropy),
    }
    rows |= {f"mass_{role}": record["mass"][..., ROLES.index(role)] for role in roles}
    real = ~np.isnan(_numpy(n_keys)).all(axis=1, keepdims=True)
    example, head = np.nonzero(np.broadcast_to(real, entropy.shape[:2]))
    means = {name: _numpy(value.detach().float().nanmean(-1))[example, head] for name, value in rows.items()}
    return _head_columns(site, example, _numbers(record)[head]) | means


def _index(real: np.ndarray, heads: int) -> tuple[np.ndarray, ...]:
    """Example, head and position of every real position, for every head."""
    return np.nonzero(np.broadcast_to(real[:, None], (real.shape[0], heads, real.shape[1])))


def _numbers(record: Record) -> np.ndarray:
    """The model's numbers of the heads that a record's statistics are of."""
    return np.array(head_numbers(record, "received"))


def _head_columns(site: Site, example: np.ndarray, head: np.ndarray) -> dict[str, Any]:
    return {
        "example": example,
        **{
            name: np.full(len(example), value, dtype=object if isinstance(value, str) else int)
            for name, value in site_columns(site).items()
        },
        "head": head,
    }


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy()
