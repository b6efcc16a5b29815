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


def layout_of(
    run: Generation,
    tower: str,
    kind: str,
    batch: int,
    rows: int,
    keys: int,
    device: Any,
    window: Window | None,
    *,
    labels: bool,
) -> CallLayout:
    """Layout of a call of this shape; without `labels`, positions alone, where nothing is padding."""
    past = window.start if window is not None else run.past if tower == run.language else 0
    cross = kind == "cross" or (past == 0 and keys != rows)
    start = 0 if cross else max(0, past + rows - keys)
    positions = torch.arange(past, past + rows, device=device)
    if not labels:
        return CallLayout(positions, (), torch.zeros(1, keys, 0, device=device), cross, start)
    query_axis = key_axis = run.axis(tower, batch, past + rows if window is None else window.total)
    if kind == "cross":
        key_axis = run.axis(key_tower(tower, kind, run.axes), batch, keys)
    elif cross:  # keys were pooled (Segformer): they are no positions of the tower
        key_axis = generic_axis(tower, batch, keys)
    roles = key_axis.roles[:, start : start + keys].to(device)
    padded = roles == PADDING
    present = tuple(sorted(set(roles.unique().tolist()) - {PADDING}))
    classes = torch.zeros(batch, keys, len(present), device=device)
    for column, role in enumerate(present):
        classes[..., column] = roles == role
    valid = query_axis.valid[:, past : past + rows].to(device)
    return CallLayout(
        positions,
        present,
        classes[:1] if bool((classes == classes[:1]).all()) else classes,
        cross,
        start,
        query_valid=None if bool(valid.all()) else valid,
        key_valid=~padded if bool(padded.any()) else None,
    )
