"""When words are spoken, by a model's cross-attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from headwise.errors import InputError
from headwise.evaluation.data.annotations import Word, read_word_times
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.normalisers import SCORED, Normaliser, check_normaliser, normaliser
from headwise.evaluation.solvers.transcription import Transcribe
from headwise.evaluation.solvers.word_times import WordTimestamps
from headwise.evaluation.task import Metric, Response, Solver, ratio
from headwise.evaluation.tasks.speech.transcription import Spoken
from headwise.optional import extra
from headwise.readers.content import inside

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, kw_only=True)
class WordTimes(Spoken):
    """When does every word begin, by the model's cross-attention?

    The decoder is given the right words (`text="reference"`), or writes them (`text="generated"`: then only
    words that it got right are timed). The heads that follow the sound tell the time of every token by dynamic
    time warping, as Whisper's own word timestamps are made; `heads` are those of the model's generation
    config (`alignment_heads`), else all of the last half of the layers.

    `start_error` is the mean distance in seconds to where the word begins, pooled over words; `within_100` and
    `within_200` are the shares of all words that are timed to 100 and 200 milliseconds, and `timed` the share
    that has a time at all. Encoder positions of Whisper last 20 ms: nothing can be more exact.

    The zoo's clips come with the time of every word. For files (see `Spoken`), `times` names a CTM, a table
    (id, word_idx, word, start, end), or a folder of TextGrids with a tier `words`; or a column `words` of the
    table names such a file for every clip.

    Example:
        >>> item = WordTimes().draw(1, seed=0)[0]
        >>> len(item.metadata["starts"]) == len(item.metadata["words"])
        True
    """

    name: ClassVar[str] = "word-times"
    version: ClassVar[int] = 2
    guards: ClassVar[tuple[str, ...]] = ("timed",)
    template: ClassVar[str] = "{audio}"

    times: Path | None = None
    heads: tuple[tuple[int, int], ...] = ()
    """(layer, head) of the decoder, both from 0."""
    text: Literal["reference", "generated"] = "reference"
    normaliser: Normaliser = "basic"
    language: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_normaliser(self.normaliser)
        if self.text not in ("reference", "generated"):
            raise InputError(
                "There is no such text.", evidence=repr(self.text), remedy="reference or generated"
            )
        if self.times is not None and self.data is None:
            raise InputError("Times belong to data.", remedy="Give data= as well.")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean error of starts, shares within 100 and 200 ms, share of words that have a time."""
        return (
            ratio("error", "timed_words", name="start_error", unit="seconds", higher_is_better=False),
            ratio("near_100", "words", name="within_100"),
            ratio("near_200", "words", name="within_200"),
            ratio("timed_words", "words", name="timed"),
        )

    @property
    def solver(self) -> Solver:
        """By cross-attention, over the right words or the model's."""
        return WordTimestamps(
            heads=self.heads,
            language=self.language,
            writer=None if self.text == "reference" else Transcribe(128, 1, self.language),
        )

    def check(self, subject: Subject) -> None:
        """Refuse to start without jiwer."""
        extra("jiwer", SCORED)

    def examples(self) -> Sequence[Example]:
        """All clips, with words and starts."""
        shared = {} if self.times is None else read_word_times(self.times)
        found = []
        for row, item in self.sounds:
            if row is None:
                found.append(item)
                continue
            words: list[Word] | None = shared.get(item.id)
            if self.times is None and row.fields.get("words"):
                place = inside(row.fields["words"], row.path.parent, where=row.place)
                with row.naming():
                    own = read_word_times(place)
                words = own.get(item.id) or (next(iter(own.values())) if len(own) == 1 else None)
            if not words:
                row.wrong(
                    f"The words of {item.id!r} have no times.",
                    "Give times= a file with this id, or a column words.",
                )
            metadata = {
                **item.metadata,
                "words": [word.text for word in words],
                "starts": [word.start for word in words],
            }
            found.append(replace(item, answer=" ".join(metadata["words"]), metadata=metadata))
        return found

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Sum of the errors and number of words near enough; the mean of the clip for the reader."""
        wanted, starts = example.metadata["words"], example.metadata["starts"]
        heard, times = response.metadata["words"], response.metadata["starts"]
        errors = [abs(times[j] - starts[i]) for i, j in self._matches(wanted, heard)]
        return {
            "words": len(wanted),
            "timed_words": len(errors),
            "error": sum(errors),
            "near_100": sum(error <= 0.1 for error in errors),
            "near_200": sum(error <= 0.2 for error in errors),
            "clip_error": sum(errors) / len(errors) if errors else float("nan"),
        }

    def _matches(self, wanted: list[str], heard: list[str]) -> list[tuple[int, int]]:
        """Places of the words that both have, in order."""
        normalise = normaliser(self.normaliser)
        left, right = ([normalise(word).replace(" ", "") or "-" for word in side] for side in (wanted, heard))
        if left == right or not right:
            return [(place, place) for place in range(len(right))]
        found = extra("jiwer", SCORED).process_words(" ".join(left), " ".join(right))
        return [
            pair
            for chunk in found.alignments[0]
            if chunk.type == "equal"
            for pair in zip(
                range(chunk.ref_start_idx, chunk.ref_end_idx),
                range(chunk.hyp_start_idx, chunk.hyp_end_idx),
                strict=True,
            )
        ]
