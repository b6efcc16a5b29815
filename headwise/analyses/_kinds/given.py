"""What an analysis that runs the model itself is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
