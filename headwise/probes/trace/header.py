"""The header of a trace's file: what is in it, checked before anything of it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from headwise.errors import InputError, TraceError
from headwise.layout import ROLES
from headwise.readers.json import parse_json
from headwise.text import complaint

SCHEMA = 3
HEADER, DIGEST = "headwise_trace", "sha256"
AxisField = Literal["roles", "ids", "seconds", "offset", "recording"]
AXIS_FIELDS = get_args(AxisField)

Word = Annotated[str, Field(max_length=10_000)]
Text = Annotated[str, Field(max_length=1_000_000)]
Words = Annotated[list[Word], Field(max_length=1_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class StoredTensor(_Part):
    """Type, shape and checksum of a tensor."""

    dtype: Word
    shape: Annotated[list[NonNegativeInt], Field(max_length=8)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of its bytes."""


class StoredSite(_Part):
    """A site, and the fields that are kept of it."""

    tower: Word
    kind: Literal["self", "cross"]
    layer: NonNegativeInt
    module: Word
    call: NonNegativeInt
    fields: dict[Word, StoredTensor]


class StoredSpan(_Part):
    """An image among the positions."""

    example: NonNegativeInt
    image: NonNegativeInt
    start: NonNegativeInt
    length: NonNegativeInt
    grid: tuple[NonNegativeInt, NonNegativeInt] | None
    places: list[NonNegativeInt] | None


class StoredAxis(_Part):
    """Positions of a tower."""

    tower: Word
    tokens: list[list[Word]] | None
    images: list[StoredSpan]
    fields: dict[AxisField, StoredTensor]


class _Absent(_Part):
    site: Word
    what: Literal["rows", "q", "k", "v", "z", "residual", "final_residual"]
    count: NonNegativeInt
    of: NonNegativeInt


class Meta(_Part):
    """What is needed to read and to repeat the numbers of a trace; all of it may be missing."""

    model: Word = ""
    model_class: Word = ""
    family: Word = ""
    revision: Word | None = None
    dtype: Word = ""
    device: Word = ""
    weights: Word = ""
    attention: Words = []
    versions: Annotated[dict[Word, Word], Field(max_length=100)] = {}
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] = 0
    created: Word = ""
    call: Text = ""
    partial: Text = ""
    patched: Words = []
    given: Annotated[dict[Word, Words], Field(max_length=100)] = {}
    examples: NonNegativeInt = 0
    returned: list[NonNegativeInt] = []
    warnings: list[Text] = []
    nonfinite: list[_Absent] = []
    unreached: Words = []
    fallback: Words = []
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    ids: Words = []


class Header(_Part):
    """Everything in the file but the tensors."""

    schema_version: Literal[3] = SCHEMA
    roles: list[Word]
    """The role axis of `mass`, and what the numbers in an axis's roles mean."""
    sites: list[StoredSite]
    layout: list[StoredAxis]
    meta: Meta


def read_header(metadata: Mapping[str, str], path: Path) -> Header:
    """The header among the metadata of a safetensors file.

    Raises:
        TraceError: there is none, it was changed, does not fit together, or is of another version.
    """
    if HEADER not in metadata or DIGEST not in metadata:
        raise TraceError(
            "The file holds no headwise trace.",
            evidence=str(path),
            remedy="Give a file that trace.save or headwise trace wrote; hw.load reads models.",
        )
    text = metadata[HEADER]
    if digest(text.encode()) != metadata[DIGEST]:
        raise damaged(path, "the header does not match its checksum")
    try:
        content = parse_json(text, where="its header")
    except InputError as error:
        raise damaged(path, f"{error.fact} {error.evidence}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is int and version != SCHEMA:
        raise TraceError(
            f"The trace has schema version {version}, and this version of headwise reads {SCHEMA}.",
            evidence=str(path),
            remedy="Upgrade headwise." if version > SCHEMA else "Capture it again.",
        )
    header = check_header(text, path)
    if tuple(header.roles) != ROLES:
        raise damaged(path, f"it uses the roles {', '.join(header.roles)}")
    return header


def check_header(text: str | bytes, path: Path) -> Header:
    """A header from its JSON.

    Raises:
        TraceError: something is missing, unknown, of another type or too large.
    """
    try:
        return Header.model_validate_json(text)
    except ValidationError as error:
        raise damaged(path, complaint(error)) from error


def digest(content: Any) -> str:
    """The SHA-256 of bytes or of an array of bytes."""
    return hashlib.sha256(content).hexdigest()


def damaged(path: Path, why: str) -> TraceError:
    """The error of a file that is not what was saved."""
    return TraceError("The trace file is damaged.", evidence=f"{path}: {why}", remedy="Save the trace again.")
