"""Speech: what was said, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.data.files import Row, read_table
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.normalisers import SCORED, Normaliser, check_normaliser, normaliser
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.solvers.transcription import Transcribe
from headwise.evaluation.task import Metric, Response, Task, mean, ratio
from headwise.optional import extra, versions
from headwise.readers.content import inside, shown
from headwise.readers.sound import sound_length
from headwise.subject.speech_prompt import TASKS, heard_note

if TYPE_CHECKING:
    from headwise.subject import Subject

_LINE = {"id": "one", "audio": "one.wav", "tgt_text": "what is said"}


@dataclass(frozen=True, kw_only=True)
class Spoken(Task):
    """Sound with its transcript: the zoo's spoken commands, or files.

    Without `data` it is 350 clips of voices and sentences that the zoo was not trained on, with the noise that
    belongs to each (`snr` sets another level, in decibels below the speech). `data` is a table of
    tab-separated values with a header and the columns id, audio (a WAV, FLAC, OGG or MP3 file, beside the table or
    below) and tgt_text; others may be there. Any rate and any number of channels will do: sound is averaged
    over channels and resampled to what the model hears. The table of results has the rate of each file, and
    the manifest counts them.
    """

    data: Path | None = None
    snr: float | None = None

    def __post_init__(self) -> None:
        if self.snr is not None and self.data is not None:
            raise InputError("Noise is added to the zoo's clips only.", remedy="Leave out snr= or data=.")
        if self.snr is not None and not isfinite(self.snr):
            raise InputError("The noise has no level.", evidence=f"snr={self.snr}", remedy="Give decibels.")

    @property
    def sounds(self) -> list[tuple[Row | None, Example]]:
        """The examples, and where in the table each stands; words and starts are in `about` where known."""
        if self.data is not None:
            return [(row, _sound(row)) for row in read_table(self.data, _LINE)]
        from headwise.zoo.data.clips import held_out
        from headwise.zoo.data.utterances import RATE

        seen: Counter[str] = Counter()
        found = []
        for clip in held_out():
            seen[clip.variant] += 1
            metadata = {
                "words": list(clip.words),
                "starts": [start for start, _ in clip.spans],
                "rate": RATE,
                "seconds": len(clip.samples) / RATE,
                "voice": clip.variant,
            }
            name = f"{clip.variant}/{seen[clip.variant]}"
            found.append((None, Example(name, {"audio": (clip.noisy(self.snr), RATE)}, clip.text, metadata)))
        return found

    def examples(self) -> Sequence[Example]:
        """All there are."""
        return [example for _, example in self.sounds]

    def notes(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The rates of the files, and the version of jiwer."""
        rates = Counter(str(example.metadata["rate"]) for example in examples)
        return {"sampling rates": dict(rates), "versions": versions("jiwer")}

    def remarks(self, responses: Sequence[Response]) -> list[str]:
        """The languages that the model heard, where none was named."""
        heard = [response.metadata["language"] for response in responses if response.metadata.get("detected")]
        return [heard_note(heard, "--set language=CODE")] if heard else []


