"""Tokenizers of others: what their file may ask for, and calls of them that end in one kind of error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from os.path import commonprefix
from pathlib import Path
from typing import Any

from headwise.errors import HeadwiseError, InputError, LoadError
from headwise.model.folder import check_letters
from headwise.readers.json import read_json
from headwise.readers.limits import current_limits, require_within
from headwise.text import visible

GROWTH = 1000
"""Letters that may come of one."""
LETTERS = 10_000
"""Of a pattern, or of what stands for one; the ids that are put around a text."""
STEPS = 1000
"""Of all that is done to a text before and after it is cut, each of which may be compiled."""
_WORD = 1000
"""Letters of a word that is cut into pieces, for which time grows with the square."""
_ONE_BY_ONE = 2000
"""Words of a tokenizer of CTC, each of which transformers adds to all before it."""
_LISTS = ("vocab", "merges", "added_tokens", "precompiled_charsmap")
"""What is long in any tokenizer."""
_DONE = ("normalizer", "pre_tokenizer", "decoder")
"""Sections that say what is done to a text."""


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer that makes much of a little text, or whose words take long to be set up.

    Raises:
        LoadError: texts of its rules, its added tokens or lists of its ids are long, its replacements multiply the
            text, or its pieces make a large tree.
    """
    path = folder / "tokenizer.json"
    try:
        _check_words(folder)
        if not path.is_file():
            return
        found = read_json(path)
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no tokenizer.", evidence=type(found).__name__)
        added = found.get("added_tokens")
        require_within(
            len(added) if isinstance(added, list) else 0, current_limits().lines, "tokens", where=path
        )
        check_letters(path, added)
        _check_tree(path, found.get("model"))
        for section, rules in found.items():
            growth = ids = 1
            nodes = list(_nodes(rules))
            if section in _DONE:
                require_within(len(nodes), STEPS, f"steps of {section}", where=path)
            for node in nodes:
                texts = [value for key, value in node.items() if isinstance(value, str) and key not in _LISTS]
                longest = max(map(len, texts), default=0)
                require_within(longest, LETTERS, f"letters in {section}", where=path)
                require_within(
                    _number(node.get("max_input_chars_per_word")), _WORD, "letters of a word", where=path
                )
                if node.get("type") == "Replace":
                    growth *= max(1, len(str(node.get("content"))))
                for value in node.values():
                    ids *= (
                        max(1, len(value)) if section == "post_processor" and isinstance(value, list) else 1
                    )
            require_within(growth, GROWTH, f"letters of one in {section}", where=path)
            require_within(ids, LETTERS, "ids around a text", where=path)
    except InputError as error:
        raise LoadError(error.fact, evidence=error.evidence, remedy=error.remedy) from error


def encoded(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """What a tokenizer makes of texts.

    Raises:
        InputError: it fails.
    """
    with tokenizing(tokenizer):
        return tokenizer(*texts, **options)


def decoded(tokenizer: Any, ids: Any, **options: Any) -> str:
    """The text of token ids.

    Raises:
        InputError: the tokenizer fails.
    """
    with tokenizing(tokenizer):
        return tokenizer.decode(ids, **options)


@contextmanager
def tokenizing(tokenizer: Any, *, alone: bool = True) -> Iterator[None]:
    """A block whose errors are those of a tokenizer.

    Args:
        tokenizer: which one, for messages.
        alone: nothing but the tokenizer is called; else only errors that are surely its own become ours.

    Raises:
        InputError: the tokenizer fails.
    """
    try:
        yield
    except HeadwiseError:
        raise
    except BaseException as error:
        if not (panicked(error) or (alone and isinstance(error, Exception))):
            raise
        raise InputError(
            "The tokenizer of the model fails on this input.",
            evidence=visible(f"{getattr(tokenizer, 'name_or_path', '')}: {error}", limit=200),
            remedy="Check its tokenizer.json, or give token ids.",
        ) from error


def panicked(error: BaseException) -> bool:
    """True for an error of the library below the tokenizer, which is no Exception or a bare one."""
    return type(error).__name__ == "PanicException" or type(error) is Exception


def _check_tree(path: Path, model: Any) -> None:
    """Of the pieces of a Unigram a tree is made, with a table for every byte that no other piece begins with."""
    listed = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(listed, list):
        return
    most = current_limits().tree_bytes
    pieces = [str(pair[0]).encode() for pair in listed if isinstance(pair, list) and pair]
    size = sum(map(len, pieces))
    if size > most:
        size -= sum(len(commonprefix(pair)) for pair in pairwise(sorted(pieces)))  # noqa: RUF071 (of bytes, not of paths)
    require_within(size, most, "bytes of different pieces", where=path)


def _check_words(folder: Path) -> None:
    """Of a tokenizer of CTC (Wav2Vec2), every word is added by itself, which takes longer the more there are."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    path = folder / "vocab.json"
    if not path.is_file():
        return
    config, own = (
        read_json(folder / name) if (folder / name).is_file() else {}
        for name in ("config.json", "tokenizer_config.json")
    )
    classes = [found.get("tokenizer_class") for found in (config, own) if isinstance(found, dict)]
    kind = config.get("model_type") if isinstance(config, dict) else None
    classes.append(TOKENIZER_MAPPING_NAMES.get(kind) if isinstance(kind, str) else None)
    if not any("CTC" in str(name) for name in classes):
        return
    found = read_json(path)
    parts = [found, *found.values()] if isinstance(found, dict) else []
    words = sum(len(str(word)) > 1 for part in parts if isinstance(part, dict) for word in part)
    require_within(words, _ONE_BY_ONE, "words", where=path)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within rules, without the lists that are long in any tokenizer."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            yield item
            rest += [child for key, child in item.items() if key not in _LISTS]
        elif isinstance(item, list):
            rest += item


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0
