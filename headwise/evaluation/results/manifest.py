"""What sentences and figures are made of in a manifest that comes out of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    ValidationError,
)

from headwise.text import complaint


class _Part(BaseModel):
    """A part of a manifest; what else stands in it is for readers."""

    model_config = ConfigDict(strict=True, extra="allow")

    @classmethod
    def check(cls, manifest: Mapping[str, Any]) -> None:
        """Refuse a manifest that lacks what is read of it, or holds another kind of value there.

        Raises:
            ValueError: the first such value, by its name.

        Example:
            >>> EvaluationManifest.check({"notes": {"warnings": "all is well"}})
            Traceback (most recent call last):
            ...
            ValueError: manifest: notes.warnings: Input should be a valid list
        """
        try:
            cls.model_validate(manifest)
        except ValidationError as error:
            raise ValueError(f"manifest: {complaint(error)}") from error


class _Notes(_Part):
    warnings: list[str] = []


class _Guards(_Part):
    heeded: bool = False
    fallen: dict[str, dict[str, str]] = {}


class _Empty(_Part):
    replies: dict[str, NonNegativeInt] = {}
    references: NonNegativeInt = 0


class _Fitted(_Part):
    left_out: NonNegativeInt = 0


class _Versions(_Part):
    lm_eval: str


class _Scores(_Part):
    columns: Annotated[list[str], Field(min_length=1, max_length=2)]
    where: Annotated[list[str | FiniteFloat | int | bool], Field(min_length=2, max_length=2)] | None = None


class EvaluationManifest(_Part):
    """That of an evaluation."""

    ids: list[str] = []
    groups: str = ""
    repeated: NonNegativeInt = 0
    scores: dict[str, _Scores] = {}
    notes: _Notes = _Notes()
    empty: dict[str, NonNegativeInt] = {}
    seconds: NonNegativeFloat = 0.0
    tokens: NonNegativeInt = 0


class _Statistics(_Part):
    out_of_reach: str = ""


class ComparisonManifest(_Part):
    """That of a comparison."""

    ids: list[str] = []
    groups: str = ""
    repeated: NonNegativeInt = 0
    scores: dict[str, _Scores] = {}
    statistics: _Statistics = _Statistics()
    notes: _Notes = _Notes()
    empty: _Empty = _Empty()
    seconds: dict[str, NonNegativeFloat] = {}
    guards: _Guards = _Guards()
    fitted: _Fitted = _Fitted()


class SearchManifest(_Part):
    """That of a search."""

    unit: str
    smallest_effect: NonNegativeFloat = 0.0
    space: dict[str, Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]]
    validation_ids: list[str]
    left_out: NonNegativeInt = 0
    best_trial: NonNegativeInt
    refused: dict[str, list[str]]


class HarnessManifest(_Part):
    """That of a run of lm-evaluation-harness."""

    seed: int
    versions: _Versions
    warnings: list[str]
    seconds: dict[str, NonNegativeFloat] = {}
