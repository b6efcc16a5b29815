"""Examples in batches: of like length, as tensors, padded on the side that a pass needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.model.tokenizing import encoded

if TYPE_CHECKING:
    from headwise.subject import Subject


Advance = Callable[[int], None]


def batches(
    subject: Subject,
    examples: Sequence[Example],
    size: int,
    group: Callable[[Example], Any] = lambda _: "",
) -> Iterator[list[int]]:
    """Indices of examples of like length, at most `size` together and never of two groups."""
    keys = [(group(example), *_length(subject, example)) for example in examples]
    order = sorted(range(len(examples)), key=lambda index: keys[index])
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and stop - start < size and keys[order[stop]][0] == keys[order[start]][0]:
            stop += 1
        yield order[start:stop]
        start = stop


def prepared(subject: Subject, examples: Sequence[Example]) -> Any:
    """The tensors of a batch of examples."""
    kinds = list(examples[0].inputs)
    columns: dict[str, Any] = {kind: [example.inputs[kind] for example in examples] for kind in kinds}
    return subject.prepare(**columns)


def continues(subject: Subject) -> bool:
    """True for a decoder with a tokenizer, whose logits at a token are about the one after it.

    An encoder has none, and those of a masked language model are about the token itself.
    """
    model: Any = subject.model
    return (
        subject.tokenizer is not None and not subject.config.is_encoder_decoder and bool(model.can_generate())
    )


def padded_right(subject: Subject) -> Subject:
    """The subject with its texts padded on the right, so that every text begins at position 0.

    A forward pass counts positions from the first column; padding there would shift them.
    """
    if getattr(subject.tokenizer, "padding_side", "right") == "right":
        return subject
    own = replace(subject, processor=copy.deepcopy(subject.processor))
    own.tokenizer.padding_side = "right"
    return own


def continuation(subject: Subject, prompt: str, candidate: str) -> list[int]:
    """Ids that the tokenizer gives `candidate` after `prompt`.

    Raises:
        InputError: the candidate has no tokens.
    """
    tokenizer = subject.tokenizer
    before = encoded(tokenizer, prompt, verbose=False).input_ids
    whole = encoded(tokenizer, prompt + candidate, verbose=False).input_ids
    ids = whole[len(before) :]
    if whole[: len(before)] != before:
        ids = encoded(tokenizer, candidate, add_special_tokens=False, verbose=False).input_ids
    if not ids:
        raise InputError("A candidate has no tokens.", evidence=repr(candidate))
    return ids


def _length(subject: Subject, example: Example) -> tuple[int, str]:
    text = example.inputs.get("text")
    if isinstance(text, str) and subject.tokenizer is not None:
        return len(encoded(subject.tokenizer, text, verbose=False).input_ids), text
    return len(text) if text is not None else 0, ""
