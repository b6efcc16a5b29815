"""Damaged files for every loader of a group, in a process of its own: `python -m tests.kit.fuzzer GROUP COUNT SEED`."""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from headwise.errors import HeadwiseError
from headwise.readers.checksum import require_checksum
from tests.kit.bounded import DISK, confined, fault
from tests.kit.loaders import Loader, loaders
from tests.kit.mutants import mutant
from tests.kit.resigned import resigned

LOOKED = 8
"""One of so many files that are taken is looked at: drawing takes longer than reading."""


def damaged(loader: Loader, name: str, number: int, *, seed: int) -> bytes:
    """The file of a number: the same for the same seed."""
    draw = Random(f"{seed}/{name}/{number}")
    whole = draw.choice(loader.seeds)
    again = resigned(whole, draw) if number % 2 else None
    return mutant(whole, loader.seeds, draw) if again is None else again


def run(group: str, count: int, seed: int, known: Mapping[str, Loader] | None = None) -> dict[str, Any]:
    """`count` files for every loader of the group: what was wrong, with the first such file, and what became of all."""
    faults: dict[str, str] = {}
    seen: dict[str, Counter[str]] = {}
    for name, loader in (known or loaders(group)).items():
        seen[name] = Counter()
        for number, content, wrong in _damage(name, loader, seen[name], count=count, seed=seed):
            file = base64.b64encode(zlib.compress(content, 9)).decode()
            faults.setdefault(
                f"{name}: {wrong}",
                f"file {number} of seed {seed}, which is zlib.decompress(base64.b64decode('{file}'))",
            )
    return {"faults": [f"{wrong}\n    {file}" for wrong, file in faults.items()], "seen": seen}


def _damage(
    name: str, loader: Loader, seen: Counter[str], *, count: int, seed: int
) -> Iterator[tuple[int, bytes, str]]:
    """Number, content and fault of every file that a loader does not bear.

    Every other file meets a loader that believes checksums, so that what lies behind them is met, too.
    """
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        path = Path(folder) / loader.name
        for whole in loader.seeds:
            path.write_bytes(whole)
            loader.look(loader.read(path))
        for first, checksums in enumerate((nullcontext, believed)):
            with checksums():
                for number in range(first, count, 2):
                    content = damaged(loader, name, number, seed=seed)
                    path.write_bytes(content)
                    if wrong := fault(lambda: _use(loader, path, seen)):
                        yield number, content, wrong


def _use(loader: Loader, path: Path, seen: Counter[str]) -> None:
    try:
        found = loader.read(path)
    except HeadwiseError:
        seen["refused"] += 1
        raise
    seen["taken"] += 1
    if seen["taken"] % LOOKED == 1:
        loader.look(found)


@contextmanager
def believed() -> Iterator[None]:
    """Checksums are taken as they are, as if whoever changed the content had made them anew."""
    places = [
        module
        for name, module in sys.modules.items()
        if name.startswith("headwise") and getattr(module, "require_checksum", None) is require_checksum
    ]
    patches = [mock.patch.object(module, "require_checksum") for module in places]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


if __name__ == "__main__":
    with confined():
        print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
