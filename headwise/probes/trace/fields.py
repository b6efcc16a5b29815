"""Fields that a capture keeps of every site, their axes, and how several runs become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from headwise.layout import ROLES, Axis, TokenLayout
from headwise.probes.attach.sites import Site

Record = Mapping[str, Tensor]
"""The captured tensors of one site, by field name."""

STATISTICS = {
    "entropy": ("example", "head", "query"),
    "maximum": ("example", "head", "query"),
    "lse": ("example", "head", "query"),
    "distance": ("example", "head", "query"),
    "n_keys": ("example", "query"),
    "mass": ("example", "head", "query", "role"),
    "received": ("example", "head", "key"),
    "n_queries": ("example", "key"),
}
"""Streaming statistics and their axes. NaN marks padding."""

DETAILS = {
    "near": ("example", "head", "query", "offset"),
    "top": ("example", "head", "query", "size"),
    "later": ("example", "head", "key"),
}
"""What stands beside them when it was asked for; `near` and `later` in self-attention alone."""

GRAPH_FIELDS = {
    "v_heads": ("example", "head", "key", "width"),
    "z_graph": ("example", "query", "head", "width"),
}
"""Tensors that still hang on the autograd graph. They serve `Trace.attribution` and are never saved."""

HEAD_FIELDS = {
    "statistics_heads": ("head",),
    "map_heads": ("head",),
    "query_heads": ("head",),
    "key_heads": ("kv_head",),
    "output_heads": ("head",),
    "norm_heads": ("head",),
}
"""Numbers of the heads that were kept, where they are not all: of statistics, patterns, q, k and v, z, and norms."""

DETAIL_FIELDS = {"top_sizes": ("size",), "later_span": ("bound",)}
"""What the details of statistics are of: the sizes of `top`, and the nearest and the farthest rows of `later`."""

FIELDS = {
    "positions": ("query",),
    **STATISTICS,
    **DETAILS,
    "row_positions": ("row",),
    "maps": ("example", "head", "row", "key"),
    "q": ("example", "head", "query", "width"),
    "k": ("example", "kv_head", "key", "width"),
    "v": ("example", "kv_head", "key", "width"),
    "z": ("example", "query", "head", "width"),
    "value_norm": ("example", "head", "key"),
    "write_norm": ("example", "head", "key"),
    "residual": ("example", "query", "width"),
    "final_residual": ("example", "query", "width"),
    **GRAPH_FIELDS,
    **HEAD_FIELDS,
    **DETAIL_FIELDS,
}
"""Every field a record can hold, and its axes.

Rows of `maps` are the query rows at `positions`, unless chosen rows were kept: then they are those at `row_positions`.
"""

RESIDUALS = ("residual", "final_residual")
"""The residual that enters a layer and, with the last layer of a tower, the one behind it, before a final norm."""

_SAME_IN_ALL = {**HEAD_FIELDS, **DETAIL_FIELDS}

RANGES: dict[str, tuple[float, str]] = {
    "positions": (0, "length"),
    "row_positions": (0, "length"),
    "entropy": (0, "log keys"),
    "maximum": (0, "1"),
    "distance": (0, "reach"),
    "n_keys": (0, "keys"),
    "mass": (0, "1"),
    "received": (0, "rows"),
    "n_queries": (0, "rows"),
    "near": (0, "1"),
    "top": (0, "1"),
    "later": (0, "rows"),
    "maps": (0, "1"),
}
"""Smallest and largest value of fields that have one, in the words of `ranges`; the others may be any number."""


_OWN_HEADS = {
    "maps": "map_heads",
    "q": "query_heads",
    "k": "key_heads",
    "v": "key_heads",
    "z": "output_heads",
    "value_norm": "norm_heads",
    "write_norm": "norm_heads",
} | dict.fromkeys((*STATISTICS, *DETAILS), "statistics_heads")


def head_field(field: str) -> str:
    """The field that holds the numbers of the heads along the head axis of a field."""
    return _OWN_HEADS[field]


def head_numbers(record: Record, field: str) -> list[int]:
    """The model's numbers of the heads along the head axis of a field of a record."""
    name = _OWN_HEADS.get(field)
    if name is not None and name in record:
        return record[name].tolist()
    axes = FIELDS[field]
    return list(range(record[field].shape[axes.index("kv_head" if "kv_head" in axes else "head")]))


