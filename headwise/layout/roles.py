"""From token ids to roles: what the tokenizer, the config and the family say about each id."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from headwise.families import family_of
from headwise.layout.axes import ROLES
from headwise.model.tokenizing import tokenizing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MARKS = re.compile(r"^(?:##(?=.)|[▁Ġ ]+)")
"""Word-boundary marks before a token's text."""
_IMAGE_IDS = ("image_token_id", "image_token_index")
_VIDEO_IDS = ("video_token_id", "video_token_index")
_AUDIO_IDS = ("audio_token_id", "audio_token_index")


@dataclass(frozen=True)
class Vocabulary:
    """Which token ids mean something other than their text."""

    tokenizer: Any
    bos: frozenset[int]
    eos: frozenset[int]
    special: frozenset[int]
    start: frozenset[int]
    """Ids that begin a decoder's sequence."""
    language: frozenset[int]
    task: frozenset[int]
    image: frozenset[int]
    video: frozenset[int]
    audio: frozenset[int]
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    """(role, pattern): a token whose whole text matches has the role."""
    special_from: int | None
    """Ids from this one on are special (timestamps)."""

    @classmethod
    def of(cls, model: PreTrainedModel, processor: Any) -> Vocabulary:
        """The vocabulary of a model, from its tokenizer where there is one, else from its config."""
        tokenizer = tokenizer_of(processor)
        family = family_of(model.config)
        generation = getattr(model, "generation_config", None)
        configs = [model.config.get_text_config(decoder=True), model.config, generation]
        named = _named_ids(configs)
        image = frozenset() if family.image_marker else _among(model.config, _IMAGE_IDS)
        audio = _among(model.config, _AUDIO_IDS)
        if tokenizer is not None:
            bos = _ids(tokenizer.bos_token_id, tokenizer.cls_token_id)
            eos = _ids(tokenizer.eos_token_id, tokenizer.sep_token_id)
            added = getattr(tokenizer, "added_tokens_decoder", {})
            special = _ids(tokenizer.all_special_ids, [i for i, token in added.items() if token.special])
            special -= _ids(tokenizer.unk_token_id)
        else:
            bos = _ids(named.get("bos_token_id"), named.get("cls_token_id"))
            eos = _ids(named.get("eos_token_id"), named.get("sep_token_id"))
            special = _ids(*named.values())
        last_task = getattr(generation, "no_timestamps_token_id", None)
        return cls(
            tokenizer=tokenizer,
            bos=bos,
            eos=eos,
            special=special,
            start=_ids(named.get("decoder_start_token_id")),
            language=_ids(list((getattr(generation, "lang_to_id", None) or {}).values())),
            task=_ids(list((getattr(generation, "task_to_id", None) or {}).values()), last_task),
            image=image,
            video=_among(model.config, _VIDEO_IDS),
            audio=audio,
            patterns=tuple((role, re.compile(text)) for role, text in family.tags),
            special_from=None if last_task is None else last_task + 1,
        )

    def roles(
        self, ids: Int[Tensor, "example position"], valid: Bool[Tensor, "example position"], *, decoder: bool
    ) -> UInt8[Tensor, "example position"]:
        """The role of every position.

        Args:
            ids: token ids.
            valid: False where the model's mask hides a position; those are padding, whatever their id.
            decoder: the sequence begins with a decoder start token.
        """
        unique, inverse = torch.unique(ids, return_inverse=True)
        known = unique.tolist()
        texts = token_texts(self.tokenizer, known)
        table = [ROLES.index(self._role(token, text)) for token, text in zip(known, texts, strict=True)]
        roles = torch.tensor(table, dtype=torch.uint8)[inverse]
        first = valid & (valid.cumsum(-1) == 1)
        opening = self.bos | self.start if decoder else self.bos & self.eos
        opening_ids = torch.tensor(sorted(opening), dtype=ids.dtype)
        opens = first & torch.isin(ids, opening_ids) & ~_has_role(roles, "language", "task")
        roles[opens] = ROLES.index("bos")
        roles[~valid] = ROLES.index("padding")
        return roles

    def _role(self, token: int, text: str | None) -> str:
        if token in self.image or token in self.video:
            return "image"
        for role in ("audio", "language", "task"):
            if token in getattr(self, role):
                return role
        if text is not None:
            for role, pattern in self.patterns:
                if pattern.fullmatch(text):
                    return role
        if token in self.eos:
            return "eos"
        if token in self.bos:
            return "bos"
        if token in self.special or (self.special_from is not None and token >= self.special_from):
            return "special"
        return "punctuation" if text is not None and is_punctuation(text) else "content"


