"""Ask a model to write down what it hears, in the language that was named or that it detects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import Advance
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.task import Response
from headwise.subject.generation import prepare_generation
from headwise.subject.sounds import window_samples, writes_long
from headwise.subject.speech_prompt import languages_of, named_language, names_languages

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True)
class Transcribe(Generate):
    """Generation for sound: within the positions of the decoder, in the language that was named or detected."""

    language: str = ""
    speech_task: str = ""

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        """One response per example, in their order."""
        room = getattr(subject.config, "max_target_positions", None)
        if room is not None and self.max_new_tokens > room - 4:  # Whisper's prompt has up to four tokens
            limited = replace(self, max_new_tokens=room - 4)
            return limited(subject, examples, batch_size=batch_size, advance=advance)
        return super().__call__(
            subject, _sorted_by_window(subject, examples), batch_size=batch_size, advance=advance
        )

    def group(self, example: Example) -> Any:
        """Recordings that are longer than a window are written apart from those that fit."""
        return example.metadata.get("long", False)

    def prepare(self, subject: Subject, examples: Sequence[Example]) -> Any:
        """The tensors of a batch, and what `generate` is told beside them."""
        kinds = list(examples[0].inputs)
        columns = {kind: [example.inputs[kind] for example in examples] for kind in kinds}
        options = {"language": self.language or None, "task": self.speech_task or None}
        asked = prepare_generation(
            subject, **columns, **{name: value for name, value in options.items() if value}
        )
        inputs = {**asked.inputs, **asked.options}
        if subject.config.is_encoder_decoder and not names_languages(subject.model):
            inputs.pop("decoder_input_ids", None)  # generate begins by itself
        return inputs

    def responses(self, subject: Subject, inputs: Any, written: Any) -> list[Response]:
        """What was written, and in which language it was heard."""
        responses = super().responses(subject, inputs, written)
        codes = inputs.get("language")
        if codes is None and names_languages(subject.model) and "decoder_input_ids" in inputs:
            codes = languages_of(subject, inputs["decoder_input_ids"])
        return in_languages(subject, responses, codes, named=bool(self.language))


def in_languages(
    subject: Subject, responses: Sequence[Response], codes: Sequence[str] | None, *, named: bool
) -> list[Response]:
    """Responses with the language of each, and whether the model has detected it.

    Args:
        subject: the model.
        responses: one per sound.
        codes: the languages; None or empty for a model of one.
        named: the task names the language.
    """
    if not codes:
        return list(responses)
    detected = not named and named_language(subject) is None
    return [
        replace(response, metadata={**response.metadata, "language": code, "detected": detected})
        for response, code in zip(responses, codes, strict=True)
    ]


def _sorted_by_window(subject: Subject, examples: Sequence[Example]) -> list[Example]:
    """The examples, with a note on those that are longer than what the model hears at a time.

    Raises:
        InputError: one is, and the model has no way to read on.
    """
    samples, extractor = (
        window_samples(subject),
        getattr(subject.processor, "feature_extractor", subject.processor),
    )
    if samples is None:
        return list(examples)
    window = samples / extractor.sampling_rate
    noted = []
    for example in examples:
        long = example.metadata["seconds"] > window
        if long and not writes_long(subject.model):
            raise InputError(
                f"{example.id} lasts {example.metadata['seconds']:.1f} s and the model hears {window:.0f} s.",
                evidence=str(example.inputs["audio"]) if isinstance(example.inputs["audio"], Path) else "",
                remedy="Leave it out, or cut it into pieces.",
            )
        noted.append(replace(example, metadata={**example.metadata, "long": long}))
    return noted
