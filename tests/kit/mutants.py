"""Damage to files, drawn with a seed: to bytes, to words, and to what JSON says."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

_WORDS = re.compile(rb"[A-Za-z_]+|\d+|\s+|.", re.DOTALL)
_ODD_WORDS = (
    *(b"NaN", b"-Infinity", b"1e400", b"-1", b"0", b"1.9", b"true", b"null", b'""', b"[]", b"{}", b"\\ud800"),
    *(
        b"9" * 20,
        b"9" * 400,
        b"9" * 5000,
        b"1_0",
        b"0x10",
        b"[" * 40,
        b"\0",
        b"\xff",
        b"\xe2\x80\xae",
        b"\r\n",
    ),
    *(
        b"..",
        b"../../x",
        b"/etc/passwd",
        b"~",
        b"http://example.org/x",
        b"a" * 300,
        b"\t",
        b"\n\n",
        b"\xef\xbb\xbf",
    ),
    *(b"!function os.system", b"{{x}}", b"&a", b"*a", b"<<", b"---", b"%YAML 9.9", b"${HOME}", b"<script>"),
)
ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        0.5,
        -0.0,
        1.9,
        1e300,
        -1e300,
        5e-324,
        2**31,
        2**53 + 1,
        2**63,
        2**64,
        10**300,
    ),
    *(
        "",
        " ",
        "1",
        "true",
        "nan",
        "\0",
        "\u202e",
        "a\u0301" * 20,
        "é" * 300,
        "<b>",
        "../x",
        "/etc/passwd",
        "none",
    ),
    *([], {}, [[]], [None], {"": ""}, [0, 0], [[0, 0]], ["a"], {"a": 1}, {"headwise": "bytes"}),
)
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutant(seed: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    """A damaged file: by its bytes, by its words, or, where it is JSON or JSON Lines, by what it says."""
    ways = [_bytes, _bytes, _words] if b"\0" in seed[:2000] else [_bytes, _words, _words, _said, _said, _said]
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        seed = draw.choice(ways)(seed, others, draw)
    return seed


def said(value: Any, draw: Random) -> Any:
    """What JSON says, changed in one place."""
    places = list(_places(value))
    if not places:
        return deepcopy(draw.choice(ODD_VALUES))
    holder, key = draw.choice(places)
    match draw.randrange(9):
        case 0 | 1 | 2:
            holder[key] = deepcopy(draw.choice(ODD_VALUES))  # else one of them may come to hold itself
        case 7:
            holder[key] = draw.choice((_nested, str, bool, lambda one: [one], lambda one: {"a": one}))(
                holder[key]
            )
        case 8 if (text := json.dumps(holder[key], default=str)) and len(text) < 1000:
            times = draw.choice((2, 100, 3000))
            holder[key] = (
                holder[key] * times if isinstance(holder[key], str | list) else [holder[key]] * times
            )
        case 3:
            del holder[key]
        case 4 if isinstance(holder, dict):
            name = draw.choice((f"{key}x", "", key.upper(), *holder))
            holder[name] = holder.pop(key)
        case 4 | 5 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case _:
            one, name = draw.choice(places)
            try:
                holder[key], one[name] = one[name], holder[key]
            except (KeyError, IndexError):
                pass
            else:
                try:
                    json.dumps(value)
                except (ValueError, RecursionError):  # it holds itself now
                    holder[key], one[name] = one[name], holder[key]
    return value


def _nested(value: Any) -> Any:
    """A value in a hundred lists."""
    for _ in range(100):
        value = [value]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder of a value and the value's key in it."""
    found, rest = [], [value]
    while rest:
        holder = rest.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            rest += [holder[key] for key in keys]
    return found


def _said(data: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    lines = data.splitlines()
    try:
        if len(lines) > 1 and lines[0].endswith(b"}"):
            place = draw.randrange(len(lines))
            lines[place] = _written(said(json.loads(lines[place]), draw), draw)
            return b"\n".join(lines)
        return _written(said(json.loads(data), draw), draw)
    except (ValueError, RecursionError):
        return _words(data, others, draw)


def _written(value: Any, draw: Random) -> bytes:
    return json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")


def _words(data: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    words = _WORDS.findall(data) or [b""]
    place = draw.randrange(len(words))
    match draw.randrange(6):
        case 0 | 1:
            words[place] = draw.choice(_ODD_WORDS)
        case 2:
            words.insert(place, draw.choice(_ODD_WORDS))
        case 3:
            del words[place : place + draw.choice((1, 1, 3, 10))]
        case 4:
            words[place] = draw.choice(_WORDS.findall(draw.choice(others)) or [b""])
        case _:
            end = place + draw.choice((1, 3, 10, 40))
            words[place:end] = words[place:end] * draw.choice((2, 2, 5))
    return b"".join(words)


def _bytes(data: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    found = bytearray(data) or bytearray(1)
    place = draw.randrange(len(found))
    end = min(len(found), place + draw.choice((1, 2, 4, 16, 100)))
    change: Callable[[], Any] = draw.choice(
        (
            lambda: found.__setitem__(place, found[place] ^ 1 << draw.randrange(8)),
            lambda: found.__setitem__(place, draw.randrange(256)),
            lambda: found.__setitem__(slice(place, end), b""),
            lambda: found.__setitem__(slice(place, place), draw.randbytes(draw.choice((1, 4, 30)))),
            lambda: found.__setitem__(slice(place, end), bytes(end - place)),
            lambda: found.__setitem__(slice(place, place), found[place:end]),
            lambda: found.__setitem__(slice(place, None), b""),
            lambda: found.extend(draw.choice(others)),
            lambda: found.__setitem__(slice(place, None), draw.choice(others)[place:]),
            lambda: found.__setitem__(
                slice(place, place + 2), struct.pack("<H", draw.choice(_EXTREMES) & 0xFFFF)
            ),
            lambda: found.__setitem__(
                slice(place, place + 4), struct.pack(draw.choice("<>") + "I", draw.choice(_EXTREMES))
            ),
            lambda: found.__setitem__(
                slice(place, place + 8), struct.pack("<q", draw.choice((-1, 2**62, 2**40, 0)))
            ),
        )
    )
    change()
    return bytes(found)
