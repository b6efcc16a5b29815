"""The part of a question that is taken away: what is meant, and the positions that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.layout import ROLES
from headwise.model.tokenizing import encoded
from headwise.probes.attach.sites import key_tower
from headwise.probes.reply import Question

if TYPE_CHECKING:
    from headwise.layout import Axis

Without = Literal["image", "sound", "source", "context"] | tuple[int, int]
MEDIA: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "image": ("image", ("image",)),
    "sound": ("audio", ("audio", "silence")),
}
"""What may be taken away -> its keyword in an example, and the roles of its positions."""


@dataclass(frozen=True)
class Part:
    """Positions to take away."""

    what: str
    tower: str
    """The tower whose positions they are."""
    positions: frozenset[int]
    whole: bool = False
    """True where it is all that a decoder's cross-attention reads."""


def part_of(question: Question, extra: Mapping[str, Any], what: Without | None) -> Part:
    """The part that is meant.

    Args:
        question: the first reading.
        extra: what the example says beside the keywords of `Subject.prepare`: `context`.
        what: None for the only thing that can be meant.

    Raises:
        InputError: there is no such part.
    """
    if what is None:
        what = _only(question, extra)
    source = "encoder" if question.subject.config.is_encoder_decoder else question.tower
    if what in ("image", "sound"):
        return _medium(question, what)
    axis = question.layout.axes.get(source)
    if axis is None or (isinstance(what, str) and question.given.get("text") is None):
        raise _nothing(question, what)
    prompt = int(axis.valid.sum())
    if source == question.tower:
        prompt -= len(question.reply) - 1
    if isinstance(what, str):
        if what == "context":
            return Part("context", source, _context(question, extra.get("context"), axis))
        if source == question.tower:
            raise InputError(
                "This model has no source apart from its prompt.",
                evidence=type(question.subject.model).__name__,
                remedy="Name a span of the prompt: without=(start, stop).",
            )
        return Part("source", source, frozenset(range(prompt)), whole=True)
    start, stop = what
    if not 0 <= start < stop <= prompt:
        raise InputError(
            "The span lies outside of the prompt.",
            evidence=f"({start}, {stop}); the prompt has positions 0 to {prompt - 1}",
            remedy="Give (start, stop): the first position, and the one behind the last.",
        )
    if stop - start == prompt:
        raise InputError(
            "Nothing would be left of the prompt.",
            evidence=f"({start}, {stop}) is all of it",
            remedy='Leave a position, or use without="source".'
            if source != question.tower
            else "Leave a position.",
        )
    return Part(f"positions {start} to {stop - 1}", source, frozenset(range(start, stop)))


def _only(question: Question, extra: Mapping[str, Any]) -> Without:
    """What is meant where nobody says it."""
    if question.given.get("image") is not None:
        return "image"
    if question.given.get("audio") is not None:
        return "sound"
    if extra.get("context") is not None:
        return "context"
    if question.subject.config.is_encoder_decoder:
        return "source"
    raise InputError(
        "Nothing is named to take away, and the example holds text alone.",
        evidence=", ".join(sorted(question.given)),
        remedy='Name a span of the prompt, without=(start, stop); or give the part of "text" that is its "context" '
        "in the example.",
    )


def _nothing(question: Question, what: Without) -> InputError:
    return InputError(
        f"There is no {what if isinstance(what, str) else 'prompt'} to take away"
        + ("." if isinstance(what, str) else " a span of."),
        evidence=f"the example has {', '.join(sorted(question.given))}",
        remedy='Give it, such as {"text": "…", "image": "scene.png"}; or name something else: '
        'without="image", "sound", "source", "context" or (start, stop).',
    )


def _medium(question: Question, what: Literal["image", "sound"]) -> Part:
    """The positions of an image or a sound: in the language tower, or all that a decoder reads."""
    keyword, roles = MEDIA[what]
    if question.given.get(keyword) is None:
        raise _nothing(question, what)
    axis = question.layout.axes[question.tower]
    found = having(axis, roles)
    if found.any():
        return Part(what, question.tower, frozenset(_touching(axis, found).nonzero().flatten().tolist()))
    source = key_tower(question.tower, "cross", question.layout.axes)
    heard = question.layout.axes.get(source)
    if not question.subject.config.is_encoder_decoder or heard is None:
        return Part(what, question.tower, frozenset())
    return Part(what, source, frozenset(heard.valid[0].nonzero().flatten().tolist()), whole=True)


def having(axis: Axis, roles: tuple[str, ...]) -> Tensor:
    """True on the positions of the example that have one of these roles, (position,)."""
    return torch.isin(axis.roles[0].long(), torch.tensor([ROLES.index(role) for role in roles]))


def _touching(axis: Axis, found: Tensor) -> Tensor:
    """The positions, and special tokens that touch them directly or through one another."""
    special = having(axis, ("special",))
    while True:
        wider = found.clone()
        wider[1:] |= special[1:] & found[:-1]
        wider[:-1] |= special[:-1] & found[1:]
        if torch.equal(wider, found):
            return found
        found = wider


def _context(question: Question, context: Any, axis: Axis) -> frozenset[int]:
    """The tokens of the prompt that the context is made of, by their places in the text."""
    text = question.given["text"]
    if not isinstance(context, str) or not isinstance(text, str) or text.count(context or text) != 1:
        raise InputError(
            "The context of an example is a part of its text that stands there once.",
            evidence=f"got {context!r:.60}",
            remedy='Give it, such as {"text": "It rained. What happened?", "context": "It rained."}, or '
            "without=(start, stop).",
        )
    tokenizer: Any = question.subject.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise _no_offsets()
    read = encoded(tokenizer, text, return_offsets_mapping=True, verbose=False)
    known = axis.ids
    if known is None or known[0, : len(read.input_ids)].tolist() != list(read.input_ids):
        raise _no_offsets()
    start = text.index(context)
    stop = start + len(context)
    inside = [place for place, (a, b) in enumerate(read.offset_mapping) if a < b and a < stop and b > start]
    return frozenset(inside)


def _no_offsets() -> InputError:
    return InputError(
        "The tokenizer does not say which tokens of this prompt its context is made of.",
        remedy="Give their positions, without=(start, stop); subject.layout(inputs).to_frame() lists them.",
    )
