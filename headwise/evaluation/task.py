"""What a task is: examples, a way of asking, a score for every response, and the numbers that sum it up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.data.splits import draw_of_file, validation_of_data
from headwise.evaluation.example import Example, subset
from headwise.files import file_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.subject import Subject

Statistic = Callable[..., np.ndarray]
"""Arrays (..., example), reduced over `axis`, to one number per leading index."""


@dataclass(frozen=True)
class Response:
    """What the model said."""

    text: str
    """What it generated, or the token it gives the largest probability, or the text that it read."""
    tokens: int
    """Tokens generated or scored."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Numbers of the solver: the log-probability of every candidate, or the sum over a text (nats)."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else the solver saw, such as the times of words."""


class Solver(Protocol):
    """How a model is asked; `Generate`, `MultipleChoice` and `Likelihood` are headwise's own."""

    def __call__(
        self,
        subject: Subject,
        examples: Sequence[Example],
        *,
        batch_size: int,
        advance: Callable[[int], None],
    ) -> list[Response]:
        """One response per example, in their order; `advance` is told how many more are done."""
        ...

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        ...


@dataclass(frozen=True)
class Metric:
    """One number over examples.

    Example:
        >>> ratio("errors", "words").compute({"errors": [1, 0], "words": [4, 6]})
        0.1
    """

    name: str
    columns: tuple[str, ...]
    """Columns of the per-example table that it is computed from."""
    statistic: Statistic
    unit: str = "share"
    higher_is_better: bool | None = True
    """None where neither is better, as with a length."""
    where: tuple[str, Any] | None = None
    """A column and its value: the number is about the examples of that value, such as one language."""
    pooled: bool = False
    """True where it is the sum of the first column over that of the second."""
    smallest_effect: float = 0.0
    """The smallest difference worth having, in its unit: a comparison calls less not clear."""
    strata: str | None = None
    """One of `columns`, such as a category that the number is added up over: resamples are drawn within its values."""

    @property
    def is_mean(self) -> bool:
        """True where it is the mean of its column, see `mean`."""
        return self.statistic is _nanmean

    def applies(self, frame: pd.DataFrame) -> np.ndarray:
        """True on the rows of a per-example table that the number is about.

        Raises:
            InputError: the table lacks a column of the metric.
        """
        for column in (*self.columns, *(self.where or ())[:1]):
            if column not in frame:
                raise InputError(
                    f"The metric {self.name!r} is made of {column!r}, which the task never gives.",
                    evidence=f"it gives: {', '.join(map(str, frame))}",
                    remedy=f"Return {column!r} from the task's score for every example, or take the metric out.",
                )
        if self.where is None:
            return np.ones(len(frame), dtype=bool)
        column, value = self.where
        return (frame[column] == value).to_numpy()

    def select(self, frame: pd.DataFrame) -> dict[str, list[Any]]:
        """Its columns, of the rows that it is about."""
        rows = frame[self.applies(frame)]
        return {name: rows[name].to_list() for name in self.columns}

    def compute(self, table: Mapping[str, Sequence[float]]) -> float:
        """The number for a table with its columns."""
        arrays = [np.asarray(table[column], dtype=float) for column in self.columns]
        return float(self.statistic(*arrays, axis=-1))


def mean(
    column: str,
    *,
    name: str | None = None,
    unit: str = "share",
    higher_is_better: bool | None = True,
    smallest_effect: float = 0.0,
) -> Metric:
    """The mean of a column over examples; NaN rows (not applicable) are left out."""
    return Metric(
        name or column, (column,), _nanmean, unit, higher_is_better, smallest_effect=smallest_effect
    )


def ratio(
    above: str,
    below: str,
    *,
    name: str | None = None,
    unit: str = "share",
    higher_is_better: bool | None = True,
    smallest_effect: float = 0.0,
) -> Metric:
    """The sum of one column divided by the sum of another (pooled over examples); NaN where nothing was counted."""
    facts = (unit, higher_is_better, None, True, smallest_effect)
    return Metric(name or f"{above}/{below}", (above, below), _pooled, *facts)


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A question that a model can be scored on.

    A subclass is a frozen dataclass: its fields are the task's options, and everything they say goes into the
    manifest of an evaluation. A new task is its data and these few methods.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same responses would get other scores, or the same seed other examples."""
    template: ClassVar[str] = "{text}"
    """The prompt around every question, for the manifest."""
    guards: ClassVar[tuple[str, ...]] = ()
    """Metrics that a gain in another one must not cost, such as recall, a length, or the share that can be read."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """What sums the task up; the first is the one it is known by."""

    @property
    @abstractmethod
    def solver(self) -> Solver:
        """How the model is asked."""

    @abstractmethod
    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """The columns of one row of the per-example table."""

    def examples(self) -> Sequence[Example]:
        """All there are, for a task over files."""
        raise NotImplementedError

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """`n` examples chosen by `seed`, in the order of the data; a generator overrides this.

        Raises:
            InputError: fewer than `n` exist.
        """
        pick = draw_of_file if self.over_file else subset
        return pick(self.examples(), n, seed, what=self.title)

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """`n` examples to fit fixes and to choose their strength on: none of them is what the task tests with.

        Generators with splits draw from their validation split. Of a file it is the fifth that the hash of an example's
        content chooses (`headwise.evaluation.data.splits`), which `draw` touches last; of the texts and clips that come
        with headwise, any that share nothing with `exclude`. Pictures, sounds and texts are compared by content.

        Args:
            n: how many.
            seed: chooses them.
            exclude: examples that are compared: none with their id, picture, sound or text is chosen from data.

        Raises:
            InputError: fewer than `n` are left, or the task is a generator without splits.
        """
        try:
            return validation_of_data(self, n, seed, exclude)
        except NotImplementedError as error:
            raise InputError(
                f"{self.title} has no validation split to fit or choose on.",
                evidence=f"{type(self).__name__} defines neither examples() nor validation()",
                remedy="Define one of them, or fit on prompts: hw.fit(subject, fix, prompts).",
            ) from error

    @property
    def over_file(self) -> bool:
        """True where the examples are a file's (option `data`) or a list of the task's own, not the zoo's."""
        return getattr(self, "data", None) is not None or (
            not hasattr(self, "data") and type(self).draw is Task.draw
        )

    @property
    def has_validation(self) -> bool:
        """True where `validation` keeps to examples that `draw` leaves alone, without being told what is compared."""
        own = type(self).validation is not Task.validation and getattr(self, "split", None) != "validation"
        return self.over_file or own

    @property
    def title(self) -> str:
        """Name with the variant, as it is registered."""
        return self.name

    def check(self, subject: Subject) -> None:  # noqa: B027  # most tasks ask any model
        """Refuse a model that cannot be asked, before anything is run."""

    def notes(self, examples: Sequence[Example]) -> dict[str, Any]:
        """What else the manifest should say: signatures and versions of scorers, lines of a file left out."""
        return {}

    def remarks(self, responses: Sequence[Response]) -> list[str]:
        """What a reader of the numbers has to know of how the responses came about, a sentence each."""
        return []

    def options(self) -> dict[str, Any]:
        """The fields, JSON-able; files by name."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}


def _nanmean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _pooled(above: np.ndarray, below: np.ndarray, axis: int = -1) -> np.ndarray:
    over, under = above.sum(axis=axis), below.sum(axis=axis)
    return np.where(under > 0, over / np.where(under > 0, under, 1), np.nan)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return file_name(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
