"""Plain English: the docstrings of Python's standard library and the topics of its help system.

The text belongs to the Python Software Foundation and is used under its licence (version 2). It depends on
the Python version, so the corpus has a fingerprint, and the paragraphs that perplexity is measured on are
shipped as `text_test.jsonl`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sysconfig
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from headwise.zoo.data.prompts import Split, split_of

VERSION = 1

WINDOW = 60
"""Characters in a row that no training paragraph shares with a shipped test paragraph."""
SHIPPED = "text_test.jsonl"


def corpus(split: Split) -> list[str]:
    """Paragraphs of this Python's documentation, sorted, each once, ASCII, spaces collapsed.

    Paragraphs of the splits "train" and "validation" share no run of 60 characters with `shipped_test()`.
    """
    paragraphs = [text for text in _paragraphs() if split_of(("text", text)) == split]
    if split == "test":
        return paragraphs
    held_out = {text[i : i + WINDOW] for text in shipped_test() for i in range(_windows(text))}
    return [text for text in paragraphs if not _shares(text, held_out)]


def shipped_test() -> list[str]:
    """The paragraphs that come with the package: perplexity is measured on them, whatever the Python."""
    lines = resources.files("headwise.zoo.data").joinpath(SHIPPED).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def choose_test(size: int = 140_000, longest: int = 2_000) -> list[str]:
    """The paragraphs to ship: those of the test split in the order of their hashes, up to `size` characters.

    This is how `text_test.jsonl` came to be; another Python would choose others.
    """
    chosen: list[str] = []
    room = size
    for text in sorted(corpus("test"), key=lambda text: fingerprint([text])):
        if len(text) <= min(room, longest):
            chosen.append(text)
            room -= len(text)
    return chosen


def fingerprint(paragraphs: list[str]) -> str:
    """SHA-256 of the paragraphs in their order, in hexadecimal."""
    whole = hashlib.sha256()
    for text in paragraphs:
        whole.update(text.encode() + b"\0")
    return whole.hexdigest()


def _shares(text: str, windows: set[str]) -> bool:
    return any(text[i : i + WINDOW] in windows for i in range(_windows(text)))


def _windows(text: str) -> int:
    return max(len(text) - WINDOW + 1, 0)


def _paragraphs() -> list[str]:
    found = {" ".join(text.split()) for text in (*_docstrings(), *_topics())}
    return sorted(text for text in found if len(text) > WINDOW and text.isascii())


def _topics() -> Iterator[str]:
    from pydoc_data.topics import topics

    for topic in topics.values():
        yield from topic.split("\n\n")


def _docstrings() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if not {"site-packages", "lib2to3"}.isdisjoint(path.relative_to(library).parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # files that test the parser
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield text
