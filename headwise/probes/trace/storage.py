"""Traces as files: one safetensors file with a versioned JSON header, checksums, no pickle, memory-mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headwise.errors import InputError, TraceError
from headwise.files import replacing
from headwise.layout import ROLES, Axis, ImageSpan, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import FIELDS, GRAPH_FIELDS, Record
from headwise.probes.trace.header import (
    AXIS_FIELDS,
    DIGEST,
    HEADER,
    SCHEMA,
    Header,
    StoredAxis,
    check_header,
    damaged,
    digest,
    read_header,
)
from headwise.probes.trace.ranges import impossible


def write_trace(
    path: str | Path, records: Mapping[Site, Record], layout: TokenLayout, meta: Mapping[str, Any]
) -> Path:
    """Write a trace to one safetensors file. Tensors that hang on the autograd graph are left out.

    Raises:
        InputError: when the folder does not exist.
        TraceError: when it holds what `read_trace` refuses, or the file cannot be written; nothing is left of it then.
    """
    parts: dict[str, Tensor] = {}
    sites = []
    for number, (site, record) in enumerate(records.items()):
        fields = {name: tensor for name, tensor in record.items() if name not in GRAPH_FIELDS}
        parts |= {f"site.{number}.{name}": tensor for name, tensor in fields.items()}
        sites.append({**vars(site), "fields": dict.fromkeys(fields)})
    axes = []
    for number, axis in enumerate(layout.axes.values()):
        fields = {name: getattr(axis, name) for name in AXIS_FIELDS if getattr(axis, name) is not None}
        parts |= {f"axis.{number}.{name}": tensor for name, tensor in fields.items()}
        spans = [vars(span) for span in axis.images]
        axes.append(
            {"tower": axis.tower, "tokens": axis.tokens, "images": spans, "fields": dict.fromkeys(fields)}
        )
    tensors = _apart(parts)
    for kind, entries in (("site", sites), ("axis", axes)):
        for number, entry in enumerate(entries):
            entry["fields"] = {
                name: _describe(tensors[f"{kind}.{number}.{name}"]) for name in entry["fields"]
            }
    header = {"schema_version": SCHEMA, "roles": ROLES, "sites": sites, "layout": axes, "meta": dict(meta)}
    text = json.dumps(header, ensure_ascii=False).encode("utf-8", "replace")
    _check_whole(text, tensors, Path(path))
    metadata = {HEADER: text.decode(), DIGEST: digest(text)}
    with replacing(path) as part:
        try:
            save_file(tensors, part, metadata)
        except (OSError, SafetensorError) as error:
            raise TraceError("The trace could not be written.", evidence=str(error)) from error
    return Path(path)


def read_trace(path: str | Path) -> tuple[dict[Site, Mapping[str, Tensor]], TokenLayout, dict[str, Any]]:
    """Records, layout and meta of a file that `write_trace` wrote; tensors are read when they are asked for."""
    path = Path(path)
    if not os.path.isfile(path):
        folder = os.path.isdir(path)
        raise InputError(
            "The trace is a folder." if folder else "There is no such trace file.",
            evidence=str(path),
            remedy="Give the file in it that trace.save wrote." if folder else "Check the path.",
        )
    try:
        file = safe_open(path, framework="pt")
        metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise TraceError(
            "The file is truncated, damaged, or not a safetensors file.",
            evidence=f"{path}: {error}",
            remedy="Give a whole file that trace.save wrote.",
        ) from error
    header = read_header(metadata, path)
    _check(header, file, path)
    _check_numbers(header, file.get_tensor, path)
    records: dict[Site, Mapping[str, Tensor]] = {
        Site(site.tower, site.kind, site.layer, site.module, site.call): _LazyRecord(
            file, {name: f"site.{number}.{name}" for name in site.fields}
        )
        for number, site in enumerate(header.sites)
    }
    axes = {axis.tower: _axis(number, axis, file) for number, axis in enumerate(header.layout)}
    _check_layout(axes, path)
    return records, TokenLayout(axes), header.meta.model_dump(exclude_unset=True)


class _LazyRecord(Mapping[str, Tensor]):
    """A record whose tensors lie in a file."""

    def __init__(self, file: Any, names: Mapping[str, str]) -> None:
        self._file, self._names = file, names

    def __getitem__(self, field: str) -> Tensor:
        return self._file.get_tensor(self._names[field])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _describe(tensor: Tensor) -> dict[str, Any]:
    content = tensor.reshape(-1).view(torch.uint8).numpy()  # no copy: it is contiguous
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "sha256": digest(content),
    }


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU of which no two share memory, as safetensors wants them."""
    apart, used = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        apart[name] = plain.clone() if storage in used else plain
        used.add(storage)
    return apart


