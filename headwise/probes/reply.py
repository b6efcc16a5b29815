"""One example and its reply, as inputs of a forward that reads both: row after row predicts the next token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.layout import ROLES, TokenLayout
from headwise.layout.roles import token_texts
from headwise.model.tokenizing import decoded, encoded
from headwise.probes.attach.sites import language_tower
from headwise.probes.run_examples import new_tokens, run_model
from headwise.subject.generation import check_generation, prepare_generation
from headwise.subject.prepare import prepare
from headwise.subject.tokens import TEXT, check_length
from headwise.text import word_starts

if TYPE_CHECKING:
    from headwise.subject import Subject

_PREFIX = ("bos", "first", "special", "language", "task", "eos")
"""Roles of what a decoder begins with before the reply."""


@dataclass(frozen=True, eq=False)
class Question:
    """An example, and the reply that both readings of it are given."""

    subject: Subject
    given: Mapping[str, Any]
    """Keywords of `Subject.prepare`; those of an encoder-decoder with the reply as `target`."""
    reply: tuple[int, ...]
    """Token ids, one or more. The last is predicted and not read."""
    inputs: Mapping[str, Any]
    """Arguments of the forward."""
    layout: TokenLayout
    notes: tuple[str, ...] = ()

    @property
    def tower(self) -> str:
        """The tower that writes the reply."""
        return language_tower(list(self.layout.axes))

    @property
    def tokens(self) -> list[str]:
        """The text of every token of the reply."""
        texts = token_texts(self.subject.tokenizer, list(self.reply))
        return [str(token) if text is None else text for token, text in zip(self.reply, texts, strict=True)]

    @property
    def positions(self) -> range:
        """Where the tokens of the reply stand; the row before each predicts it."""
        behind = self.layout.axes[self.tower].roles.shape[1] + 1
        return range(behind - len(self.reply), behind)

    @property
    def words(self) -> list[int]:
        """Number of the word that a token belongs to; without a tokenizer each is one."""
        count = len(self.reply)
        if self.subject.tokenizer is None:
            return list(range(count))
        texts = [decoded(self.subject.tokenizer, list(self.reply[: end + 1])) for end in range(count)]
        starts = {0, *word_starts(texts)}
        return [sum(start <= place for start in starts) - 1 for place in range(count)]

    def changed(self, **media: Any) -> dict[str, Any]:
        """Arguments of the forward for the same question with other keywords, and the same reply."""
        return _inputs(self.subject, {**self.given, **media}, self.reply)


def question(subject: Subject, example: Mapping[str, Any], *, generate: int) -> Question:
    """An example with its reply: as given (`reply`, or the `target` of an encoder-decoder), else generated greedily.

    Args:
        subject: the model with its processor.
        example: keywords of `Subject.prepare`, and perhaps `reply`: text, or token ids.
        generate: the most tokens to generate.

    Raises:
        InputError: the model generates nothing, the example is a batch, or there is no reply.
    """
    given = dict(example)
    reply = given.pop("reply", None)
    model: Any = subject.model
    if not model.can_generate():
        raise InputError(
            "This model generates nothing, so that no row of it predicts a reply.",
            evidence=type(model).__name__,
            remedy="Compare two captures of it: hw.analyses.trace_divergence(before, after).",
        )
    if subject.config.is_encoder_decoder:
        return _translated(subject, given, reply, generate)
    notes: tuple[str, ...] = ()
    if reply is None:
        ids, notes = _generated(subject, given, generate)
    else:
        ids = _ids(subject, reply)
    inputs = _inputs(subject, given, ids)
    check_length(subject, inputs["input_ids"], TEXT)
    return Question(subject, given, tuple(ids), inputs, subject.layout(inputs), notes)


def _translated(subject: Subject, given: dict[str, Any], reply: Any, generate: int) -> Question:
    """A question to an encoder-decoder."""
    notes: tuple[str, ...] = ()
    if reply is not None:
        given["target"] = reply
    if given.get("target") is None:
        ids, notes = _generated(subject, given, generate)
        given["target"] = decoded(subject.tokenizer, ids, skip_special_tokens=True).strip()
        if not given["target"]:
            raise InputError(
                "The model writes nothing here.", remedy='Give the reply: {..., "target": "the words"}.'
            )
    batch = dict(prepare(subject, **given).batch)
    _require_one(batch, "decoder_input_ids")
    roles = subject.layout(batch).axes["decoder"].roles[0].tolist()
    prefix = next((place for place, role in enumerate(roles) if ROLES[role] not in _PREFIX), len(roles))
    ids = batch["decoder_input_ids"][0, max(prefix, 1) :].tolist()
    if not ids:
        raise InputError("The reply has no tokens.", remedy="Give one word or more.")
    inputs = _inputs(subject, given, ids)
    return Question(subject, given, tuple(ids), inputs, subject.layout(inputs), notes)


def _inputs(subject: Subject, given: Mapping[str, Any], reply: Sequence[int]) -> dict[str, Any]:
    """Arguments of the forward that reads a prompt and its reply without the last token."""
    batch = dict(prepare(subject, **given).batch)
    if subject.config.is_encoder_decoder:
        read = ("decoder_input_ids", "decoder_attention_mask")
        return {name: value[:, :-1] if name in read else value for name, value in batch.items()}
    _require_one(batch, "input_ids")
    ids = batch["input_ids"]
    more = ids.new_tensor(reply[:-1])[None]
    for name, value in batch.items():
        if isinstance(value, Tensor) and value.shape == ids.shape:
            behind = more if value is ids else value[:, -1:].expand(more.shape)
            batch[name] = torch.cat([value, behind], 1)
    return batch


def _require_one(batch: Mapping[str, Any], name: str) -> None:
    if not isinstance(batch.get(name), Tensor) or len(batch[name]) != 1:
        raise InputError(
            "Every example is a prompt of its own.",
            evidence=f"this one has {len(batch.get(name, ()))} prompts",
            remedy='Give one mapping per example: [{"text": …}, {"text": …}].',
        )


def _generated(
    subject: Subject, given: Mapping[str, Any], generate: int
) -> tuple[list[int], tuple[str, ...]]:
    """What the model replies, up to the end of the sequence; the end itself where it is all."""
    asked = prepare_generation(subject, **given)
    check_generation(subject, asked.inputs, generate)
    output = run_model(subject, asked.inputs, generate, **asked.options)
    ids = new_tokens(subject, asked.inputs, output)[0].tolist()
    model: Any = subject.model
    end = getattr(model.generation_config, "eos_token_id", None)
    ends = set(end if isinstance(end, list) else [end])
    stop = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[: max(stop, 1)], asked.notes


def _ids(subject: Subject, reply: Any) -> list[int]:
    """A reply as token ids.

    Raises:
        InputError: it is empty, or text without a tokenizer.
    """
    ids = reply
    if isinstance(reply, str) and subject.tokenizer is not None:
        ids = encoded(subject.tokenizer, reply, add_special_tokens=False, verbose=False).input_ids
    words = subject.config.get_text_config(decoder=True).vocab_size
    good = isinstance(ids, list | tuple) and ids
    if not good or not all(type(token) is int and 0 <= token < words for token in ids):
        raise InputError(
            "The reply of an example is a text, or a list of token ids of the model.",
            evidence=f"got {reply!r:.60}",
            remedy="Give token ids, or hw.wrap(model, processor): there is no tokenizer to read a text with."
            if subject.tokenizer is None
            else 'For example {"text": "…", "reply": "yes"}; leave it out to have it generated.',
        )
    return list(ids)
