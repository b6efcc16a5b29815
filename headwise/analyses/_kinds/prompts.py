"""Prompts made for finding out what a head does: random tokens, read twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.layout.roles import Vocabulary
from headwise.subject.repeats import ordinary_tokens, random_copies
from headwise.subject.tokens import DECODER, ENCODER, TEXT, position_limit, start_id

if TYPE_CHECKING:
    from headwise.subject import Subject

PERIOD = 25
"""Tokens of a copy, where the model has room for them."""


def repeats(subject: Subject, sequences: int, period: int | None, seed: int) -> list[dict[str, Any]]:
    """Keywords of `Subject.prepare` for every sequence.

    A decoder reads its opening token, if it has one, and the copies; an encoder reads its separator behind them, too.
    Both towers of an encoder-decoder read the copies.

    Args:
        subject: a model that reads words.
        sequences: how many.
        period: different tokens that are read twice; as many as the model has room for, at most 25, when None.
        seed: of the tokens.

    Raises:
        InputError: the model reads no words, or not so many.
    """
    if period is not None and period < 2:
        raise InputError("A sequence has two tokens or more.", evidence=f"period={period}")
    if subject.model.main_input_name != "input_ids":
        raise InputError(
            "Sequences of random tokens are for models that read words.",
            evidence=f"{type(subject.model).__name__} reads {subject.model.main_input_name}",
            remedy="Capture an input of its own with maps=True, and ask hw.analyses.pattern_types(trace).",
        )
    both = subject.config.is_encoder_decoder
    vocabulary = Vocabulary.of(subject.model, subject.processor)
    reads_back = not both and not subject.model.can_generate()
    opening = sorted(vocabulary.bos)[:1] if not both else []
    ending = sorted(vocabulary.eos)[:1] if both or reads_back else []
    limits = [position_limit(subject, names) for names in ((ENCODER, DECODER) if both else (TEXT,))]
    room = min(
        [(limit - len(opening + ending) - both) // 2 for limit in limits if limit is not None], default=PERIOD
    )
    room = min(room, len(ordinary_tokens(subject)))
    if (period or 2) > room:
        raise InputError(
            f"The model has no room for two copies of {period or 2} different tokens.",
            evidence=f"room for {room}",
        )
    period = period or min(room, PERIOD)
    made = []
    for number in range(sequences):
        copies = random_copies(subject, f"{seed}/{number}", period)
        one: dict[str, Any] = {"text": [*opening, *copies, *ending]}
        made.append(one | ({"target": [start_id(subject), *copies]} if both else {}))
    return made
