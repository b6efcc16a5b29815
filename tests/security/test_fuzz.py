"""Damaged files of every kind: each is read, or refused with an error of headwise's, in bounded time and memory.

HEADWISE_FUZZ_SEED draws other files, HEADWISE_FUZZ_TIMES more or fewer of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit import bounded
from tests.kit.fuzzer import run
from tests.kit.loaders import Loader

FILES = {"short": 10_000, "texts": 1_700, "media": 2_050, "stored": 800, "tasks": 600, "folders": 150}
"""Group of loaders -> damaged files for each loader: 100,000 and more in all."""
SEED = int(os.environ.get("HEADWISE_FUZZ_SEED", "0"))
TIMES = float(os.environ.get("HEADWISE_FUZZ_TIMES", "1"))


@pytest.mark.slow
@pytest.mark.timeout(1200 * max(1.0, TIMES))
@pytest.mark.parametrize("group", FILES)
def test_damaged_files_are_read_or_refused(group: str) -> None:
    count = int(FILES[group] * TIMES)
    found = bounded.call("tests.kit.fuzzer", group, count, SEED, timeout=1100 * max(1.0, TIMES))
    assert not found["faults"], "\n".join(found["faults"])[:20_000]
    idle = [name for name, seen in found["seen"].items() if not (seen.get("taken") and seen.get("refused"))]
    assert not idle, f"no damage that matters, or nothing but: {idle}"


def _raises(path: Path) -> None:
    if path.read_bytes() != b"{}":
        raise KeyError("planted")


def _takes(path: Path) -> None:
    if path.read_bytes() != b"{}":
        bytearray(b"x") * (bounded.MEMORY + 2**26)


def _warns(path: Path) -> None:
    if path.read_bytes() != b"{}":
        raise RuntimeWarning("planted")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "said"),
    [(_raises, "KeyError: 'planted'"), (_takes, "took 1,0"), (_warns, "RuntimeWarning: planted")],
)
def test_a_fault_that_is_planted_is_found(read, said) -> None:
    found = run("", 1, 0, {"planted": Loader("a.json", (b"{}",), read)})
    assert said in found["faults"][0]
    assert "zlib.decompress" in found["faults"][0]
