"""Small model folders that ask for much, loaded one after the other in a process of its own.

`python -m tests.kit.bombs_folders FAMILY` prints what was wrong with which folder.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import headwise as hw
from tests.kit.bounded import DISK, MEGABYTES, confined, fault
from tests.tiny import ARCHITECTURES

FAMILIES = (
    *("llama", "gpt2", "mixtral", "m2m_100"),
    *("t5", "wav2vec2", "vit", "llava", "albert", "whisper"),
)
NUMBERS = (10**9, 10**7, 10**5, 3000)
"""In the place of every whole number of a config, one at a time."""
TIMES = 1000
"""How often every list of numbers is repeated."""


def _changed(node: Any) -> Iterator[tuple[str, Any]]:
    """Settings with one number, or one list of numbers, changed; and which."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if type(value) is int and not key.endswith("token_id"):
            yield from ((f"{key} = {number}", {**node, key: number}) for number in NUMBERS)
        elif isinstance(value, list) and value and type(value[0]) is int:
            yield f"{key} of {TIMES} times", {**node, key: value * TIMES}
        else:
            yield from ((f"{key}.{name}", {**node, key: child}) for name, child in _changed(value))


def configs(family: str, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """What is changed, the file, and its content, in a folder with as many weights as 10 MB hold."""
    ARCHITECTURES[family].build().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    size = (folder / "model.safetensors").stat().st_size
    weights["more"] = torch.zeros(MEGABYTES - 10_000 - size, dtype=torch.uint8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for what, content in _changed(json.loads((folder / "config.json").read_text())):
        yield what, "config.json", json.dumps(content).encode()


def faults(family: str) -> dict[str, Any]:
    """How many folders there were, and what was wrong with which."""
    found, count = [], 0
    with tempfile.TemporaryDirectory(dir=DISK) as place:
        folder = Path(place)
        for what, name, content in configs(family, folder):
            path, count = folder / name, count + 1
            before = path.read_bytes() if path.exists() else None
            if count == 1:
                hw.load(folder)
            assert len(content) <= MEGABYTES * 1.01, (what, name, len(content))
            path.write_bytes(content)
            said = fault(partial(hw.load, folder))
            found += [f"{name}, {what}: {said}"] if said else []
            path.unlink() if before is None else path.write_bytes(before)
    return {"faults": found, "count": count}


if __name__ == "__main__":
    with confined():
        warnings.filterwarnings("ignore")
        print("\n" + json.dumps(faults(sys.argv[1])))
