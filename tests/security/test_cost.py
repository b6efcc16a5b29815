"""No file of at most 10 MB takes a gigabyte or 5 seconds of a processor before it is read or refused.

Data of tasks: `tests/evaluation/data/test_cost.py`. What is imported on the way, and what a sound file of the kind
takes, is not counted: every kind is read once before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pytest

import headwise as hw
from headwise.subject.media import read_audio, read_image
from tests.kit.bombs_pictures import PICTURES, jpeg, png
from tests.kit.bombs_sounds import SOUNDS, wav
from tests.kit.bombs_stored import SPECS, TRACES, whole
from tests.kit.bombs_tables import FULL, packed, tables
from tests.kit.bounded import MEGABYTES, excess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a child's memory is read from /proc"),
]


class Kind(NamedTuple):
    """A kind of file: its name, what reads it, files as they should be, and bombs."""

    name: str
    read: Callable[[Path], object]
    sound: tuple[Callable[[], bytes], ...]
    bombs: Mapping[str, Callable[[], bytes]]


LOAD = {
    "result": hw.load_result,
    "evaluation": hw.load_evaluation,
    "comparison": hw.load_comparison,
    "search": hw.load_search,
    "harness result": hw.load_harness,
}
KINDS = {
    "picture": Kind("a.png", read_image, (png, jpeg), PICTURES),
    "sound": Kind(
        "a.wav", partial(read_audio, rate=16_000), (partial(wav, data=bytes(9000), rate=9000),), SOUNDS
    ),
    "spec": Kind("a.json", hw.load_spec, (partial(whole, "spec"),), SPECS),
    "trace": Kind("a.safetensors", hw.load_trace, (partial(whole, "trace"),), TRACES),
    **{
        f"{what}{suffix}": Kind(
            f"a{suffix}", load, (partial(whole, f"{FULL.get(what, what)} {suffix}"),), bombs(what)
        )
        for what, load in LOAD.items()
        for suffix, bombs in ((".json", tables), (".parquet", packed))
    },
}


@cache
def warm(kind: str, folder: Path) -> None:
    """Reads files as they should be."""
    for write in KINDS[kind].sound:
        path = folder / KINDS[kind].name
        path.write_bytes(write())
        KINDS[kind].read(path)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind].bombs])
def test_ten_megabytes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, name: str
) -> None:
    warm(kind, tmp_path_factory.getbasetemp())
    path = tmp_path / KINDS[kind].name
    path.write_bytes(KINDS[kind].bombs[name]())
    assert path.stat().st_size <= MEGABYTES
    assert not excess(lambda: KINDS[kind].read(path))
