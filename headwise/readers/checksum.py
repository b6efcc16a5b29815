"""The checksum that every file of headwise carries: whoever changes a byte without it is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from headwise.errors import InputError

KEY = "sha256"
"""The name under which a JSON file holds it."""


def checksum(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object in canonical form: keys sorted, no spaces, without `sha256` itself.

    It is the same before writing and after reading: spaces and the order of keys do not count, every digit does.

    Args:
        content: what `json` writes; numbers are finite.

    Raises:
        ValueError: it holds NaN or infinity.
        TypeError: it holds what is no JSON.

    Example:
        >>> checksum({"a": 1, "sha256": "any"}) == checksum({"a": 1})
        True
    """
    bare = {name: value for name, value in content.items() if name != KEY}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def require_checksum(content: Mapping[str, Any], *, where: str) -> None:
    """Refuse a JSON object that is not what its checksum says.

    Raises:
        InputError: it carries none, or another one.
    """
    if content.get(KEY) != checksum(content):
        raise changed(where, f"its {KEY} is {'missing' if KEY not in content else 'that of other content'}")


def changed(where: str, what: str) -> InputError:
    """The error of a file that is not what its checksum says."""
    return InputError(
        "The file was changed after headwise wrote it.",
        evidence=f"{where}: {what}",
        remedy="Write it again, or fetch a whole copy.",
    )
