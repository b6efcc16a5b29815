"""One bit of a file that headwise wrote, changed on its way: it never loads with another number, name or unit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest

from headwise.errors import HeadwiseError
from tests.kit.bounded import DISK
from tests.kit.stored import STORED

FLIPS = 1000
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", STORED)
def test_a_flipped_bit_is_noticed_or_says_nothing(name: str) -> None:
    kind, draw = STORED[name], Random(f"flips/{name}")
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        path = Path(folder) / f"a{kind.suffix}"
        kind.write(path)
        whole = path.read_bytes()
        before = kind.told(kind.read(path))
        assert kind.told(kind.read(path)) == before
        refused = 0
        for place in draw.sample(range(8 * len(whole)), FLIPS):
            data = bytearray(whole)
            data[place // 8] ^= 1 << place % 8
            path.write_bytes(data)
            try:
                after = kind.told(kind.read(path))
            except HeadwiseError:
                refused += 1
                continue
            assert after == before, f"bit {place} of {len(whole)} bytes"
    assert refused > FLIPS / 10
