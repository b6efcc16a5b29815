"""Traces as files: one safetensors file with a versioned JSON header, no pickle, memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headwise.errors import InputError, TraceError
from headwise.files import replacing
from headwise.layout import ROLES, Axis, ImageSpan, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import FIELDS, GRAPH_FIELDS, Record

SCHEMA = 2
_HEADER, _DIGEST = "headwise_trace", "sha256"
_AxisField = Literal["roles", "ids", "seconds", "offset", "recording"]
_AXIS_FIELDS = get_args(_AxisField)


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Tensor(_Part):
    dtype: str
    shape: list[NonNegativeInt]


class _Site(_Part):
    tower: str
    kind: Literal["self", "cross"]
    layer: NonNegativeInt
    module: str
    call: NonNegativeInt
    fields: dict[str, _Tensor]


class _Span(_Part):
    example: NonNegativeInt
    image: NonNegativeInt
    start: NonNegativeInt
    length: NonNegativeInt
    grid: tuple[NonNegativeInt, NonNegativeInt] | None
    places: list[NonNegativeInt] | None


class _Axis(_Part):
    tower: str
    tokens: list[list[str]] | None
    images: list[_Span]
    fields: dict[_AxisField, _Tensor]


class _Header(_Part):
    schema_version: int
    roles: list[str]
    """The role axis of `mass`, and what the numbers in an axis's roles mean."""
    sites: list[_Site]
    layout: list[_Axis]
    meta: dict[str, Any]


def write_trace(
    path: str | Path, records: Mapping[Site, Record], layout: TokenLayout, meta: Mapping[str, Any]
) -> Path:
    """Write a trace to one safetensors file. Tensors that hang on the autograd graph are left out.

    Raises:
        InputError: when the folder does not exist.
        TraceError: when the file cannot be written; nothing is left of it then.
    """
    tensors: dict[str, Tensor] = {}
    sites = []
    for number, (site, record) in enumerate(records.items()):
        fields = {name: tensor for name, tensor in record.items() if name not in GRAPH_FIELDS}
        tensors |= {f"site.{number}.{name}": tensor for name, tensor in fields.items()}
        sites.append({**vars(site), "fields": _describe(fields)})
    axes = []
    for number, axis in enumerate(layout.axes.values()):
        fields = {name: getattr(axis, name) for name in _AXIS_FIELDS if getattr(axis, name) is not None}
        tensors |= {f"axis.{number}.{name}": tensor for name, tensor in fields.items()}
        spans = [vars(span) for span in axis.images]
        axes.append(
            {"tower": axis.tower, "tokens": axis.tokens, "images": spans, "fields": _describe(fields)}
        )
    header = {"schema_version": SCHEMA, "roles": ROLES, "sites": sites, "layout": axes, "meta": dict(meta)}
    text = json.dumps(header, ensure_ascii=False).encode("utf-8", "replace")
    metadata = {_HEADER: text.decode(), _DIGEST: hashlib.sha256(text).hexdigest()}
    with replacing(path) as part:
        try:
            save_file(_apart(tensors), part, metadata)
        except (OSError, SafetensorError) as error:
            raise TraceError("The trace could not be written.", evidence=str(error)) from error
    return Path(path)


def read_trace(path: str | Path) -> tuple[dict[Site, Mapping[str, Tensor]], TokenLayout, dict[str, Any]]:
    """Records, layout and meta of a file that `write_trace` wrote; tensors are read when they are asked for."""
    path = Path(path)
    if not path.is_file():
        folder = path.is_dir()
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
            remedy="Save the trace again.",
        ) from error
    header = _read_header(metadata, path)
    _check(header, file, path)
    records: dict[Site, Mapping[str, Tensor]] = {
        Site(site.tower, site.kind, site.layer, site.module, site.call): _LazyRecord(
            file, {name: f"site.{number}.{name}" for name in site.fields}
        )
        for number, site in enumerate(header.sites)
    }
    axes = {axis.tower: _axis(number, axis, file) for number, axis in enumerate(header.layout)}
    _check_layout(axes, path)
    return records, TokenLayout(axes), header.meta


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


def _describe(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    return {
        name: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
        for name, tensor in tensors.items()
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


def _read_header(metadata: Mapping[str, str], path: Path) -> _Header:
    if _HEADER not in metadata or _DIGEST not in metadata:
        raise TraceError(
            "The file holds no headwise trace.",
            evidence=str(path),
            remedy="Give a file that trace.save or headwise trace wrote; hw.load reads models.",
        )
    text = metadata[_HEADER]
    if hashlib.sha256(text.encode()).hexdigest() != metadata[_DIGEST]:
        raise _damaged(path, "the header does not match its checksum")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is int and version != SCHEMA:
        raise TraceError(
            f"The trace has schema version {version}, and this version of headwise reads {SCHEMA}.",
            evidence=str(path),
            remedy="Upgrade headwise." if version > SCHEMA else "Capture it again.",
        )
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if tuple(header.roles) != ROLES:
        raise _damaged(path, f"it uses the roles {', '.join(header.roles)}")
    return header


def _check(header: _Header, file: Any, path: Path) -> None:
    """The header's tensors are the file's tensors, with the number of axes their fields have."""
    expected = {f"site.{n}.{f}": t for n, site in enumerate(header.sites) for f, t in site.fields.items()}
    expected |= {f"axis.{n}.{f}": t for n, axis in enumerate(header.layout) for f, t in axis.fields.items()}
    differing = set(expected) ^ set(file.keys())
    if differing:
        raise _damaged(path, f"header and tensors differ in {min(differing)}")
    for name, promised in expected.items():
        stored = _describe({name: file.get_tensor(name)})[name]
        if stored != promised.model_dump():
            raise _damaged(path, f"{name} is {stored['dtype']} {stored['shape']}")
    for number, site in enumerate(header.sites):
        for name, tensor in site.fields.items():
            if len(FIELDS.get(name, ())) != len(tensor.shape):
                raise _damaged(path, f"site.{number}.{name} has the shape {tensor.shape}")
    for number, axis in enumerate(header.layout):
        if "roles" not in axis.fields:
            raise _damaged(path, f"axis.{number} has no roles")


def _axis(number: int, axis: _Axis, file: Any) -> Axis:
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
            raise _damaged(path, f"the layout of {tower!r} does not fit together")


def _damaged(path: Path, why: str) -> TraceError:
    return TraceError("The trace file is damaged.", evidence=f"{path}: {why}", remedy="Save the trace again.")
