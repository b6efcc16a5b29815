"""Inputs and options for one call of `generate`: a speech recogniser is told its language there, not by a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from headwise.errors import InputError
from headwise.subject.languages import untold
from headwise.subject.prepare import prepare
from headwise.subject.speech_prompt import names_languages, speech_prompt, window_frames
from headwise.subject.tokens import start_id

if TYPE_CHECKING:
    from headwise.subject.subject import Subject


@dataclass(frozen=True)
class Generation:
    """What `generate` is given, and what was decided for the user on the way."""

    inputs: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `generate`: language, task, and timestamps for a recording longer than a window."""
    notes: tuple[str, ...] = ()


def prepare_generation(subject: Subject, **arguments: Any) -> Generation:
    """Inputs for `model.generate(**inputs, **options)`.

    A speech recogniser whose decoder is given no target begins by itself; a language that nobody names is detected
    here, so that it can be said. Its recordings may be of any length. Of a translation model it is said that nobody
    has named the language to write.

    Args:
        subject: the model with its processor.
        arguments: keywords of `Subject.prepare`.

    Raises:
        InputError: as in `Subject.prepare`.
    """
    speaks = arguments.get("audio") is not None and arguments.get("target") is None
    if not speaks or not names_languages(subject.model):
        prepared = prepare(subject, **arguments)
        names = ("audio", "target", "language")
        left = untold(subject) if all(arguments.get(name) is None for name in names) else ""
        return Generation(prepared.batch, {}, (*prepared.notes, *([left] if left else ())))
    language, task = arguments.pop("language", None), arguments.pop("task", None)
    batch = prepare(subject, **arguments, decoder=False).batch
    options, notes = speech_options(subject, batch["input_features"], language, task)
    return Generation(batch, options, notes)


def prepare_run(subject: Subject, generate: int, **arguments: Any) -> Generation:
    """Inputs for one run: `prepare_generation` where tokens are generated, else those of one forward.

    Args:
        subject: the model with its processor.
        generate: tokens to generate; 0 for a forward.
        arguments: keywords of `Subject.prepare`.

    Raises:
        InputError: as in `Subject.prepare`, or the model cannot generate so much, or hear so much in one forward.
    """
    if generate:
        prepared = prepare_generation(subject, **arguments)
        check_generation(subject, prepared.inputs, generate)
        return prepared
    forward = prepare(subject, **arguments)
    check_window(subject, forward.batch)
    return Generation(forward.batch, {}, forward.notes)


def speech_options(
    subject: Subject, features: Tensor, language: str | Sequence[str] | None, task: str | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options of `generate` for sounds, and the language in words.

    Args:
        subject: a model that can name languages.
        features: what it hears, (example, bin, frame).
        language: one for all, one for each, or None to let the model detect it.
        task: transcribe or translate.
    """
    options: dict[str, Any] = {}
    if features.shape[-1] > window_frames(subject.model):
        options["return_timestamps"] = True
    prompt = speech_prompt(subject, features, start=start_id(subject), language=language, task=task)
    if not prompt.languages:
        return options, ()
    if getattr(subject.model.generation_config, "lang_to_id", None):
        options["language"] = list(prompt.languages)
        if task is not None:
            options["task"] = task
    else:  # an older generation config, with which `generate` takes no language
        options["decoder_input_ids"] = features.new_tensor(prompt.ids).long()
    return options, prompt.notes


def check_window(subject: Subject, inputs: Mapping[str, Any]) -> None:
    """Refuse one forward on a recording that only `generate` goes through.

    Raises:
        InputError: the sound is longer than the window of a model that reads on.
    """
    features = inputs.get("input_features")
    if features is None or not names_languages(subject.model):
        return
    window = window_frames(subject.model)
    if features.shape[-1] > window:
        raise InputError(
            "The sound is longer than what one forward of this model hears.",
            evidence=f"{features.shape[-1]} frames; the window has {window}",
            remedy="Generate (--generate N), which goes through it window by window.",
        )


def check_generation(subject: Subject, inputs: Mapping[str, Any], generate: int) -> None:
    """Refuse to generate what the model cannot, or more than it has positions for.

    Raises:
        InputError: the model generates nothing, or prompt and reply are longer than its positions.
    """
    if generate < 1:
        raise InputError("A model generates one token or more.", evidence=f"generate={generate}")
    if not subject.model.can_generate():
        name = type(subject.model).__name__
        raise InputError("This model generates nothing.", evidence=name, remedy="Leave --generate out.")
    prompt = inputs.get("decoder_input_ids", inputs.get("input_ids"))
    limit = getattr(subject.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if prompt is not None and limit is not None and prompt.shape[1] + generate > limit:
        raise InputError(
            f"The prompt and what is to be generated are longer than the model's {limit} positions.",
            evidence=f"{prompt.shape[1]} + {generate} tokens",
            remedy="Lower --generate, or shorten the text.",
        )
