"""Token ids of texts and of what a decoder is given: padded, shifted, and short enough for the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.errors import InputError

if TYPE_CHECKING:
    from headwise.subject import Subject

NO_TOKENIZER = "Give token ids instead of text, or hw.wrap(model, processor)."

TEXT = ("max_position_embeddings",)
ENCODER = ("max_encoder_position_embeddings", "max_position_embeddings")
DECODER = ("max_target_positions", "max_decoder_position_embeddings", "max_position_embeddings")


def as_texts(text: Any) -> list[Any] | None:
    """A list of strings, or a list of rows of ids."""
    if text is None:
        return None
    if isinstance(text, Tensor):
        text = text.tolist()
    if isinstance(text, str) or (isinstance(text, list) and text and isinstance(text[0], int)):
        text = [text]
    if not isinstance(text, list) or not text:
        raise InputError(
            "This is not a text.",
            evidence=type(text).__name__,
            remedy="Give a string, a list of strings, or token ids.",
        )
    if len({isinstance(item, str) for item in text}) > 1:
        raise InputError("Strings and token ids are mixed in one batch.", remedy="Give all of one kind.")
    if any(isinstance(item, str) and not item.strip() for item in text):
        raise InputError("The text is empty.", remedy="Give one word or more.")
    return text


def word_ids(subject: Subject, texts: list[Any]) -> dict[str, Tensor]:
    """Token ids of texts, padded on the tokenizer's side; ids are taken as they are."""
    side = getattr(subject.tokenizer, "padding_side", "right")
    if not isinstance(texts[0], str):
        return _padded({"input_ids": texts}, _pad_id(subject), side)
    if subject.tokenizer is None:
        raise InputError("There is no tokenizer to read this text with.", remedy=NO_TOKENIZER)
    encoded = subject.tokenizer(texts, verbose=False, return_attention_mask=True)
    rows = {name: encoded[name] for name in subject.tokenizer.model_input_names if name in encoded}
    return _padded({**rows, "input_ids": encoded["input_ids"]}, _pad_id(subject), side)


def decoder_ids(subject: Subject, targets: list[Any] | None, size: int) -> dict[str, Tensor]:
    """Ids the decoder starts from: the target, shifted as the model shifts its labels, or the start token."""
    if targets is None:
        return {"decoder_input_ids": torch.tensor([_opening(subject)] * size)}
    if not isinstance(targets[0], str):
        rows = targets
    elif subject.tokenizer is None:
        raise InputError("There is no tokenizer to read this target with.", remedy=NO_TOKENIZER)
    else:
        rows = [
            _shifted(subject, row) for row in subject.tokenizer(text_target=targets, verbose=False).input_ids
        ]
    padded = _padded({"input_ids": rows}, _pad_id(subject), "right")
    batch = {"decoder_input_ids": padded["input_ids"]}
    if not padded["attention_mask"].all():
        batch["decoder_attention_mask"] = padded["attention_mask"]
    return batch


def _shifted(subject: Subject, labels: list[int]) -> list[int]:
    opening = _opening(subject)
    ends = labels[-1:] == [subject.tokenizer.eos_token_id]
    if labels[: len(opening)] == opening:
        return labels[:-1] if ends else labels
    shift = getattr(subject.model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None and ends:
        return shift(labels=torch.tensor([labels]))[0].tolist()
    return opening + (labels[:-1] if ends else labels)


def _opening(subject: Subject) -> list[int]:
    """What every decoder sequence begins with: Whisper's prompt, else the start token."""
    generation = getattr(subject.model, "generation_config", None)
    found = [
        getattr(config, name, None)
        for name in ("decoder_start_token_id", "bos_token_id")
        for config in (subject.config, generation, subject.config.get_text_config(decoder=True))
    ]
    start = next((token for token in found if isinstance(token, int)), None)
    if start is None:
        raise InputError(
            "The model does not say which token its decoder starts with.",
            remedy="Set model.config.decoder_start_token_id, or give target= as token ids.",
        )
    prompt = list(getattr(subject.tokenizer, "prefix_tokens", []))
    return prompt if prompt[:1] == [start] else [start]


def check_length(subject: Subject, ids: Tensor | None, names: tuple[str, ...]) -> None:
    """Refuse more tokens than the config, under the first of `names` it has, gives positions for."""
    if ids is None:
        return
    config = subject.config.get_text_config(decoder=True)
    limits = (getattr(owner, name, None) for name in names for owner in (config, subject.config))
    limit = next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)
    if limit is None:
        return
    limit -= _reserved(subject.model)
    if ids.shape[1] > limit:
        raise InputError(
            f"The text is {ids.shape[1]} tokens long and the model has {limit} positions.",
            remedy="Shorten the text, or cut it into pieces.",
        )


def _reserved(model: nn.Module) -> int:
    """Positions that RoBERTa-like models set aside in front, up to their padding index."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def _padded(rows: dict[str, Sequence[Any]], pad: int, side: str) -> dict[str, Tensor]:
    """Rows of unequal length as tensors, with the attention mask that tells the padding."""
    ids = [[int(token) for token in row] for row in rows["input_ids"]]
    if not all(ids):
        raise InputError("The text has no tokens.", remedy="Give one word or more.")
    width = max(map(len, ids))

    def fill(row: list[int], value: int) -> list[int]:
        gap = [value] * (width - len(row))
        return gap + row if side == "left" else row + gap

    batch = {name: torch.tensor([fill(list(row), 0) for row in rows[name]]) for name in rows}
    batch["input_ids"] = torch.tensor([fill(row, pad) for row in ids])
    if "attention_mask" not in batch:
        batch["attention_mask"] = torch.tensor([fill([1] * len(row), 0) for row in ids])
    return batch


def _pad_id(subject: Subject) -> int:
    config = subject.config.get_text_config(decoder=True)
    for owner in (subject.tokenizer, config):
        for name in ("pad_token_id", "eos_token_id"):
            token = getattr(owner, name, None)
            if isinstance(token, int) and token >= 0:
                return token
    return 0