@dataclass(frozen=True, kw_only=True)
class Transcription(Spoken):
    """The model writes down what it hears.

    `wer` is the word error rate: words to put in, leave out or exchange, over the words of the reference,
    pooled over all clips; it can exceed 1. `recall` is the share of the words of the reference that are written.
    `cer` is the same as `wer` for characters, `exact` the share of clips without an error. All are jiwer's. Before
    they are compared, both texts are normalised: `basic` turns to lower case, takes hyphens, slashes, colons and the
    points of numbers for blanks, removes other punctuation and collapses spaces; `whisper` is the basic normaliser of
    Whisper; `whisper-english` its English one, by which English results are published (twenty-one is 21, can't is can
    not, Mr. is mister, um is nothing); `none` leaves them alone. A clip without words counts what is written as
    insertions. `spellings` is the `normalizer.json` of a Whisper tokenizer, by which `whisper-english` writes colour as
    color; without it they are two words, and the result says so.

    `language` and `speech_task` (transcribe, or translate into English) are for multilingual models; without
    `language` the model detects that of each clip, and the table of results has it. Recordings longer than the window
    of a Whisper are written window by window. `prompt` is the text beside the sound, for models that take one. How
    to give files: `Spoken`.

    Example:
        >>> item = Transcription().draw(1, seed=0)[0]
        >>> item.answer == " ".join(item.metadata["words"])
        True
    """

    name: ClassVar[str] = "transcription"
    version: ClassVar[int] = 2
    guards: ClassVar[tuple[str, ...]] = ("recall",)
    template: ClassVar[str] = "{audio}"

    normaliser: Normaliser = "basic"
    spellings: Path | None = None
    language: str = ""
    speech_task: str = ""
    prompt: str = ""
    max_new_tokens: int = 128
    """Less where the decoder has fewer positions."""
    beams: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_normaliser(self.normaliser)
        if self.spellings is not None and self.normaliser != "whisper-english":
            raise InputError(
                "Spellings belong to the normaliser whisper-english.",
                evidence=f"normaliser={self.normaliser!r}",
            )
        if self.speech_task not in ("", *TASKS):
            raise InputError(f"There is no task {self.speech_task!r}.", remedy=f"Use {' or '.join(TASKS)}.")
        if self.max_new_tokens < 1 or self.beams < 1:
            raise InputError(
                "max_new_tokens and beams count from 1.",
                evidence=f"max_new_tokens={self.max_new_tokens}, beams={self.beams}",
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Word error rate, character error rate, clips without an error, words that are written."""
        return (
            Metric("wer", ("errors", "words"), _error_rate, "errors per word", False, pooled=True),
            Metric(
                "cer",
                ("character_errors", "characters"),
                _error_rate,
                "errors per character",
                False,
                pooled=True,
            ),
            mean("exact"),
            ratio("hits", "words", name="recall"),
        )

    @property
    def solver(self) -> Generate:
        """The model writes."""
        return Transcribe(self.max_new_tokens, self.beams, self.language, self.speech_task)

    def check(self, subject: Subject) -> None:
        """Refuse to start without jiwer."""
        extra("jiwer", SCORED)
        _ = self._normalise  # a malformed file of spellings is told before the model is run

    def examples(self) -> Sequence[Example]:
        """All there are, beside the prompt if there is one."""
        found = super().examples()
        if not self.prompt:
            return found
        return [replace(item, inputs={"text": self.prompt, **item.inputs}) for item in found]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Kinds of error by word, and errors by character."""
        jiwer = extra("jiwer", SCORED)
        normalise = self._normalise
        wanted, written = normalise(example.answer), normalise(response.text)
        words, characters = jiwer.process_words(wanted, written), jiwer.process_characters(wanted, written)
        heard = {"language": response.metadata["language"]} if "language" in response.metadata else {}
        return heard | {
            "seconds": example.metadata["seconds"],
            "rate": example.metadata["rate"],
            "words": words.hits + words.substitutions + words.deletions,
            "errors": _errors(words),
            "hits": words.hits,
            "substitutions": words.substitutions,
            "deletions": words.deletions,
            "insertions": words.insertions,
            "characters": characters.hits + characters.substitutions + characters.deletions,
            "character_errors": _errors(characters),
            "exact": _errors(words) == 0,
        }

    def remarks(self, responses: Sequence[Response]) -> list[str]:
        """Besides the languages that were heard, what is missing for published numbers."""
        if self.normaliser != "whisper-english" or self.spellings is not None:
            return super().remarks(responses)
        missing = "British and American spellings count as different words; published numbers need spellings="
        return [*super().remarks(responses), f"{missing}, the normalizer.json of a Whisper tokenizer."]

    @cached_property
    def _normalise(self) -> Callable[[str], str]:
        return normaliser(self.normaliser, spellings=self.spellings)


def _errors(found: Any) -> int:
    return found.substitutions + found.deletions + found.insertions


def _error_rate(errors: np.ndarray, units: np.ndarray, axis: int = -1) -> np.ndarray:
    """Errors over units, pooled; where the references are empty, the number of errors, as in jiwer, or NaN of none."""
    wrong, whole = errors.sum(axis=axis), units.sum(axis=axis)
    return np.where(wrong + whole > 0, wrong / np.maximum(whole, 1), np.nan)


def _sound(row: Row) -> Example:
    path = inside(row.text("audio"), row.path.parent, where=row.place)
    with row.naming():
        samples, rate = sound_length(path)
    if not samples:
        row.wrong(f"{shown(path)} has no samples.", "Leave the line out, or record it again.")
    metadata = {"rate": rate, "seconds": samples / rate}
    return Example(
        row.name(f"line {row.line}"), {"audio": path}, row.fields["tgt_text"].strip(), metadata, row.group
    )
