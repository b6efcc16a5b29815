"""The file of a spec: JSON that is read with suspicion, in one fixed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwise.errors import FixError, InputError
from headwise.files import check_path
from headwise.fixes.registry import in_place_of_a_file
from headwise.fixes.spec.written_model import WrittenModel
from headwise.readers.json import MalformedError, strict_loads
from headwise.text import complaint, visible

SCHEMA = 3
"""The version of the form that is written."""
BYTES = 4 * 2**20
VALUES = 100_000
DEPTH = 16
WHOLE = 2**53
"""The largest whole number that every reader of JSON keeps exactly."""


class Entry(BaseModel):
    """One fix by its registered name, with its parameters."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    fix: Annotated[str, Field(min_length=1, max_length=100)]
    parameters: dict[str, Any]


class Envelope(BaseModel):
    """Everything a spec file holds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    version: Literal[3] = Field(default=SCHEMA, alias="schema")
    versions: dict[str, str]
    """What the file was written with: headwise, torch and transformers."""
    model: WrittenModel
    fixes: Annotated[tuple[Entry, ...], Field(min_length=1, max_length=100)]


def read(path: str | Path) -> Envelope:
    """The content of a spec file; nothing in it is looked up or run.

    Raises:
        InputError: there is no such file, or it cannot be read or is larger than 4 MiB.
        FixError: it is not a spec, or of another schema version.
    """
    check_path(path, "the spec")
    return parse(_content(Path(path)), where=visible(str(path), limit=200))


def parse(content: bytes, *, where: str) -> Envelope:
    """An envelope from the bytes of a file; `where` names the file in messages.

    Raises:
        FixError: the bytes are not a spec, or one of another schema version.
    """
    document = _document(content, where)
    version = document.get("schema") if isinstance(document, dict) else None
    if type(version) is not int:
        raise FixError(
            "This file is not a spec.",
            evidence=f"{where}: it names no schema version",
            remedy="Write one with hw.save_spec(path, fix, subject).",
        )
    if version != SCHEMA:
        newer = version > SCHEMA
        raise FixError(
            f"The spec has schema version {version}, and this version of headwise reads {SCHEMA}.",
            evidence=where,
            remedy="Upgrade headwise." if newer else "Write it again with hw.save_spec.",
        )
    try:
        return Envelope.model_validate_json(content)
    except ValidationError as error:
        raise FixError(
            "The spec is malformed.",
            evidence=f"{where}: {complaint(error)}",
            remedy="Write it again with hw.save_spec.",
        ) from error


def _content(path: Path) -> bytes:
    shown = visible(str(path), limit=200)
    try:
        if path.is_dir():
            raise InputError("The spec is a folder.", evidence=shown, remedy="Give the file in it.")
        if not path.is_file():
            remedy = in_place_of_a_file(str(path)) or "Check the path."
            raise InputError("There is no such spec file.", evidence=shown, remedy=remedy)
        with path.open("rb") as file:
            content = file.read(BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "The spec file could not be read.",
            evidence=f"{shown}: {getattr(error, 'strerror', None) or error}",
            remedy="Check the path and its permissions.",
        ) from error
    if len(content) > BYTES:
        raise InputError(
            f"The file is larger than a spec can be ({BYTES // 2**20} MiB).",
            evidence=shown,
            remedy="Check the path.",
        )
    return content


def _document(content: bytes, where: str) -> Any:
    """The JSON in `content`: no name twice, no NaN, no endless nesting, nothing that is not text."""

    def refused(why: str) -> FixError:
        return FixError(
            "The spec is not valid JSON.",
            evidence=f"{where}: {why}",
            remedy="Check that the file is whole, or write it again with hw.save_spec.",
        )

    if not content.strip():
        raise refused("the file is empty")
    if content.count(b",") + content.count(b"[") + content.count(b"{") > VALUES:
        raise refused(f"it holds more than {VALUES:,} values")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(f"byte {error.start} is not UTF-8") from error
    try:
        document = strict_loads(text, largest=WHOLE)
    except MalformedError as error:
        raise refused(str(error)) from error
    except json.JSONDecodeError as error:
        raise refused(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise refused("it is nested too deeply") from error
    why = _excess(document)
    if why:
        raise refused(why)
    return document


def _excess(document: Any) -> str:
    """What is too much in a document: its nesting, or characters that no text has; "" when all is well."""
    waiting = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEPTH:
            return f"it is nested more than {DEPTH} deep"
        if isinstance(value, dict):
            waiting += [(name, depth + 1) for name in value]
            waiting += [(member, depth + 1) for member in value.values()]
        elif isinstance(value, list):
            waiting += [(member, depth + 1) for member in value]
        elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            return "a string holds half of a character"
    return ""