def mark_first(roles: UInt8[Tensor, "example position"]) -> UInt8[Tensor, "example position"]:
    """The roles of texts at their beginning: the first real token is `first` where its own role is an ordinary one.

    Example:
        >>> text = torch.tensor([[ROLES.index(role) for role in ("padding", "content", "content")]])
        >>> [ROLES[role] for role in mark_first(text.to(torch.uint8))[0]]
        ['padding', 'first', 'content']
    """
    real = roles != ROLES.index("padding")
    first = real & (real.cumsum(-1) == 1) & _has_role(roles, "content", "punctuation", "special")
    return roles.masked_fill(first, ROLES.index("first"))


def is_punctuation(text: str) -> bool:
    """True when a token is made of punctuation and symbols only, word-boundary marks aside.

    Example:
        >>> [is_punctuation(text) for text in ("Ġ,", "▁(", "##!", "a.", "▁")]
        [True, True, True, False, False]
    """
    text = MARKS.sub("", text)
    return bool(text) and all(unicodedata.category(letter)[0] in "PS" for letter in text)


def token_texts(tokenizer: Any, ids: list[int]) -> list[str | None]:
    """The text of each id, word-boundary marks included; None where there is no tokenizer or no such id.

    Byte-level tokens are shown as the characters they stand for, when they stand for whole characters.
    """
    if tokenizer is None:
        return [None] * len(ids)
    known = [token if token >= 0 else 0 for token in ids]
    with tokenizing(tokenizer):
        texts = tokenizer.convert_ids_to_tokens(known)
    return [
        None if token < 0 or text is None else _readable(tokenizer, text)
        for token, text in zip(ids, texts, strict=True)
    ]


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer in a processor, the processor itself when it is one, else None."""
    if hasattr(processor, "convert_ids_to_tokens"):
        return processor
    return getattr(processor, "tokenizer", None)


def _readable(tokenizer: Any, text: str) -> str:
    if text.isascii() or "▁" in text or text.lstrip("Ġ").isascii():
        return text
    characters = tokenizer.convert_tokens_to_string([text])
    if "\ufffd" in characters or not characters:
        return text
    return "Ġ" + characters[1:] if text.startswith("Ġ") and characters[0] == " " else characters


def _named_ids(configs: list[Any]) -> dict[str, list[Any]]:
    """Every `..._token_id` that the configs set."""
    named: dict[str, list[Any]] = {}
    for config in configs:
        for name, value in ({} if config is None else vars(config)).items():
            if name.endswith(("_token_id", "_token_index")) and name != "unk_token_id":
                named.setdefault(name, []).append(value)
    return named


def _among(config: Any, names: Iterable[str]) -> frozenset[int]:
    return _ids(*(getattr(config, name, None) for name in names))


def _ids(*values: Any) -> frozenset[int]:
    known: set[int] = set()
    for value in values:
        if isinstance(value, list | tuple):
            known |= _ids(*value)
        elif isinstance(value, int) and value >= 0:
            known.add(value)
    return frozenset(known)


def _has_role(roles: Tensor, *names: str) -> Tensor:
    return torch.isin(roles, torch.tensor([ROLES.index(name) for name in names], dtype=torch.uint8))
