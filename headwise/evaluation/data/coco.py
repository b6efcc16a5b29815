"""Readers of annotation files that are one JSON document: COCO's and VQA's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.data.files import read_text, refuse

Kinds = Mapping[str, type | tuple[type, ...]]
"""Field -> the type of its value."""

_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


def read_json(path: str | Path) -> Any:
    """A JSON document.

    Raises:
        InputError: there is no such file, or it is not JSON; the line is named.
    """
    path = Path(path)
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        refuse(path, error.lineno, f"The file is not JSON: {error.msg}.", "Check that it is whole.")
    except RecursionError as error:
        raise InputError("The file is not JSON: it is nested too deeply.", evidence=str(path)) from error


def records(document: Any, key: str, kinds: Kinds, path: str | Path) -> list[dict[str, Any]]:
    """The objects of the list `document[key]`, each with the fields of `kinds`.

    Args:
        document: what `read_json` gave.
        key: name of the list.
        kinds: the fields that are needed; others may be there.
        path: the file, for messages.

    Raises:
        InputError: there is no such list, or one of its objects lacks a field; its place is named, from 0.

    Example:
        >>> records({"images": [{"id": 3}]}, "images", {"id": int}, "a.json")
        [{'id': 3}]
    """
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list):
        has = ", ".join(document) if isinstance(document, dict) else f"a {type(document).__name__}"
        raise InputError(
            f"The file has no list {key!r}.",
            evidence=f"{path}; it has: {_cut(has)}",
            remedy="Check which file this is.",
        )
    for place, record in enumerate(found):
        _check(record, kinds, f"{path}, {key}[{place}]")
    return found


def _check(record: Any, kinds: Kinds, where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{_cut(repr(record))} is not a JSON object.", evidence=where)
    for name, kind in kinds.items():
        if name not in record:
            has = _cut(", ".join(record)) or "nothing"
            raise InputError(f"The field {name!r} is missing.", evidence=f"{where} has: {has}")
        value = record[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = kind if isinstance(kind, tuple) else (kind,)
            raise InputError(
                f"The field {name!r} is not {' or '.join(_NAMES[one] for one in wanted)}.",
                evidence=f"{where}: {_cut(repr(value))}",
            )


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
