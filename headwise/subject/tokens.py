"""Token ids of texts and of what a decoder is given: padded, shifted, and short enough for the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.errors import InputError
from headwise.model.tokenizing import encoded
from headwise.probes.generation.forward_inputs import lacks_positions
from headwise.subject.positions import left_padding, positions_of
from headwise.subject.specials import doubled
from headwise.subject.speech_prompt import speech_prompt, window_frames

if TYPE_CHECKING:
    from headwise.subject.loaded import LoadedModel

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
    if isinstance(text, str) or (isinstance(text, list) and text and _is_id(text[0])):
        text = [text]
    if not isinstance(text, list) or not text:
        raise _no_text(text)
    if any(_is_message(item) or (isinstance(item, list) and any(map(_is_message, item))) for item in text):
        raise InputError(
            "These are the messages of a chat, and not a text.",
            remedy="Give what tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) "
            "returns.",
        )
    if len({isinstance(item, str) for item in text}) > 1:
        raise InputError("Strings and token ids are mixed in one batch.", remedy="Give all of one kind.")
    if not isinstance(text[0], str):
        text = [_as_ids(item) for item in text]
    if any(isinstance(item, str) and not item.strip() for item in text):
        raise InputError("The text is empty.", remedy="Give one word or more.")
    return text


def _as_ids(row: Any) -> list[int]:
    """A row of token ids.

    Raises:
        InputError: it is something else.
    """
    items = row.tolist() if isinstance(row, Tensor) else row
    if not isinstance(items, list | tuple) or not all(map(_is_id, items)):
        wrong = (
            next((item for item in items if not _is_id(item)), row)
            if isinstance(items, list | tuple)
            else row
        )
        raise _no_text(wrong)
    return [int(item) for item in items]


def _is_id(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool | Tensor)


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping)


def _no_text(value: Any) -> InputError:
    return InputError(
        "This is not a text.",
        evidence=f"{value!r:.60}, {type(value).__name__}" if not isinstance(value, list) else "an empty list",
        remedy="Give a string, a list of strings, or token ids.",
    )


def word_ids(subject: LoadedModel, texts: list[Any]) -> dict[str, Tensor]:
    """Token ids of texts, padded on the tokenizer's side; ids are taken as they are."""
    tokenizer = subject.tokenizer
    if not isinstance(texts[0], str):
        rows: dict[str, Any] = {"input_ids": texts}
    elif tokenizer is None:
        raise InputError("There is no tokenizer to read this text with.", remedy=NO_TOKENIZER)
    else:
        found = encoded(tokenizer, texts, verbose=False, return_attention_mask=True)
        names = [name for name in tokenizer.model_input_names if name in found]
        rows = {name: found[name] for name in dict.fromkeys([*names, "input_ids"])}
        for row, text in enumerate(texts):
            if gone := set(doubled(tokenizer, text, rows["input_ids"][row])):
                for values in rows.values():
                    values[row] = [value for place, value in enumerate(values[row]) if place not in gone]
    return _padded(rows, pad_id(subject), _side(subject, rows["input_ids"]))


