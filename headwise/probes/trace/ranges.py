"""Numbers of a trace that cannot be: checked when it is saved and when it is loaded, so that no finding rests on one.

What a fix put in may be any number; then only counts, positions and head numbers are held to their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from torch import Tensor

from headwise.layout import ROLES
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import DETAIL_FIELDS, FIELDS, HEAD_FIELDS, RANGES, Record, head_field
from headwise.units import range_of

TOLERANCE = 0.02
"""What rounding may add to a bound, as a share of it; half precision needs it."""
_BLOCK = 2**18
_OF_ROWS, _OF_KEYS = ("entropy", "maximum", "mass", "near", "top"), ("received", "later")
_WHOLE = ("positions", "row_positions", *HEAD_FIELDS, *DETAIL_FIELDS)


def impossible(
    record: Record, site: Site, lengths: Mapping[str, int], *, patched: bool, nonfinite: Collection[str]
) -> str:
    """What is wrong with the tensors of one site; "" when nothing is.

    Args:
        record: every tensor.
        site: whose they are.
        lengths: positions of every tower that the layout describes.
        patched: True when fixes acted: weights and statistics may then be any number.
        nonfinite: sites with rows that are NaN or infinite by the count of the capture, as text.
    """
    for name, tensor in record.items():
        if tensor.is_floating_point() == (name in _WHOLE):
            return f"{name} is {str(tensor.dtype).removeprefix('torch.')}"
    return next(_complaints(record, site, lengths, patched, str(site) in nonfinite), "")


def _complaints(
    record: Record, site: Site, lengths: Mapping[str, int], patched: bool, absent: bool
) -> Iterator[str]:
    sizes = _sizes(record)
    for name, tensor in record.items():
        for axis, size in zip(FIELDS[name], tensor.shape, strict=True):
            if axis in sizes and sizes[axis] != size:
                yield f"{name} has {size} along {axis}, and other fields have {sizes[axis]}"
    for name in HEAD_FIELDS.keys() & record.keys():
        numbers = record[name].tolist()
        if numbers != sorted(set(numbers)) or min(numbers, default=0) < 0:
            yield f"{name} are no head numbers"
        for field, tensor in record.items():
            axes = FIELDS[field]
            if set(axes) & {"head", "kv_head"} and field not in HEAD_FIELDS and head_field(field) == name:
                size = tensor.shape[axes.index("kv_head" if "kv_head" in axes else "head")]
                if size != len(numbers):
                    yield f"{field} has {size} heads, and {name} numbers {len(numbers)}"
    bounds = _bounds(sizes, record, lengths.get(site.tower))
    for name, tensor in record.items():
        if name in RANGES and not (patched and name in _MAY_BE_PATCHED):
            low, high = RANGES[name][0], bounds[RANGES[name][1]]
            found = _extremes(tensor)
            slack = TOLERANCE * (1.0 + high) if tensor.is_floating_point() else 0.0
            if found and (found[0] < low - slack or found[1] > high + slack):
                yield f"{name} reaches from {found[0]:.4g} to {found[1]:.4g}, and can from {low:g} to {high:.4g}"
    if absent or not {"n_keys", "n_queries"} <= record.keys():
        return
    seeing = record["n_keys"] > 0  # False for NaN
    for name in _OF_ROWS:
        if name in record:
            missing = record[name].isnan()
            missing = missing.any(-1) if missing.ndim > 3 else missing
            if (missing & seeing[:, None]).any():
                yield f"{name} is NaN in a row that sees keys"
    blind = (record["n_keys"] == 0).any(-1)[:, None]
    for name in _OF_KEYS:
        real = ~record["n_queries"].isnan() & ~blind
        if name in record and (record[name].isnan() & real[:, None]).any():
            yield f"{name} is NaN at a key that is there"


_MAY_BE_PATCHED = ("entropy", "maximum", "distance", "mass", "received", "near", "top", "later", "maps")


def _sizes(record: Record) -> dict[str, int]:
    """Lengths of axes that all fields share."""
    sizes = {"role": len(ROLES)}
    if "positions" in record:
        sizes["query"] = sizes["row"] = len(record["positions"])
    if "row_positions" in record:
        sizes["row"] = len(record["row_positions"])
    if "top_sizes" in record:
        sizes["size"] = len(record["top_sizes"])
    for name, tensor in record.items():
        axes = FIELDS[name]
        if axes[0] == "example":
            sizes.setdefault("example", tensor.shape[0])
    return sizes


def _bounds(sizes: Mapping[str, int], record: Record, length: int | None) -> dict[str, float]:
    """What the upper ends of `RANGES` are here."""
    keys = max(
        (tensor.shape[FIELDS[name].index("key")] for name, tensor in record.items() if "key" in FIELDS[name]),
        default=0,
    )
    rows = sizes.get("query", 0)
    last = max((int(record[name].max()) for name in ("positions",) if len(record.get(name, ()))), default=0)
    return {
        "1": range_of("share")[1],
        "keys": float(keys),
        "log keys": math.log(max(keys, 1)),
        "rows": float(rows),
        "reach": float(max(last, keys)),
        "length": float(length - 1 if length else 2**53),
    }


def _extremes(tensor: Tensor) -> tuple[float, float] | None:
    """Smallest and largest number that is not NaN, block by block; None when there is none."""
    ends: list[tuple[float, float]] = []
    for block in tensor.flatten().split(_BLOCK) if tensor.numel() else ():
        low, high = block.aminmax()
        if low.isnan():
            real = block[~block.isnan()]
            if not real.numel():
                continue
            low, high = real.aminmax()
        ends.append((float(low), float(high)))
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None
