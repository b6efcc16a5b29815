"""Data for fits and studies: where it comes from, its prompts, and scores of a subject on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from headwise.errors import InputError

if TYPE_CHECKING:
    from headwise.subject import Subject


@runtime_checkable
class Calibration(Protocol):
    """Data that constants of a fix are learned from; it is kept apart from what the fix is judged on."""

    @property
    def name(self) -> str:
        """Where the data comes from, for the record."""
        ...

    @property
    def prompts(self) -> Sequence[Mapping[str, Any]]:
        """Keyword arguments of `Subject.prepare`, one mapping per example."""
        ...

    def scores(self, subject: Subject) -> Sequence[float]:
        """One number per example, higher is better, of the subject as it is now: patches on it count.

        Raises:
            InputError: the data are prompts without answers.
        """
        ...


@dataclass(frozen=True)
class Prompts:
    """Prompts without answers.

    Raises:
        InputError: there are none.
    """

    prompts: Sequence[Mapping[str, Any]]
    name: str = "the prompts given"

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError("There is nothing to fit on.", evidence="0 prompts", remedy="Give prompts.")

    def scores(self, subject: Subject) -> Sequence[float]:
        """Refused: nothing tells which answer is right."""
        raise InputError(
            "This fix is fitted on answers, and these prompts have none.",
            evidence=f"{len(self.prompts)} prompts",
            remedy="Give a task: hw.fit(subject, fix, task).",
        )


def as_calibration(data: Calibration | Sequence[str | Mapping[str, Any]]) -> Calibration:
    """The data as a `Calibration`: a list of texts, or of keyword arguments of `Subject.prepare`, is one of prompts.

    Raises:
        InputError: it is neither, or it is empty.

    Example:
        >>> as_calibration(["A cat sat."]).prompts
        [{'text': 'A cat sat.'}]
    """
    if isinstance(data, Calibration):
        if not data.prompts:
            raise InputError("There is nothing to fit on.", evidence=data.name, remedy="Give more examples.")
        return data
    if isinstance(data, str) or not isinstance(data, Sequence):
        raise InputError(
            "A fix is fitted on a task or on a list of prompts.",
            evidence=f"got {type(data).__name__}",
            remedy="For example hw.fit(subject, fix, task), or a list of texts.",
        )
    prompts: list[Mapping[str, Any]] = []
    for item in data:
        if not isinstance(item, str | Mapping):
            raise InputError(
                "A prompt is a text or the keyword arguments of Subject.prepare.",
                evidence=f"got {type(item).__name__}",
                remedy='For example {"text": "...", "image": "cat.png"}.',
            )
        prompts.append({"text": item} if isinstance(item, str) else item)
    return Prompts(prompts)