def given_positions(subject: LoadedModel, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The positions of a left-padded batch, where the model does not count them from the mask.

    Raises:
        InputError: the model counts from the left edge, whatever it is given.
    """
    if not lacks_positions(batch):
        return {}
    rule = left_padding(subject.model, pad_id(subject))
    if rule == "edge":
        raise _shifted_positions(subject)
    return {"position_ids": positions_of(batch["attention_mask"])} if rule == "position_ids" else {}


def _side(subject: LoadedModel, rows: Sequence[Sequence[int]]) -> str:
    """The tokenizer's side; the right one where the left one would shift positions and nobody reads the last column."""
    side = getattr(subject.tokenizer, "padding_side", "right")
    if side == "right" or len({len(row) for row in rows}) < 2:
        return side
    if left_padding(subject.model, pad_id(subject)) != "edge":
        return side
    if subject.model.can_generate() and not subject.config.is_encoder_decoder:
        raise _shifted_positions(subject)
    return "right"


def _shifted_positions(subject: LoadedModel) -> InputError:
    return InputError(
        "This model counts positions from the left edge, so that padding there moves every word.",
        evidence=f"{type(subject.model).__name__} takes no position_ids that mend it",
        remedy='Prepare the texts one by one, or set tokenizer.padding_side = "right" for a forward.',
    )


def decoder_ids(subject: LoadedModel, targets: list[Any] | None, size: int) -> dict[str, Tensor]:
    """Ids the decoder starts from: the target, shifted as the model shifts its labels, or the start token."""
    start = start_id(subject)
    if targets is None:
        return {"decoder_input_ids": torch.tensor([[start]] * size)}
    if not isinstance(targets[0], str):
        return _decoder_batch(subject, targets)
    labels = encoded(_tokenizer(subject), text_target=targets, verbose=False).input_ids
    return _decoder_batch(subject, [_shifted(subject, row, start) for row in labels])


def spoken(
    subject: LoadedModel,
    heard: Tensor,
    targets: list[Any] | None,
    *,
    language: str | Sequence[str] | None,
    task: str | None,
    decoder: bool,
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """What the decoder of a speech recogniser is given beside `heard`, and its language in words.

    Its prompt and the target are decoder ids where the user asks for one of them. Where nobody does, the prompt comes
    as labels, from which a forward makes the same ids and which `generate` leaves aside, so that it obeys its own
    `language`, `task` and `return_timestamps`. Nothing for a recording longer than a window, which `generate` alone
    can read.
    """
    long = heard.shape[-1] > window_frames(subject.model)
    asked = language is not None or task is not None
    if long and (targets is not None or asked):
        raise InputError(
            "The sound is longer than the window of the model, which a prompt or a target belongs to.",
            remedy="Leave them out and give language and task to model.generate, or cut the sound into pieces.",
        )
    if targets is not None and not isinstance(targets[0], str):
        return _decoder_batch(subject, targets), ()
    if long or not (decoder or asked or targets is not None):
        return {}, ()
    prompt = speech_prompt(subject, heard, start=start_id(subject), language=language, task=task)
    if targets is not None:
        words = encoded(
            _tokenizer(subject), text_target=targets, verbose=False, add_special_tokens=False
        ).input_ids
        rows = [front + row for front, row in zip(prompt.ids, words, strict=True)]
        return _decoder_batch(subject, rows), prompt.notes
    ids = torch.tensor(prompt.ids)
    if asked or not subject.model.can_generate():
        return {"decoder_input_ids": ids}, prompt.notes
    end = torch.full((len(ids), 1), pad_id(subject))
    return {"labels": torch.cat([ids[:, 1:], end], 1)}, prompt.notes


def _tokenizer(subject: LoadedModel) -> Any:
    if subject.tokenizer is None:
        raise InputError("There is no tokenizer to read this target with.", remedy=NO_TOKENIZER)
    return subject.tokenizer


def _decoder_batch(subject: LoadedModel, rows: list[Any]) -> dict[str, Tensor]:
    padded = _padded({"input_ids": rows}, pad_id(subject), "right")
    batch = {"decoder_input_ids": padded["input_ids"]}
    if not padded["attention_mask"].all():
        batch["decoder_attention_mask"] = padded["attention_mask"]
    return batch


def _shifted(subject: LoadedModel, labels: list[int], start: int) -> list[int]:
    ends = labels[-1:] == [subject.tokenizer.eos_token_id]
    if labels[:1] == [start]:
        return labels[:-1] if ends else labels
    shift = getattr(subject.model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None and ends:
        return shift(labels=torch.tensor([labels]))[0].tolist()
    return [start] + (labels[:-1] if ends else labels)


def start_id(subject: LoadedModel) -> int:
    """The token that every decoder sequence begins with."""
    generation = getattr(subject.model, "generation_config", None)
    named = [
        getattr(config, name, None)
        for name in ("decoder_start_token_id", "bos_token_id")
        for config in (subject.config, generation, subject.config.get_text_config(decoder=True))
    ]
    start = next((token for token in named if isinstance(token, int)), None)
    if start is None:
        raise InputError(
            "The model does not say which token its decoder starts with.",
            remedy="Set model.config.decoder_start_token_id, or give target= as token ids.",
        )
    return start


def position_limit(subject: LoadedModel, names: tuple[str, ...]) -> int | None:
    """Positions that the config gives, under the first of `names` it has, for tokens; None where it does not say."""
    config = subject.config.get_text_config(decoder=True)
    limits = (getattr(owner, name, None) for name in names for owner in (config, subject.config))
    limit = next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)
    return None if limit is None else limit - _reserved(subject.model)


def check_length(subject: LoadedModel, ids: Tensor | None, names: tuple[str, ...]) -> None:
    """Refuse more tokens than there are positions for, see `position_limit`."""
    limit = position_limit(subject, names)
    if ids is not None and limit is not None and ids.shape[1] > limit:
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
    if any(token is None for row in rows["input_ids"] for token in row):
        raise InputError(
            "The tokenizer has no number for a part of the text, and none for what it does not know.",
            remedy="Give a text of its vocabulary, or token ids.",
        )
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


def pad_id(subject: LoadedModel) -> int:
    """The id that padding is filled with: the tokenizer's, else one of the config's that has an embedding, else 0."""
    config = subject.config.get_text_config(decoder=True)
    size = getattr(config, "vocab_size", None) or math.inf
    for owner, limit in ((subject.tokenizer, math.inf), (config, size)):
        for name in ("pad_token_id", "eos_token_id"):
            token = getattr(owner, name, None)
            if isinstance(token, int) and 0 <= token < limit:
                return token
    return 0
