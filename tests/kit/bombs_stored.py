"""Small specs and traces that ask for much; those with valid checksums are met behind them, too."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from headwise.readers.checksum import KEY
from tests.kit.bounded import MEGABYTES
from tests.kit.resigned import parted, signed
from tests.kit.stored import STORED

SPEC = 4 * 2**20
"""Bytes of a spec."""


@cache
def whole(name: str) -> bytes:
    """A file of a kind as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{STORED[name].suffix}")
        STORED[name].write(path)
        return path.read_bytes()


def text_of(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _spec(unit: str, *, first: str = "", last: str = "0", key: str = "x") -> bytes:
    """A spec with a parameter of units."""
    content = json.loads(whole("spec"))
    del content[KEY]
    content["fixes"][0]["parameters"][key] = "HERE"
    head, tail = text_of(content).split('"HERE"')
    return (head + first + unit * ((SPEC - 4000) // len(unit)) + last + tail).encode()


def _numbered(unit: str, size: int) -> str:
    found, left = [], size
    for number in range(size):
        found.append(unit.replace("{n}", str(number)))
        left -= len(found[-1])
        if left < 100:
            break
    return "".join(found)


SPECS: Mapping[str, Callable[[], bytes]] = {
    "numbers": lambda: _spec("0,", first="[", last="0]"),
    "as many as may be": lambda: _spec("1" * 15 + " " * 29 + ",", first="[", last="0]"),
    "heads": lambda: _spec("[0," + " " * 120 + "0],", first="[", last="[0,0]]", key="heads"),
    "open lists": lambda: _spec("[", last=""),
    "lists": lambda: _spec("[],", first="[", last="[]]"),
    "digits": lambda: _spec("9"),
    "a text": lambda: _spec("a", first='"', last='"'),
    "backslashes": lambda: _spec("\\\\", first='"', last='"'),
    "halves of characters": lambda: _spec("\\ud800", first='"', last='"'),
    "names": lambda: _spec(_numbered('"{n}":' + " " * 50 + "1,", SPEC - 5000), first="{", last='"":1}'),
    "names, too many": lambda: _spec(_numbered('"{n}":1,', SPEC - 5000), first="{", last='"":1}'),
    "one name": lambda: _spec('"a":1' + " " * 60 + ",", first="{", last='"":1}'),
    "fixes": lambda: whole("spec").replace(
        b'"fixes": [', b'"fixes": [' + b'{"fix":"VAR","parameters":{}},' * 100_000
    ),
    "spaces": lambda: whole("spec") + b" " * (SPEC - 5000),
}


def _trace(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A trace with other content behind valid checksums."""
    header, tensors = parted(whole("trace"))
    content = json.loads(header["__metadata__"]["headwise_trace"])
    change(content)
    return signed(header, tensors, content)


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _tokens(length: int) -> bytes:
    """A trace of one long text, which fits together."""
    content = json.loads(parted(whole("trace"))[0]["__metadata__"]["headwise_trace"])
    axis = content["layout"][0]
    rest = {"roles": np.zeros((1, length), np.uint8)}
    axis["tokens"], axis["images"] = [["a"] * length], []
    names = {"U8": "uint8"}
    axis["fields"], found, data = {}, {}, b""
    for name, array in rest.items():
        raw = array.tobytes()
        found[f"axis.0.{name}"] = {
            "dtype": "U8",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        axis["fields"][name] = {
            "dtype": names["U8"],
            "shape": list(array.shape),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
        data += raw
    content["sites"], content["layout"] = [], [axis]
    content["meta"] = {}
    return signed(found, data, content)


def _set(name: str, value: Any, content: dict[str, Any]) -> None:
    content["meta"][name] = value


def _extend(name: str, times: int, content: dict[str, Any]) -> None:
    content[name] = content[name] * times


def _images(content: dict[str, Any]) -> None:
    span = {"example": 0, "image": 0, "start": 0, "length": 1, "grid": None, "places": [0]}
    content["layout"][0]["images"] = [span] * 100_000


def _places(content: dict[str, Any]) -> None:
    span = {
        "example": 0,
        "image": 0,
        "start": 0,
        "length": 3_000_000,
        "grid": None,
        "places": [0] * 3_000_000,
    }
    content["layout"][0]["images"] = [span]


def _fields(content: dict[str, Any]) -> None:
    field = next(iter(content["sites"][0]["fields"].values()))
    content["sites"][0]["fields"] = {str(number): field for number in range(50_000)}


def _entry(number: int, shape: str = "[0]") -> str:
    return f'"{number}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}'


TRACES: Mapping[str, Callable[[], bytes]] = {
    "a header of exabytes": lambda: struct.pack("<Q", 2**62) + bytes(1000),
    "a header of the file": lambda: struct.pack("<Q", MEGABYTES - 8) + b"{" + b" " * (MEGABYTES - 9),
    "spaces": lambda: _header(b"{" + b" " * (MEGABYTES - 100) + b"}"),
    "open lists": lambda: _header(b'{"a":' + b"[" * (MEGABYTES - 100)),
    "tensors": lambda: _header(("{" + ",".join(map(_entry, range(150_000))) + "}").encode()),
    "shapes of many axes": lambda: _header(("{" + _entry(0, f"[{'0,' * 4_900_000}0]") + "}").encode()),
    "shapes beyond numbers": lambda: _header(
        ("{" + _entry(0, "[4294967296,4294967296,4294967296,0]") + "}").encode()
    ),
    "metadata": lambda: _header(
        ('{"__metadata__":{' + ",".join(f'"{number}":""' for number in range(800_000)) + "}}").encode()
    ),
    "a name": lambda: _header(
        ('{"' + "a" * (MEGABYTES - 100) + '":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}').encode()
    ),
    "content that is no JSON": lambda: signed({}, b"", "[" * 9_000_000),
    "content of lists": lambda: signed({}, b"", [[]] * 2_400_000),
    "content of tensors": lambda: _trace(_fields),
    "tokens": lambda: _tokens(900_000),
    "sites": lambda: _trace(partial(_extend, "sites", 3_000)),
    "axes": lambda: _trace(partial(_extend, "layout", 15_000)),
    "images": lambda: _trace(_images),
    "places": lambda: _trace(_places),
    "examples": lambda: _trace(partial(_set, "returned", [0] * 3_000_000)),
    "warnings": lambda: _trace(partial(_set, "warnings", [""] * 1_600_000)),
    "ids": lambda: _trace(partial(_set, "ids", ["a"] * 900_000)),
    "absent numbers": lambda: _trace(
        partial(_set, "nonfinite", [{"site": "", "what": "q", "count": 0, "of": 0}] * 150_000)
    ),
    "a text": lambda: _trace(partial(_set, "call", "a" * 9_900_000)),
}
