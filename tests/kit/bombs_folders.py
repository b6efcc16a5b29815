"""Small model folders that ask for much, loaded one after the other in a process of its own.

`python -m tests.kit.bombs_folders FAMILY` prints what was wrong with which folder.
"""

from __future__ import annotations

import json
import struct
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
from tests.kit.subjects import word_tokenizer
from tests.tiny import ARCHITECTURES

FAMILIES = (
    *("llama", "gpt2", "mixtral", "m2m_100"),
    *("t5", "wav2vec2", "vit", "llava", "albert", "whisper"),
)
FILES = "files"
"""In the place of a family: all but config.json."""
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


def files(_: str, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """The same of every other file that a folder may hold."""
    ARCHITECTURES["llama"].build().save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    rules = json.loads((folder / "tokenizer.json").read_text())
    words = {f"w{number}": number for number in range(500_000)}
    steps = {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 250_000}
    nothing = {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}
    found = {
        "a vocabulary without unk": (
            "tokenizer.json",
            {**rules, "model": {"type": "WordLevel", "vocab": words}},
        ),
        "steps": ("tokenizer.json", {**rules, "pre_tokenizer": steps}),
        "ids of T5": ("tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 10**8}),
        "ids of bytes": ("tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 10**8}),
        "a template": ("tokenizer_config.json", {**rules, "chat_template": "{{ a }}" * 1_200_000}),
        "tokens": (
            "special_tokens_map.json",
            {"additional_special_tokens": [f"<{n}>" for n in range(19_000)]},
        ),
        "added tokens": ("added_tokens.json", {f"t{n}": n for n in range(99_000)}),
        "lists": (
            "generation_config.json",
            {
                "bad_words_ids": [[1]] * 19_000,
                "suppress_tokens": [*range(19_000)],
                "alignment_heads": [[-1, 0]] * 9_000,
            },
        ),
        "sizes": ("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", "size": 10**9}),
        "a processor": (
            "processor_config.json",
            {"processor_class": "LlavaProcessor", "image_seq_length": 10**9},
        ),
        "names of weights": (
            "model.safetensors.index.json",
            {"weight_map": {f"t{n}": "model.safetensors" for n in range(250_000)}},
        ),
    }
    for what, (name, content) in found.items():
        yield what, name, json.dumps(content, separators=(",", ":")).encode()
    for what, name, head, unit in (
        ("a template that is deep", "chat_template.jinja", b"", b"{% if a %}"),
        ("a deep list", "generation_config.json", b"", b'{"a":'),
        ("a deep index", "model.safetensors.index.json", b"", b'{"a":'),
        ("a long header", "model.safetensors", struct.pack("<Q", 2**40), b"{}"),
        ("an empty header", "model.safetensors", struct.pack("<Q", 9_000_000), b" "),
    ):
        yield what, name, head + unit * (9_900_000 // len(unit))
    header = json.dumps({f"a{number}": nothing for number in range(100_000)}).encode()
    yield "tensors of nothing", "model.safetensors", struct.pack("<Q", len(header)) + header


def faults(family: str) -> dict[str, Any]:
    """How many folders there were, and what was wrong with which."""
    found, count = [], 0
    with tempfile.TemporaryDirectory(dir=DISK) as place:
        folder = Path(place)
        for what, name, content in (files if family == FILES else configs)(family, folder):
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
