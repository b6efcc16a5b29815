"""Model folders as ways in: each file of settings in turn, with the rest of the folder as it should be."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import headwise as hw
from tests.kit.comparisons import small_subject
from tests.kit.loaders import Loader
from tests.kit.subjects import llava, llava_processor, whisper

SETTINGS = ("config.json", "_config.json", "tokenizer.json", ".index.json", "special_tokens_map.json")
"""Ends of the names of files that say how parts are built."""
MODELS: dict[str, Callable[[], hw.Subject]] = {
    "language": small_subject,
    "pictures": lambda: llava(llava_processor()),
    "speech": whisper,
}


def model_folders() -> Iterator[tuple[str, Loader]]:
    """Every file of settings of every model."""
    for name, build in MODELS.items():
        files = _written(build())
        for file, content in files.items():
            if file.endswith(SETTINGS):
                yield f"{file} of {name}", Loader(file, (content,), partial(_load, files))


def _written(subject: hw.Subject) -> dict[str, bytes]:
    """The files of a folder; weights in two parts, so that there is an index."""
    with tempfile.TemporaryDirectory() as place:
        size = sum(weight.nbytes for weight in subject.model.parameters())
        subject.model.save_pretrained(place, max_shard_size=size // 2 + 1)
        subject.processor.save_pretrained(place)
        return {path.name: path.read_bytes() for path in sorted(Path(place).iterdir())}


def _load(files: dict[str, bytes], path: Path) -> hw.Subject:
    for name, content in files.items():
        if name != path.name and not (other := path.parent / name).exists():
            other.write_bytes(content)
    with warnings.catch_warnings():
        for said in (r".*\d weights ", ".*settings for generating"):  # to whoever loads it
            warnings.filterwarnings("ignore", message=said)
        return hw.load(path.parent)
