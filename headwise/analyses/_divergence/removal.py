"""A question without part of its input: the part that is meant, and three ways of taking it away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from headwise.analyses._divergence.parts import MEDIA, Part, Without, having, part_of
from headwise.errors import InputError
from headwise.fixes.edits.mask_keys import MaskKeys
from headwise.probes.reply import Question
from headwise.subject.media import blank_image, silence

if TYPE_CHECKING:
    from headwise.probes.attach.sites import Site
    from headwise.probes.context import Context

How = Literal["drop", "mask", "blank"]


@dataclass(frozen=True, eq=False)
class Reading:
    """The second reading of a question."""

    what: str
    """What was taken away, in a word or two."""
    how: str
    inputs: Mapping[str, Any]
    fixes: tuple[Any, ...] = ()
    tower: str = ""
    kept: tuple[int, ...] | None = None
    """Positions of `tower` in the first reading that are keys in this one; None where all are."""


@dataclass(frozen=True)
class _NoSource:
    """Cross-attention without a key: every head writes nothing."""

    kind: str = field(default="cross", init=False)

    def scale(self, z: Tensor, site: Site, context: Context) -> Tensor:
        """Nothing."""
        return torch.zeros_like(z)


def without(question: Question, extra: Mapping[str, Any], what: Without | None, how: How | None) -> Reading:
    """The question without part of its input.

    Args:
        question: the first reading.
        extra: what the example says beside the keywords of `Subject.prepare`: `instead`, `context`.
        what: None for the only thing that can be meant.
        how: None drops what the language tower reads, silences sound that an encoder hears, and hides a source.

    Raises:
        InputError: there is no such part, or it cannot be taken away like that.
    """
    instead = extra.get("instead")
    if instead is not None:
        return _replaced(question, instead, what, how)
    part = part_of(question, extra, what)
    inside = part.tower == question.tower
    if how is None:
        droppable = part.positions and not part.whole and "input_ids" in question.inputs
        how = "drop" if droppable else "blank" if part.what in MEDIA else "mask"
    if how == "blank":
        return Reading(part.what, how, _blank(question, part))
    if not part.positions:
        raise InputError(
            f"No position of the {question.tower} tower holds the {part.what}.",
            evidence=type(question.subject.model).__name__,
            remedy='Use how="blank".',
        )
    if how == "mask":
        keys = sorted(part.positions)
        if part.whole:
            return Reading(part.what, how, question.inputs, (_NoSource(),), part.tower, ())
        hidden = (
            (MaskKeys(keys=keys),)
            if inside
            else (
                MaskKeys(keys=keys, kind="cross"),
                MaskKeys(keys=keys, tower=part.tower),
            )
        )
        return Reading(part.what, how, question.inputs, hidden)
    inputs = _dropped(question, part)
    length = question.layout.axes[part.tower].roles.shape[1]
    kept = tuple(place for place in range(length) if place not in part.positions)
    return Reading(part.what, how, inputs, (), part.tower, kept)


def _replaced(question: Question, instead: Any, what: Without | None, how: How | None) -> Reading:
    known = set(question.given) - {"target"}
    if not isinstance(instead, Mapping) or not instead or not set(instead) <= known or what or how:
        raise InputError(
            "instead= of an example says what to put in the place of its own inputs.",
            evidence=f"got {instead!r:.80}" if not (what or how) else "without= or how= is given, too",
            remedy=f"Give any of {', '.join(sorted(known))} in it, and leave without= and how= out.",
        )
    return Reading("/".join(sorted(instead)), "instead", question.changed(**instead))


def _blank(question: Question, part: Part) -> dict[str, Any]:
    """The question with a mean-coloured picture, or with silence."""
    if part.what not in MEDIA:
        raise InputError(
            "Only an image or a sound can be blank.", evidence=part.what, remedy='Use how="drop" or "mask".'
        )
    keyword = MEDIA[part.what][0]
    make = blank_image if keyword == "image" else silence
    own = question.given[keyword]
    return question.changed(**{keyword: [make(one) for one in own] if isinstance(own, list) else make(own)})


def _dropped(question: Question, part: Part) -> dict[str, Any]:
    """The inputs without some positions; those behind them move up."""
    if part.whole or "input_ids" not in question.inputs:
        raise InputError(
            f"The {part.what} cannot be dropped: this decoder reads through cross-attention, and needs a source.",
            evidence=type(question.subject.model).__name__,
            remedy='Use how="mask"' + (' or "blank".' if part.what in MEDIA else "."),
        )
    inputs, axis = question.inputs, question.layout.axes[part.tower]
    ids = inputs["input_ids"]
    before = axis.roles.shape[1] - ids.shape[1]  # image features that stand before the ids
    columns = [place for place in range(ids.shape[1]) if place + before not in part.positions]
    media = set(having(axis, ("image", "audio", "silence")).nonzero().flatten().tolist())
    if len(columns) < (len(question.reply) if part.tower == question.tower else 1):
        raise InputError("Nothing would be left of the prompt.", remedy='Use how="mask", or take less away.')
    cut = media & part.positions
    if cut and cut != media:
        raise InputError(
            "A part of an image or a sound cannot be dropped.",
            evidence=part.what,
            remedy='Use how="mask", or drop all of it.',
        )
    alike = {
        name: value[:, columns]
        for name, value in inputs.items()
        if isinstance(value, Tensor) and value.shape == ids.shape and not name.startswith("decoder")
    }
    return alike if cut else {**inputs, **alike}