def at_numbers(values: Tensor, record: Record, field: str, *, fill: float = torch.nan) -> Tensor:
    """Values of a record's heads, (example, head, …), at the numbers that the model gives them; `fill` elsewhere."""
    numbers = head_numbers(record, field)
    if numbers == list(range(values.shape[1])):
        return values
    wide = values.new_full((len(values), numbers[-1] + 1, *values.shape[2:]), fill)
    wide[:, numbers] = values
    return wide


def at_heads(record: Record, field: str, numbers: Sequence[int]) -> Tensor:
    """Values of a record at these heads, (example, head, …); NaN where a head was not kept."""
    own, values = head_numbers(record, field), record[field]
    if own == list(numbers):
        return values
    chosen = values.new_full((len(values), len(numbers), *values.shape[2:]), torch.nan)
    for index, number in enumerate(numbers):
        if number in own:
            chosen[:, index] = values[:, own.index(number)]
    return chosen


def example_count(record: Record) -> int:
    """Examples of a record; 0 where no field has any."""
    return next((tensor.shape[0] for name, tensor in record.items() if FIELDS[name][0] == "example"), 0)


def merge_records(runs: Sequence[Mapping[Site, Record]]) -> dict[Site, Record]:
    """Put the examples of several runs behind one another.

    Query rows are placed by their absolute position, keys by their column. What a run does not have is NaN,
    except that a key which does not exist has weight 0 in a pattern. A site that one run did not reach keeps
    its place: the examples of that run are NaN. A run without any site of a tower (a text without an image)
    adds nothing to it.

    A single run is handed on as it is, the same tensors, so gradients survive. Several runs are detached and
    lose their graph fields.
    """
    if len(runs) == 1:
        return dict(runs[0])
    sites = list(dict.fromkeys(site for run in runs for site in run))
    return {site: _merge_site(site, runs) for site in sites}


def _merge_site(site: Site, runs: Sequence[Mapping[Site, Record]]) -> Record:
    full = [run[site] for run in runs if site in run]
    parts = []
    for run in runs:
        twin = next((run[other] for other in run if other.tower == site.tower), None)
        if site in run:
            parts.append(run[site])
        elif twin is not None:
            parts.append(_nothing(full[0], examples=example_count(twin)))

    names = [name for name in full[0] if name in FIELDS and name not in GRAPH_FIELDS]
    names = [name for name in names if all(name in record for record in full)]
    positions_of = {
        "query": [part["positions"] for part in parts],
        "row": [part.get("row_positions", part["positions"]) for part in parts],
    }
    rows = {axis: torch.cat(positions).unique(sorted=True) for axis, positions in positions_of.items()}
    merged = {"positions": rows["query"]}
    if any("row_positions" in part for part in parts):
        merged["row_positions"] = rows["row"]
    merged |= {name: full[0][name] for name in names if name in _SAME_IN_ALL}
    for name in names:
        if name not in merged:
            merged[name] = _merge_field(name, parts, positions_of, rows)
    return merged


def _merge_field(
    name: str,
    parts: Sequence[Record],
    positions_of: Mapping[str, Sequence[Tensor]],
    rows: Mapping[str, Tensor],
) -> Tensor:
    axes = FIELDS[name]
    keys = max(part[name].shape[axes.index("key")] for part in parts) if "key" in axes else 0
    blocks = []
    for number, part in enumerate(parts):
        block = part[name].detach()
        if "key" in axes:
            fill = 0.0 if name == "maps" else torch.nan
            block = _widen(block, axes.index("key"), torch.arange(block.shape[axes.index("key")]), keys, fill)
        for axis in rows.keys() & set(axes):
            index = torch.searchsorted(rows[axis], positions_of[axis][number])
            block = _widen(block, axes.index(axis), index, len(rows[axis]), torch.nan)
        blocks.append(block)
    return torch.cat(blocks)


