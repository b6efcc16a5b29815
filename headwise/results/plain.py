"""Values as JSON holds them, and back: what JSON has no word for is marked, never changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from headwise.errors import InputError
from headwise.readers.json import DIGITS
from headwise.text import visible

MARK = "$float"
"""The only name of an object that stands for a number that JSON does not have."""
_NAMES = ("nan", "inf", "-inf")
_HALVES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which UTF-8 cannot write."""


def plain(value: Any) -> Any:
    """A value in the form in which files hold it: tuples and arrays are lists, names of objects are texts.

    Raises:
        InputError: it holds something that is no number, text, list or mapping of these, or one name twice.

    Example:
        >>> plain({"epsilon": float("inf"), "sizes": (1, 2.5)})
        {'epsilon': {'$float': 'inf'}, 'sizes': [1, 2.5]}
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and not _HALVES.search(value):
        return str(value)
    if isinstance(value, int) and abs(value) < 10**DIGITS:
        return int(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else {MARK: repr(float(value))}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(name, str | int) for name in value):
        found = {str(name): plain(item) for name, item in value.items()}
        if len(found) == len(value):
            return {MARK: found} if list(found) == [MARK] else found
    raise InputError(
        "A file cannot hold this value.",
        evidence=visible(f"{type(value).__name__}: {value!r}", limit=100),
        remedy="Numbers, texts, lists and dictionaries of them (with no name twice) can be saved.",
    )


def restored(value: Any) -> Any:
    """What `plain` was given.

    Raises:
        ValueError: a mark stands where no number can be.

    Example:
        >>> restored({"epsilon": {"$float": "inf"}})
        {'epsilon': inf}
    """
    if isinstance(value, list):
        return [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if list(value) != [MARK]:
        return {name: restored(item) for name, item in value.items()}
    marked = value[MARK]
    if isinstance(marked, dict):
        return {name: restored(item) for name, item in marked.items()}
    if marked not in _NAMES:
        raise ValueError(f"{MARK} is {visible(repr(marked), limit=60)}")
    return float(marked)
