"""A folder with a model from somebody else: what its files name, and that none of it lies elsewhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headwise.errors import InputError, LoadError
from headwise.readers.content import read_bytes
from headwise.readers.json import nesting
from headwise.readers.limits import current_limits, require_within
from headwise.text import visible

_SETTINGS = ("config.json", "_path.json")
"""Ends of the names of files that say how parts are built."""
_TOKENS = ("added_tokens.json", "special_tokens_map.json")
_WEIGHTS = (".safetensors", ".bin", ".gguf")
_LEVELS = 2
"""Folders within the folder that transformers looks into, one in the other."""
_PLACES = re.compile(r"(.*\.)?(adapters\.\w+|transformers_weights|\w*(_files?|_path|_dir|_spm|_repo))")
_COUNTS = re.compile(
    r"\w*(layers?|depths?|blocks|stages|codebooks|quantizers|attention_types|num_labels|index_tokens"
    r"|extra_ids)"
)
"""Of parts that are built, or named, one by one."""
_NAMED = ("labels", "tokens", "extra_ids")
"""Ends of the names of counts of what has a name each, and no weights."""
_LONG = ("id2label", "label2id", "added_tokens_decoder")
"""Settings with an entry for each of what a model tells apart."""
_RATE = re.compile(r"sampl(e|ing)_rate")
_WINDOWS = {
    re.compile(r"\w*fft\w*|filter_length|(window|frame)_size"): 0.0,
    re.compile(r"(win|frame)_length\w*"): 1e-3,
    re.compile(r"\w*duration_s"): 1.0,
    re.compile(r"window_size_multiplier"): 0.1,
}
"""Names of the length of a window of sound, in samples or else in (at most) so many seconds."""
_BANDS = re.compile(r"feature_size|model_in_channels|n_mels|num_\w*(mel|chroma)\w*")
_TOLD = ("_name_or_path", "base_model_name_or_path", "name_or_path", "special_tokens_map_file")
"""Where a part came from once; nothing is read there."""
_HUB = re.compile(r"[\w.-]+/[\w.-]+(--[\w.-]+)?")
_PLAIN = re.compile(r"(?!.*kernels)[\w|-]*")
"""The names of attention and of experts that transformers brings itself."""


class ModelFolder:
    """The files of one model, and where they may lie: in the folder, or among the blobs that a hub cache links to it.

    Args:
        folder: a folder that exists.
    """

    def __init__(self, folder: Path) -> None:
        self.name = visible(str(folder), limit=200)
        self.folder = folder
        self.root = Path(os.path.realpath(folder))
        homes = [place.parent / "blobs" for place in self.root.parents if place.name == "snapshots"]
        self.places = (self.root, *homes)

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """True for what lies in the folder, links followed; no file has a name with half of a character in it."""
        try:
            real = Path(os.path.realpath(path))
        except UnicodeEncodeError:
            return False
        return any(real.is_relative_to(place) for place in self.places)

    def check(self, *, trust: bool) -> None:
        """Refuse links, weights and settings that lead out of the folder, and settings that ask for code from the hub.

        Args:
            trust: code that the folder names may run.

        Raises:
            LoadError: with the file and what it names.
        """
        try:
            for path in self._files():
                if path.is_symlink() and not self.holds(path):
                    self._refuse(path, f"a link to {os.path.realpath(path)}")
                if path.name.endswith(".index.json"):
                    self._check_index(path)
                elif path.name in _TOKENS:
                    content = self._read(path)
                    _check_entries(path, content)
                    check_letters(path, content)
                elif path.name.endswith(_SETTINGS):
                    content = self._read(path)
                    _check_entries(path, content)
                    values = list(values_of(content))
                    for key, value in values:
                        if isinstance(value, str):
                            self._check_setting(path, key, value, trust)
                        else:
                            _check_count(path, key, value)
                    if path.name == "tokenizer_config.json":
                        check_letters(path, content)
                    if path.name != "config.json":
                        _check_filters(path, [pair for pair in values if not isinstance(pair[1], str)])
        except InputError as error:
            raise LoadError(error.fact, evidence=error.evidence, remedy=error.remedy) from error

    def wants(self) -> str:
        """The first thing that a setting asks the hub for, with its file; empty where there is none."""
        for path in self._files():
            if path.name.endswith(_SETTINGS):
                for key, value in values_of(self._read(path)):
                    if (
                        isinstance(value, str)
                        and _HUB.fullmatch(value)
                        and key.rpartition(".")[2] not in _TOLD
                    ):
                        return f"{path.name}: {key} = {value!r}"
        return ""

    def held(self) -> int:
        """Bytes of the files of weights."""
        return sum(
            path.stat().st_size for path in self._files() if path.suffix in _WEIGHTS and path.is_file()
        )

    def _files(self) -> Iterator[Path]:
        for here, folders, names in os.walk(self.root):
            yield from (Path(here, name) for name in sorted((*folders, *names)))
            if len(Path(here).relative_to(self.root).parts) >= _LEVELS:
                folders.clear()

    def _read(self, path: Path) -> Any:
        """What a file holds, as transformers reads it; None where that is nothing."""
        data = read_bytes(path, limit=current_limits().text_bytes)
        require_within(nesting(data), current_limits().depth, "lists and objects in each other", where=path)
        try:
            return json.loads(data)
        except ValueError:
            return None

    def _check_index(self, path: Path) -> None:
        content = self._read(path)
        files = content.get("weight_map") if isinstance(content, dict) else None
        names = (
            {name for name in files.values() if isinstance(name, str)} if isinstance(files, dict) else set()
        )
        require_within(len(names), current_limits().columns, "files of weights", where=path)
        for name in sorted(names):
            if not self.holds(path.parent / name.replace("\0", "")):
                self._refuse(path, f"weights in {name!r}")

    def _check_setting(self, path: Path, key: str, value: str, trust: bool) -> None:
        name = key.rpartition(".")[2]
        if "_implementation" in key and not trust and not _PLAIN.fullmatch(value):
            raise LoadError(
                f"The model {self.name} asks for code from the hub, which is not run unasked.",
                evidence=f"{path.name}: {key} = {visible(repr(value), limit=100)}",
                remedy="Remove that line, or, if you trust it, load with trust_remote_code=True.",
            )
        if name in _TOLD or not (_PLACES.fullmatch(key) or name.endswith("name_or_path")) or "\0" in value:
            return
        found = next((place for place in (self.folder / value, Path(value)) if os.path.lexists(place)), None)
        if found is not None and not self.holds(found):
            self._refuse(path, f"{key} = {value!r}")

    def _refuse(self, path: Path, what: str) -> None:
        raise LoadError(
            f"The folder {self.name} leads to files outside of it.",
            evidence=f"{path.relative_to(self.root)}: {visible(what, limit=200)}",
            remedy="Copy what belongs to the model into the folder, and name it there.",
        )


def _check_entries(path: Path, node: Any, key: str = "the file") -> None:
    """Of some lists, such as that of special tokens, transformers looks at every pair."""
    if isinstance(node, dict | list):
        limits = current_limits()
        most = limits.lines if key in _LONG else limits.entries
        require_within(len(node), most, f"entries of {visible(key, limit=60)}", where=path)
        for name, child in node.items() if isinstance(node, dict) else ((key, child) for child in node):
            _check_entries(path, child, name)


def check_letters(path: Path, content: Any) -> None:
    """Refuse long texts in what says which tokens are added: of each letter an automaton is made.

    Raises:
        InputError: texts, and names of ids, have more letters than the limit.
    """
    letters = sum(
        len(value) if isinstance(value, str) else len(key) * (type(value) is int)
        for key, value in values_of(content)
    )
    require_within(letters, current_limits().token_letters, "letters of added tokens", where=path)


def _check_count(path: Path, key: str, value: float) -> None:
    name, limits = key.rpartition(".")[2], current_limits()
    if _COUNTS.fullmatch(name):
        value = min(value, 10**18)  # no more digits than a reader wants
        require_within(value, limits.lines if name.endswith(_NAMED) else limits.layers, key, where=path)


def _check_filters(path: Path, numbers: Sequence[tuple[str, Any]]) -> None:
    """The filters that turn sound into bands are computed when its settings are read."""

    def largest(names: re.Pattern[str]) -> float:
        named = (value for key, value in numbers if names.fullmatch(key.rpartition(".")[2]))
        return max((min(value, 10**18) for value in named), default=0)

    rate, bands = max(48_000, largest(_RATE)), max(128, largest(_BANDS))
    samples = max(512, *(largest(names) * (seconds * rate or 1) for names, seconds in _WINDOWS.items()))
    require_within(
        samples * bands, current_limits().filter_values, "samples of a window times bands", where=path
    )


def values_of(node: Any, key: str = "") -> Iterator[tuple[str, str | float]]:
    """Every text and number in nested settings, with the names that lead to it."""
    if isinstance(node, str | int | float):
        yield key, node
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from values_of(child, f"{key}.{name}" if key else name)
    elif isinstance(node, list):
        for child in node:
            yield from values_of(child, key)