def _check(header: Header, file: Any, path: Path) -> None:
    """The header's tensors are the file's tensors, with the number of axes their fields have."""
    expected = {f"site.{n}.{f}": t for n, site in enumerate(header.sites) for f, t in site.fields.items()}
    expected |= {f"axis.{n}.{f}": t for n, axis in enumerate(header.layout) for f, t in axis.fields.items()}
    differing = set(expected) ^ set(file.keys())
    if differing:
        raise damaged(path, f"header and tensors differ in {min(differing)}")
    for name, promised in expected.items():
        stored = _describe(file.get_tensor(name))
        if stored != promised.model_dump():
            what = "of other content" if stored["dtype"] == promised.dtype else stored["dtype"]
            raise damaged(path, f"{name} is {what}, {stored['shape']}")
    for number, site in enumerate(header.sites):
        for name, tensor in site.fields.items():
            if len(FIELDS.get(name, ())) != len(tensor.shape):
                raise damaged(path, f"site.{number}.{name} has the shape {tensor.shape}")
    for number, axis in enumerate(header.layout):
        if "roles" not in axis.fields:
            raise damaged(path, f"axis.{number} has no roles")


def _check_numbers(header: Header, tensor_of: Callable[[str], Tensor], path: Path) -> None:
    """Every number is one that a capture can give, and meta speak of the examples that there are."""
    meta = header.meta
    lengths = {axis.tower: axis.fields["roles"].shape[-1] for axis in header.layout if "roles" in axis.fields}
    absent = {one.site for one in meta.nonfinite if one.what == "rows"}
    for number, stored in enumerate(header.sites):
        record = {name: tensor_of(f"site.{number}.{name}") for name in stored.fields}
        site = Site(stored.tower, stored.kind, stored.layer, stored.module, stored.call)
        why = impossible(record, site, lengths, patched=bool(meta.patched), nonfinite=absent)
        if why:
            raise damaged(path, f"{site}: {why}")
    known = "examples" in meta.model_fields_set
    if known and (max(meta.returned, default=-1) >= meta.examples or len(meta.ids) not in (0, meta.examples)):
        raise damaged(path, f"meta speak of other examples than {meta.examples}")


def _check_whole(text: bytes, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse to write what could not be read."""
    try:
        _check_numbers(check_header(text, path), tensors.__getitem__, path)
    except TraceError as error:
        raise TraceError(
            "The trace holds what a saved trace cannot.",
            evidence=error.evidence,
            remedy="Save a trace as hw.capture made it.",
        ) from error


def _axis(number: int, axis: StoredAxis, file: Any) -> Axis:
    tensors: dict[Any, Tensor] = {name: file.get_tensor(f"axis.{number}.{name}") for name in axis.fields}
    spans = [(span, None if span.places is None else tuple(span.places)) for span in axis.images]
    return Axis(
        tower=axis.tower,
        tokens=None if axis.tokens is None else tuple(map(tuple, axis.tokens)),
        images=tuple(ImageSpan(**{**span.model_dump(), "places": places}) for span, places in spans),
        **tensors,
    )


def _check_layout(axes: Mapping[str, Axis], path: Path) -> None:
    for tower, axis in axes.items():
        shape = axis.roles.shape
        sound = (
            axis.roles.dtype == torch.uint8
            and len(shape) == 2
            and bool((axis.roles < len(ROLES)).all())
            and (axis.ids is None or axis.ids.shape == shape)
            and (axis.tokens is None or [len(row) for row in axis.tokens] == [shape[1]] * shape[0])
            and (axis.seconds is None or (axis.seconds.ndim == 2 and axis.seconds.shape[1] == 2))
            and (axis.offset is None or axis.offset.shape == shape[:1])
            and (axis.recording is None or axis.recording.shape == shape[:1])
            and all(span.example < shape[0] and span.start + span.length <= shape[1] for span in axis.images)
            and all(span.places is None or len(span.places) == span.length for span in axis.images)
        )
        if not sound:
            raise damaged(path, f"the layout of {tower!r} does not fit together")
