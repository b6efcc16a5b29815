"""The file of a spec: JSON that is read with suspicion, in one fixed form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwise.errors import FixError, InputError
from headwise.files import check_path
from headwise.fixes.registry import in_place_of_a_file
from headwise.fixes.spec.written_model import WrittenModel
from headwise.readers.checksum import KEY, checksum
from headwise.readers.content import read_bytes, shown
from headwise.readers.json import MalformedError, strict_loads
from headwise.readers.limits import current_limits
from headwise.text import complaint

SCHEMA = 3
"""The version of the form that is written."""
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
    sha256: str = ""
    """Checksum over the rest; a spec that was written by hand has none."""
    versions: dict[str, str]
    """What the file was written with: headwise, torch and transformers."""
    model: WrittenModel
    fixes: Annotated[tuple[Entry, ...], Field(min_length=1, max_length=100)]


def read(path: str | Path) -> Envelope:
    """The content of a spec file; nothing in it is looked up or run.

    Raises:
        InputError: there is no such file, or it cannot be read or is larger than 4 MiB.
        FixError: it is not a spec, of another schema version, or was changed after it was written.
    """
    check_path(path, "the spec")
    where = shown(path)
    if not os.path.isfile(path) and not os.path.isdir(path):
        remedy = in_place_of_a_file(str(path)) or "Check the path."
        raise InputError("There is no such spec file.", evidence=where, remedy=remedy)
    return parse(read_bytes(path, limit=current_limits().spec_bytes, what="the spec"), where=where)


def parse(content: bytes, *, where: str) -> Envelope:
    """An envelope from the bytes of a file; `where` names the file in messages.

    Raises:
        FixError: the bytes are not a spec, one of another schema version, or not what their checksum says.
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
    if KEY in document and document[KEY] != checksum(document):
        raise FixError(
            "The spec was changed since headwise wrote it.",
            evidence=f"{where}: its {KEY} is that of other content",
            remedy=f"If you changed it yourself, remove the line {KEY}; else fetch a whole copy.",
        )
    try:
        return Envelope.model_validate_json(content)
    except ValidationError as error:
        raise FixError(
            "The spec is malformed.",
            evidence=f"{where}: {complaint(error)}",
            remedy="Write it again with hw.save_spec.",
        ) from error


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
    try:
        check_count(content)
        return value_of(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise refused(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise refused(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except MalformedError as error:
        raise refused(str(error)) from error


def check_count(content: bytes) -> None:
    """Refuse more values than a spec may hold.

    Raises:
        MalformedError: there are more than the limit.
    """
    limit = current_limits().spec_values
    if content.count(b",") + content.count(b"[") + content.count(b"{") > limit:
        raise MalformedError(f"it holds more than {limit:,} values")


def value_of(text: str) -> Any:
    """The value of a JSON text, as a spec may hold it.

    Raises:
        JSONDecodeError: it is not JSON.
        MalformedError: it is, and holds what a spec may not.

    Example:
        >>> value_of("[[0, 1]]")
        [[0, 1]]
    """
    try:
        value = strict_loads(text, largest=WHOLE)
    except RecursionError as error:
        raise MalformedError("it is nested too deeply") from error
    why = _excess(value)
    if why:
        raise MalformedError(why)
    return value


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
