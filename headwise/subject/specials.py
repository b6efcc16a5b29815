"""Special tokens of prompts that are complete already, and tokenizers that belong to another model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.model.embeddings import input_embedding
from headwise.model.tokenizing import encoded

if TYPE_CHECKING:
    from headwise.subject.loaded import LoadedModel

_UNKNOWN = 0.8
"""Share of unknown tokens from which on a tokenizer is said not to know the text."""
_FEW, _SIZES = 4, 2.0
"""Tokens from which on a share is judged, and how often one vocabulary goes into the other."""
_PLACEHOLDERS = ("image", "video", "audio")


def doubled(tokenizer: Any, text: str, ids: Sequence[int]) -> list[int]:
    """Places of special tokens that the tokenizer put before or behind a text that has its own there.

    What a user wrote twice stays.

    Args:
        tokenizer: which made `ids`, its special tokens added.
        text: what it was given.
        ids: token ids of the text, perhaps among padding and image tokens.
    """
    opening = _ids(tokenizer, "bos_token_id", "cls_token_id")
    closing = _ids(tokenizer, "eos_token_id", "sep_token_id")
    first = next((place for place, token in enumerate(ids) if token in opening), None)
    last = next((place for place in reversed(range(len(ids))) if ids[place] in closing), None)
    front = 0 if first is None else _run(ids[first:], opening)
    back = 0 if last is None else _run(ids[: last + 1][::-1], closing)
    if front < 2 and back < 2:
        return []
    written = encoded(tokenizer, text, add_special_tokens=False, verbose=False).input_ids
    own_front, own_back = _run(written, opening), _run(written[::-1], closing)
    places: list[int] = []
    if first is not None and own_front:
        places += range(first, first + front - own_front)
    if last is not None and own_back:
        places += range(last - (back - own_back) + 1, last + 1)
    return places


def without_doubled(
    tokenizer: Any, prompts: Sequence[str], batch: dict[str, Any], pad: int
) -> dict[str, Any]:
    """A processor's padded batch without the special tokens that its tokenizer doubled.

    Every row keeps its side of the padding; columns that become padding in all rows go.
    """
    ids, mask = batch["input_ids"], batch.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    keep = mask.bool()
    for row, prompt in enumerate(prompts):
        real = mask[row].nonzero()[:, 0]
        for place in doubled(tokenizer, prompt, ids[row][real].tolist()):
            keep[row, real[place]] = False
    if torch.equal(keep, mask.bool()):
        return batch
    left = bool((mask[:, 0] == 0).any()) or getattr(tokenizer, "padding_side", "right") == "left"
    rows = {name: value for name, value in batch.items() if _is_like(value, ids)}
    new = {
        name: _packed(value, keep, pad if name == "input_ids" else 0, left) for name, value in rows.items()
    }
    if "attention_mask" not in rows and not keep.all(1).any():
        new["attention_mask"] = _packed(mask, keep, 0, left)
    return {**batch, **new}


def check_vocabulary(subject: LoadedModel, *batches: Tensor | None) -> None:
    """Refuse token ids that the model has no embedding for; warn of a tokenizer that seems to be another model's.

    Raises:
        InputError: an id lies outside the embedding matrix.
    """
    for ids in batches:
        if ids is not None:
            _check_range(subject, ids)
            _check_known(subject, ids)
    _check_sizes(subject)


def _check_range(subject: LoadedModel, ids: Tensor) -> None:
    size = _embeddings(subject)
    if size is None or not ids.numel():
        return
    config = subject.config
    allowed = {
        getattr(config, f"{kind}_token_{end}", None) for kind in _PLACEHOLDERS for end in ("id", "index")
    }
    outside = [token for token in ids[(ids < 0) | (ids >= size)].unique().tolist() if token not in allowed]
    if not outside:
        return
    text = getattr(subject.tokenizer, "name_or_path", "") or type(subject.tokenizer).__name__
    whose = "these ids" if subject.tokenizer is None else f"the tokenizer ({text})"
    raise InputError(
        f"A token id lies outside the model's embedding matrix: {whose} may belong to another model.",
        evidence=f"id {outside[-1]}; the matrix has {size} rows",
        remedy="Give the tokenizer that was saved with this model: hw.wrap(model, processor).",
    )


def _check_known(subject: LoadedModel, ids: Tensor) -> None:
    tokenizer = subject.tokenizer
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return
    special = {*tokenizer.all_special_ids}
    if unknown in {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}:
        return
    words = [token for token in ids.flatten().tolist() if token == unknown or token not in special]
    count = words.count(unknown)
    if len(words) >= _FEW and count >= _UNKNOWN * len(words):
        warnings.warn(
            f"The tokenizer knows almost nothing of this text: {count} of {len(words)} tokens are "
            f"{tokenizer.unk_token}. Does it belong to this model?",
            UserWarning,
            stacklevel=5,
        )


def _check_sizes(subject: LoadedModel) -> None:
    tokenizer, size = subject.tokenizer, _embeddings(subject)
    if tokenizer is None or size is None:
        return
    known = len(tokenizer)
    if not known or max(known, size) < _SIZES * min(known, size):
        return
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    text = subject.config.get_text_config(decoder=True)
    pairs = [(getattr(text, name, None), getattr(tokenizer, name, None)) for name in names]
    both = [(mine, other) for mine, other in pairs if isinstance(mine, int) and isinstance(other, int)]
    if both and all(mine != other for mine, other in both):
        warnings.warn(
            f"The tokenizer has {known} tokens and the model {size}, and their special tokens differ "
            f"({', '.join(f'{mine} and {other}' for mine, other in both)}). Does it belong to this model?",
            UserWarning,
            stacklevel=5,
        )


def _embeddings(subject: LoadedModel) -> int | None:
    """Rows of the matrix that token ids choose from; None where the model has none."""
    return getattr(input_embedding(subject.model), "num_embeddings", None)


def _packed(value: Tensor, keep: Tensor, fill: int, left: bool) -> Tensor:
    """What `keep` keeps of every row, padded again on one side."""
    width = int(keep.sum(1).max())
    packed = value.new_full((len(value), width), fill)
    for row, own in enumerate(keep):
        rest = value[row][own]
        packed[row, slice(width - len(rest), None) if left else slice(len(rest))] = rest
    return packed


def _is_like(value: Any, ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == ids.shape and not value.is_floating_point()


def _ids(tokenizer: Any, *names: str) -> set[int]:
    return {token for name in names if isinstance(token := getattr(tokenizer, name, None), int)}


def _run(ids: Sequence[int], among: set[int]) -> int:
    """How many of the ids in front are among these."""
    return next((place for place, token in enumerate(ids) if token not in among), len(ids))
