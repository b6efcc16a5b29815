"""JSON from others: no key twice, no NaN, bounded depth, size and digits."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NoReturn

import numpy as np

from headwise.errors import InputError
from headwise.readers.content import read_bytes, shown
from headwise.readers.limits import current_limits, require_within
from headwise.text import visible

DIGITS = 308
"""The most digits of a whole number; beyond, no reader keeps it and Python takes quadratic time."""


_SHORT = 2**12
"""Bytes of a text for which arrays are not worth their setting up, such as a line of JSON Lines."""
_BLOCK = 2**24
_STEP = [(chr(code) in "[{") - (chr(code) in "]}") for code in range(256)]
_STEPS = np.array(_STEP, dtype=np.int32)
_MARKS = (_STEPS != 0) | (np.arange(256) == ord('"'))
_STRIDE = 16


class MalformedError(ValueError):
    """What JSON allows and headwise does not."""


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: as `parse_json`, or there is no such file, or it is larger than the limits.
    """
    return parse_json(read_bytes(path, limit=current_limits().text_bytes), where=shown(path))


def parse_json(content: bytes | str, *, where: str) -> Any:
    """The value of a JSON text.

    Args:
        content: UTF-8 bytes, or a text.
        where: the file (and line), for messages.

    Raises:
        InputError: it is not JSON; a key stands twice in one object; NaN, infinity, a number out of range, half of a
            character; nesting, values or digits beyond the limits.

    Example:
        >>> parse_json('{"a": [1, 2.5]}', where="example")
        {'a': [1, 2.5]}
    """
    limits = current_limits()
    try:
        data = content.encode() if isinstance(content, str) else content
        text = data.decode("utf-8-sig")
    except UnicodeError as error:
        raise InputError(
            "The text is not UTF-8.", evidence=where, remedy="Convert it, for example with iconv."
        ) from error
    opened = data.count(b"[") + data.count(b"{")
    require_within(opened + data.count(b",") + 1, limits.values, "values", where=where)
    try:
        if opened > limits.depth and nesting(data) > limits.depth:
            raise MalformedError(f"lists and objects stand more than {limits.depth} deep")
        value = strict_loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise InputError(
            "The file holds half of a character.", evidence=where, remedy="Write it again."
        ) from error
    except MalformedError as error:
        raise InputError(
            f"The JSON is malformed: {error}.", evidence=where, remedy="Write it again."
        ) from error
    except (ValueError, RecursionError) as error:
        reason, place = str(error) if text.strip() else "it is empty", where
        if text.strip() and isinstance(error, json.JSONDecodeError):
            reason, place = error.msg, f"{where}, line {error.lineno}" if "\n" in text else where
        raise InputError(
            f"This is not JSON: {reason}.", evidence=place, remedy="Check the text there."
        ) from error


def strict_loads(text: str, *, largest: int | None = None) -> Any:
    """`json.loads` without what JSON readers disagree on.

    Args:
        text: the JSON.
        largest: of whole numbers, by size; without it they may have `DIGITS` digits.

    Raises:
        MalformedError: a name stands twice in one object; NaN, infinity, a number out of range.
        ValueError: it is not JSON (JSONDecodeError).
        RecursionError: it is nested too deeply for Python.
    """
    if largest is not None:
        return _decoder(partial(_bounded, largest=largest)).decode(text)
    return (_DECODER if _long(text) else _QUICK_DECODER).decode(text)


def nesting(content: bytes) -> int:
    """How deep lists and objects of a JSON text stand within each other; linear time."""
    marks = re.sub(rb"\\.", b"", content, flags=re.DOTALL) if b"\\" in content else content
    if len(marks) < _SHORT:
        bare = re.sub(rb'"[^"]*"?', b"", marks)
        return max(accumulate(map(_STEP.__getitem__, bare), initial=0))
    deepest = depth = quotes = 0
    for start in range(0, len(marks), _BLOCK):
        block = np.frombuffer(marks, np.uint8)[start : start + _BLOCK]
        letters = block[_MARKS[block]]
        if not len(letters):
            continue
        before = quotes + np.cumsum(letters == ord('"'), dtype=np.int32)
        steps = _STEPS[letters]
        depths = depth + np.cumsum(steps * (before % 2 == 0), dtype=np.int32)
        deepest, depth, quotes = max(deepest, int(depths.max())), int(depths[-1]), int(before[-1]) % 2
    return deepest


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise MalformedError(f"the name {visible(repr(twice), limit=60)} stands twice in one object")
    return result


def _long(text: str) -> bool:
    """True when a text may hold a number of more than `DIGITS` digits: every 16th of so many is looked at."""
    every = np.frombuffer(text[::_STRIDE].encode("utf-32-le"), np.uint32)
    digits = (every >= ord("0")) & (every <= ord("9"))
    return b"\1" * (DIGITS // _STRIDE) in digits.tobytes()


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise MalformedError(f"a whole number has {len(text)} digits")
    return int(text)


def _bounded(text: str, *, largest: int) -> int:
    if len(text) > len(str(largest)) + 1 or abs(int(text)) > largest:
        raise MalformedError(f"the number {visible(text, limit=30)} is out of range")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedError(f"the number {visible(text, limit=30)} is out of range")
    return value


def _constant(text: str) -> NoReturn:
    raise MalformedError(f"{text} is not a number")


def _decoder(whole: Callable[[str], int] | None) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_int=whole, parse_float=_number, parse_constant=_constant
    )


_DECODER = _decoder(_whole)
_QUICK_DECODER = _decoder(None)
"""For texts without numbers of many digits."""
