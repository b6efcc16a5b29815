"""Traces made by hand from given patterns, with every statistic computed by plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from headwise.layout import ROLES, Axis, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from tests.kit.twin import details

META = {
    "model": "by hand",
    "dtype": "float32",
    "attention": ["sdpa"],
    "versions": {"torch": "2.x"},
    "seed": 3,
    "call": "model(**inputs)",
    "warnings": ["said by the engine"],
    "unreached": ["layers.9.attn"],
    "fallback": ["layers.8.attn"],
}
"""What a capture says of itself."""
TEXT = Site("text", "self", 0, "layers.0.attn")


def causal(pattern: torch.Tensor) -> torch.Tensor:
    """Keep what lies on and below the diagonal, and make rows sum to one again."""
    lower = pattern.tril()
    return lower / lower.sum(-1, keepdim=True)


def random_pattern(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random rows that sum to one, (example, head, query, key)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(-1)


def axis(tower: str, roles: list[list[str]], tokens: list[list[str]] | None = None) -> Axis:
    """An axis from role names."""
    index = [[ROLES.index(role) for role in row] for row in roles]
    text = tuple(map(tuple, tokens)) if tokens is not None else None
    return Axis(tower, torch.tensor(index, dtype=torch.uint8), tokens=text)


def plain_axis(tower: str, examples: int, length: int, padding: tuple[int, ...] = ()) -> Axis:
    """[CLS], then words; `padding` columns on the left of every example, none by default."""
    padding = padding or (0,) * examples
    roles = [["padding"] * p + ["special"] + ["content"] * (length - p - 1) for p in padding]
    tokens = [["[PAD]"] * p + ["[CLS]"] + [f"w{i}" for i in range(1, length - p)] for p in padding]
    return axis(tower, roles, tokens)


def record(
    pattern: torch.Tensor,
    *,
    query_valid: torch.Tensor,
    key_valid: torch.Tensor,
    key_roles: torch.Tensor,
    causal: bool,
    cross: bool = False,
    positions: list[int] | None = None,
) -> dict[str, torch.Tensor]:
    """All statistics of one site, one number at a time."""
    examples, heads, rows, keys = pattern.shape
    where = positions or list(range(rows))
    p = pattern.double().numpy()
    entropy, maximum, distance = (np.full((examples, heads, rows), math.nan) for _ in range(3))
    mass = np.full((examples, heads, rows, len(ROLES)), math.nan)
    received = np.full((examples, heads, keys), math.nan)
    visible, seen = np.full((examples, rows), math.nan), np.full((examples, keys), math.nan)
    for b in range(examples):
        real = [j for j in range(keys) if key_valid[b, j]]
        seen[b, real], received[b, :, real] = 0, 0
        for i in range(rows):
            if not query_valid[b, i]:
                continue
            may_see = [j for j in real if cross or not causal or j <= where[i]]
            visible[b, i] = len(may_see)
            seen[b, may_see] += 1
            for h in range(heads):
                row = p[b, h, i]
                entropy[b, h, i] = -sum(row[j] * math.log(row[j]) for j in may_see if row[j] > 0)
                maximum[b, h, i] = max(row[j] for j in may_see)
                distance[b, h, i] = math.nan if cross else sum(row[j] * abs(where[i] - j) for j in may_see)
                mass[b, h, i] = 0
                for j in may_see:
                    received[b, h, j] += row[j]
                    mass[b, h, i, int(key_roles[b, j])] += row[j]
    numbers = {
        "entropy": entropy,
        "maximum": maximum,
        "lse": np.full((examples, heads, rows), math.nan),
        "distance": distance,
        "n_keys": visible,
        "mass": mass,
        "received": received,
        "n_queries": seen,
    }
    kept = pattern.where(key_valid[:, None, None], 0.0).where(query_valid[:, None, :, None], math.nan)
    statistics = {name: torch.tensor(value, dtype=torch.float32) for name, value in numbers.items()}
    return {"positions": torch.tensor(where), **statistics, "maps": kept}


def make_trace(
    patterns: Mapping[Site, torch.Tensor],
    axes: Mapping[str, Axis] | None = None,
    *,
    causal: bool = True,
    meta: Mapping[str, Any] | None = None,
) -> Trace:
    """A trace with maps and statistics. Without `axes`: [CLS], words, no padding. Encoders look both ways."""
    axes = dict(axes or {})
    for site, pattern in patterns.items():
        if site.kind == "self":
            axes.setdefault(site.tower, plain_axis(site.tower, pattern.shape[0], pattern.shape[3]))
    records = {}
    for site, pattern in patterns.items():
        queries = axes[site.tower]
        keys = axes["encoder" if site.tower == "decoder" else "vision"] if site.kind == "cross" else queries
        records[site] = record(
            pattern,
            query_valid=queries.valid,
            key_valid=keys.valid,
            key_roles=keys.roles,
            causal=causal and site.tower in ("text", "decoder"),
            cross=site.kind == "cross",
        )
    return Trace(records, TokenLayout(axes), meta or {"model": "by hand"})


def detailed(
    trace: Trace, *, near: int = 64, top: tuple[int, ...] = (1, 3, 5), later: tuple[int, int] = (2, 4)
) -> Trace:
    """The same with the details of its statistics, and random queries, keys, values and residual of width 4."""
    records, generator = {}, torch.Generator().manual_seed(0)
    for site, kept in trace.records.items():
        extra = details(
            kept["maps"].nan_to_num(),
            positions=kept["positions"],
            query_valid=~kept["n_keys"].isnan(),
            key_valid=~kept["n_queries"].isnan(),
            near=near,
            top=top,
            later=later,
        )
        extra |= {"top_sizes": torch.tensor(top), "later_span": torch.tensor(later)}
        examples, heads, rows, keys = kept["maps"].shape
        shapes = {"q": (heads, rows), "k": (heads, keys), "v": (heads, keys), "residual": (rows,)}
        extra |= {
            name: torch.randn(examples, *shape, 4, generator=generator) for name, shape in shapes.items()
        }
        extra |= {
            name: torch.rand(examples, heads, keys, generator=generator)
            for name in ("value_norm", "write_norm")
        }
        own = {
            name: value
            for name, value in extra.items()
            if site.kind != "cross" or name not in ("near", "later", "later_span", "residual")
        }
        records[site] = {**kept, **own}
    return Trace(records, trace.layout, trace.meta)


def uniform(length=64):
    """A causal pattern of one flat head."""
    return causal(torch.ones(1, 1, length, length))


def padded_batch(padding, heads=2):
    """A batch with padding on the left, and each of its examples alone."""
    width = 8
    lengths = [width - p for p in padding]
    alone = [causal(random_pattern(1, heads, n, n, seed=n)) for n in lengths]
    pattern = torch.zeros(len(lengths), heads, width, width)
    for b, (single, p) in enumerate(zip(alone, padding, strict=True)):
        pattern[b, :, p : p + lengths[b], p : p + lengths[b]] = single[0]
    batch = make_trace({TEXT: pattern}, {"text": plain_axis("text", len(lengths), width, padding)})
    return batch, [make_trace({TEXT: single}) for single in alone]
