"""Readers of annotation files that are one JSON document: COCO's and VQA's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.readers.content import shown
from headwise.text import visible

Kinds = Mapping[str, type | tuple[type, ...]]
"""Field -> the type of its value."""

_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


def records(document: Any, key: str, kinds: Kinds, path: str | Path) -> list[dict[str, Any]]:
    """The objects of the list `document[key]`, each with the fields of `kinds`.

    Args:
        document: the JSON of the file.
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
            evidence=f"{shown(path)}; it has: {visible(has, limit=80)}",
            remedy="Check which file this is.",
        )
    for place, record in enumerate(found):
        _check(record, kinds, f"{shown(path)}, {key}[{place}]")
    return found


def group_of_record(record: Mapping[str, Any], where: str) -> str:
    """The field `group` of an object, a text or a whole number, as a string; empty where it has none.

    Raises:
        InputError: it is neither.

    Example:
        >>> group_of_record({"id": 3, "group": 7}, "a.json, images[0]"), group_of_record({"id": 3}, "a.json, images[0]")
        ('7', '')
    """
    if "group" in record:
        _check(record, {"group": (str, int)}, where)
    return str(record.get("group", "")).strip()


def _check(record: Any, kinds: Kinds, where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{visible(repr(record), limit=80)} is not a JSON object.", evidence=where)
    for name, kind in kinds.items():
        if name not in record:
            has = visible(", ".join(record), limit=80) or "nothing"
            raise InputError(f"The field {name!r} is missing.", evidence=f"{where} has: {has}")
        value = record[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = kind if isinstance(kind, tuple) else (kind,)
            raise InputError(
                f"The field {name!r} is not {' or '.join(_NAMES[one] for one in wanted)}.",
                evidence=f"{where}: {visible(repr(value), limit=80)}",
            )
