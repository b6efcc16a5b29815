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
STEPS = {"spec": 1, "trace": 7}
"""Kind -> every how manieth bit is changed; of others `FLIPS` are drawn."""
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
        refused, bits = 0, 8 * len(whole)
        places = range(0, bits, STEPS[name]) if name in STEPS else draw.sample(range(bits), FLIPS)
        for place in places:
            data = bytearray(whole)
            data[place // 8] ^= 1 << place % 8
            path.write_bytes(data)
            try:
                after = kind.told(kind.read(path))
            except HeadwiseError:
                refused += 1
                continue
            assert after == before, f"bit {place} of {len(whole)} bytes"
        assert refused > len(places) / 4
        for content in (
            *(whole[:end] for end in range(0, len(whole), max(1, len(whole) // 50))),
            whole + whole,
        ):
            path.write_bytes(content)
            with pytest.raises(HeadwiseError):
                kind.read(path)
