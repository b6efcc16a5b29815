"""What an analysis that runs the model itself is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.subject import Subject, unwrap, wrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def as_subject(subject: Subject | PreTrainedModel, name: str) -> Subject:
    """A subject as it is, a bare model wrapped, for the analysis of that name.

    Raises:
        InputError: it is neither.
    """
    try:
        return subject if isinstance(subject, Subject) else wrap(*unwrap(subject))
    except InputError as error:
        raise InputError(
            f"{name} runs a model.",
            evidence=f"got {type(subject).__name__}",
            remedy=f"hw.analyses.{name}(hw.load(...)).",
        ) from error


def as_examples(
    data: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]], name: str
) -> list[dict[str, Any]]:
    """Keywords of `Subject.prepare` for every example, for the analysis of that name; a text stands for itself.

    Raises:
        InputError: there is none, or something else.
    """
    found: list[Any] = (
        [data] if isinstance(data, str | Mapping) else list(data) if isinstance(data, Iterable) else []
    )
    if not found or not all(isinstance(one, str | Mapping) for one in found):
        wrong = next((one for one in found if not isinstance(one, str | Mapping)), data)
        raise InputError(
            f"{name} reads a list of examples.",
            evidence=f"got {type(wrong).__name__}" if found or data else "there is none",
            remedy=f'For example hw.analyses.{name}(subject, [{{"text": "…"}}]), or --text on the command line.',
        )
    return [{"text": one} if isinstance(one, str) else dict(one) for one in found]
