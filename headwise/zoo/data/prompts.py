"""What every task of the language model is made of: one prompt with its answer, its contrast and its split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from headwise.errors import InputError

VERSION = 1
T = TypeVar("T")
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt whose right continuation is known, and a minimal change of it with another right one.

    `answer`, `wrong` and `corrupted_answer` begin with a space and are one token of the zoo's tokenizer, as
    is every candidate. Prompt and corrupted prompt have the same number of words and tokens.
    """

    kind: str
    split: Split
    prompt: str
    answer: str
    wrong: str
    """The contrast: what a model says that takes the prompt for the corrupted one."""
    corrupted: str
    corrupted_answer: str
    candidates: tuple[str, ...]
    """What a model that knows the task but not the answer would choose from; holds answer and wrong."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: template, the words drawn, and `positions`, indices into `prompt.split()`."""


def split_of(key: Hashable) -> Split:
    """Which split the drawn content `key` belongs to, for ever: 80% train, 10% validation, 10% test.

    Example:
        >>> split_of(("Anna", "Tom")), split_of(("Dan", "Kate"))
        ('train', 'validation')
    """
    bucket = hashlib.sha256(repr(key).encode()).digest()[0] % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def until(draw: Callable[[], T], key: Callable[[T], Hashable], split: Split) -> T:
    """Draw until the content falls into `split`."""
    while True:
        drawn = draw()
        if split_of(key(drawn)) == split:
            return drawn


def check_split(split: str) -> None:
    """Refuse a split that there is not.

    Raises:
        InputError: it is not train, validation or test.
    """
    if split not in SPLITS:
        raise InputError("There is no such split.", evidence=repr(split), remedy=f"Use one of {SPLITS}.")