def _widen(tensor: Tensor, axis: int, index: Tensor, size: int, fill: float) -> Tensor:
    """Put the slices of `tensor` along `axis` at `place` in an axis of `size`; the rest is `fill`."""
    shape = list(tensor.shape)
    shape[axis] = size
    return tensor.new_full(shape, fill).index_copy(axis, index.to(tensor.device), tensor)


def _nothing(like: Record, *, examples: int) -> Record:
    """A record with the fields of `like`, for `examples` examples of which nothing was seen."""
    sizes = {"example": examples, "query": 0, "row": 0, "key": 0}
    return {
        name: tensor.new_empty(
            [sizes.get(axis, size) for axis, size in zip(FIELDS[name], tensor.shape, strict=True)]
        )
        for name, tensor in like.items()
        if name not in GRAPH_FIELDS and name not in _SAME_IN_ALL
    }


def merge_layouts(layouts: Sequence[TokenLayout]) -> TokenLayout:
    """Put the examples of several layouts behind one another, tower by tower, padded on the right.

    Ids, token texts and seconds are kept where every run has them; seconds belong to positions, not to
    examples, so runs that disagree on them keep none. Examples that are no windows are recordings of their own.
    """
    if len(layouts) == 1:
        return layouts[0]
    towers = dict.fromkeys(tower for layout in layouts for tower in layout.axes)
    axes = {s: _merge_axes([layout.axes[s] for layout in layouts if s in layout.axes]) for s in towers}
    return TokenLayout(axes)


def _merge_axes(axes: Sequence[Axis]) -> Axis:
    width = max(axis.roles.shape[1] for axis in axes)
    images, tokens, start = [], [], 0
    for axis in axes:
        images += [replace(span, example=span.example + start) for span in axis.images]
        tokens += [row + ("",) * (width - len(row)) for row in axis.tokens or ()]
        start += axis.roles.shape[0]
    ids = [axis.ids for axis in axes if axis.ids is not None]
    return Axis(
        tower=axes[0].tower,
        roles=torch.cat([_pad(axis.roles, width, ROLES.index("padding")) for axis in axes]),
        ids=torch.cat([_pad(i, width, 0) for i in ids]) if len(ids) == len(axes) else None,
        tokens=tuple(tokens) if len(tokens) == start else None,
        images=tuple(images),
        seconds=_shared_seconds([axis.seconds for axis in axes]),
        **_windows(axes),
    )


def _windows(axes: Sequence[Axis]) -> dict[str, Tensor]:
    """Offset and recording of every example, where some are windows of a longer recording; the other examples are
    numbered behind those recordings.
    """
    numbers = [axis.recording for axis in axes if axis.recording is not None]
    if not numbers:
        return {}
    offsets, recordings, free = [], [], int(torch.cat(numbers).max()) + 1
    for axis in axes:
        examples = len(axis.roles)
        offsets.append(torch.zeros(examples) if axis.offset is None else axis.offset)
        if axis.recording is not None:
            recordings.append(axis.recording)
        else:
            recordings.append(torch.arange(free, free + examples))
            free += examples
    return {"offset": torch.cat(offsets), "recording": torch.cat(recordings)}


def _pad(table: Tensor, width: int, value: int) -> Tensor:
    return torch.nn.functional.pad(table, (0, width - table.shape[1]), value=value)


def _shared_seconds(seconds: Sequence[Tensor | None]) -> Tensor | None:
    known = [times for times in seconds if times is not None]
    if not known or len(known) < len(seconds):
        return None
    longest = max(known, key=len)
    agree = all(torch.allclose(times, longest[: len(times)], equal_nan=True) for times in known)
    return longest if agree else None
