"""Positions, roles and padding of the rows and keys of one attention call."""

from __future__ import annotations

from typing import Any

import torch

from headwise.layout import generic_axis
from headwise.probes.attach.sites import key_tower
from headwise.probes.generation.axes import PADDING
from headwise.probes.generation.generation import Generation
from headwise.probes.kernels.statistics import CallLayout
from headwise.probes.kernels.windows import Window


def bare_layout(
    run: Generation,
    tower: str,
    kind: str,
    batch: int,
    rows: int,
    keys: int,
    device: Any,
    window: Window | None,
) -> CallLayout:
    """Positions alone, where nothing is padding."""
    past = _first_row(run, tower, window)
    cross = kind == "cross" or (past == 0 and keys != rows)
    return CallLayout(
        positions=torch.arange(past, past + rows, device=device),
        roles=(),
        classes=torch.zeros(1, keys, 0, device=device),
        cross=cross,
        key_start=0 if cross else max(0, past + rows - keys),
    )


def full_layout(
    run: Generation,
    tower: str,
    kind: str,
    batch: int,
    rows: int,
    keys: int,
    device: Any,
    window: Window | None,
) -> CallLayout:
    """Positions, roles and padding."""
    past = _first_row(run, tower, window)
    cross = kind == "cross" or (past == 0 and keys != rows)
    queries = run.axis(tower, batch, past + rows if window is None else window.total)
    start = 0 if cross else max(0, past + rows - keys)
    held = queries
    if kind == "cross":
        held = run.axis(key_tower(tower, kind, run.axes), batch, keys)
    elif cross:  # keys were pooled (Segformer): they are no positions of the tower
        held = generic_axis(tower, batch, keys)
    roles = held.roles[:, start : start + keys].to(device)
    padded = roles == PADDING
    present = tuple(sorted(set(roles.unique().tolist()) - {PADDING}))
    classes = torch.zeros(batch, keys, len(present), device=device)
    for column, role in enumerate(present):
        classes[..., column] = roles == role
    valid = queries.valid[:, past : past + rows].to(device)
    return CallLayout(
        positions=torch.arange(past, past + rows, device=device),
        roles=present,
        classes=classes[:1] if bool((classes == classes[:1]).all()) else classes,
        cross=cross,
        key_start=start,
        query_valid=None if bool(valid.all()) else valid,
        key_valid=~padded if bool(padded.any()) else None,
    )


def _first_row(run: Generation, tower: str, window: Window | None) -> int:
    """Absolute position of the first row of a call."""
    if window is not None:
        return window.start
    return run.past if tower == run.language else 0
