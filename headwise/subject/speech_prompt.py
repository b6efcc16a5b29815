"""What the decoder of a speech recogniser begins with: language, task, and that times are not to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.subject.positions import unrecorded

if TYPE_CHECKING:
    from headwise.subject.loaded import LoadedModel

TASKS = ("transcribe", "translate")


@dataclass(frozen=True)
class SpeechPrompt:
    """Decoder prompts of a batch of sounds, and the language of each."""

    ids: list[list[int]]
    languages: tuple[str, ...] = ()
    """Codes such as "en"; empty for a model of one language."""
    detected: bool = False
    """True when the model itself has named the languages."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the model has decided by itself: the languages, where it has named them."""
        return (heard_note(self.languages),) if self.detected else ()


def heard_note(languages: Sequence[str], option: str = "--language") -> str:
    """What to say of languages that the model has named.

    Args:
        languages: as codes.
        option: what names one on the command line.

    Example:
        >>> heard_note(["en", "fr", "en"])
        'The model heard the languages en, fr: none was named. Choose with language= or --language.'
    """
    named = list(dict.fromkeys(languages))
    many = "s" if len(named) > 1 else ""
    return (
        f"The model heard the language{many} {', '.join(named)}: none was named. "
        f"Choose with language= or {option}."
    )


def check_task(task: str) -> None:
    """Refuses a task that speech models do not have.

    Raises:
        InputError: it is neither "transcribe" nor "translate".
    """
    if task not in TASKS:
        raise InputError(f"There is no task {task!r}.", remedy=f"Use {' or '.join(TASKS)}.")


def names_languages(model: Any) -> bool:
    """True for a model that can say which language it hears, and whose `generate` begins by itself."""
    return hasattr(model, "detect_language")


def named_language(subject: LoadedModel) -> str | None:
    """The language that the generation config or the tokenizer names; None where it is left to the model."""
    settings = subject.model.generation_config
    return getattr(settings, "language", None) or getattr(subject.tokenizer, "language", None)


def languages_of(subject: LoadedModel, ids: Tensor) -> list[str]:
    """The language of each row of decoder ids, as a code; empty for a model of one language."""
    codes = {token: code for code, token in language_ids(subject).items()}
    found = [codes.get(int(token)) for token in ids[:, 1]] if ids.shape[1] > 1 else []
    return [code for code in found if code is not None]


def speech_prompt(
    subject: LoadedModel,
    features: Tensor,
    *,
    start: int,
    language: str | Sequence[str] | None = None,
    task: str | None = None,
) -> SpeechPrompt:
    """The prompt of each sound: `<|startoftranscript|><|en|><|transcribe|><|notimestamps|>`.

    A language that is not given is that of the generation config or of the tokenizer, where they name one; else the
    model detects it in its first window.

    Args:
        subject: a multilingual model or one of English alone.
        features: the model's input, (example, bin, frame).
        start: id of the token that begins every prompt.
        language: name or code, one for all sounds or one for each.
        task: transcribe or translate.

    Raises:
        InputError: the model has no such language or task, or is told one and knows one alone.
    """
    size = len(features)
    settings = subject.model.generation_config
    known = language_ids(subject)
    multilingual = getattr(settings, "is_multilingual", None)
    own = getattr(subject.tokenizer, "language", None)
    if multilingual is None:
        multilingual = bool(getattr(settings, "lang_to_id", None)) or own is not None or language is not None
    if not multilingual or not known:
        if language is not None or task is not None:
            raise InputError(
                "This model knows one language and one task.",
                evidence=f"language={language!r}, task={task!r}",
                remedy="Leave language and task out.",
            )
        prompt = list(getattr(subject.tokenizer, "prefix_tokens", []))
        return SpeechPrompt([prompt if prompt[:1] == [start] else [start]] * size)
    asked = language or named_language(subject)
    codes = detect_languages(subject, features, start) if asked is None else _codes(asked, known, size)
    tags = [_task_id(subject, task or getattr(settings, "task", None) or _own_task(subject))]
    tags.append(_tag(subject, getattr(settings, "no_timestamps_token_id", None), "<|notimestamps|>"))
    ids = [[start, known[code], *(tag for tag in tags if tag is not None)] for code in codes]
    return SpeechPrompt(ids, tuple(codes), detected=asked is None)


def detect_languages(subject: LoadedModel, features: Tensor, start: int) -> list[str]:
    """The language that the model hears in the first window of each sound, as a code."""
    model, known = subject.model, language_ids(subject)
    codes = list(known)
    heard = features[:, :, : window_frames(model)].to(model.device, model.dtype)
    begun = torch.full((len(heard), 1), start, device=model.device)
    with unrecorded(model):
        logits = model(input_features=heard, decoder_input_ids=begun, use_cache=False).logits[:, -1]
    best = logits[:, [known[code] for code in codes]].argmax(-1)
    return [codes[place] for place in best.tolist()]


def language_of_each(language: str | Sequence[str], size: int, what: str) -> list[str]:
    """The language of every example, of which there are `size`; `what` one of them is: "sound" or "text".

    Raises:
        InputError: languages and examples differ in number.
    """
    named = [language] * size if isinstance(language, str) else list(language)
    if len(named) != size:
        raise InputError(
            f"{what.capitalize()}s and languages differ in number.",
            evidence=f"{size} {what}s, {len(named)} languages",
            remedy=f"Give one language, or one for each {what}.",
        )
    return named


def window_frames(model: Any) -> int:
    """Frames that the encoder hears at a time."""
    encoder = model.get_encoder()
    stride = encoder.conv1.stride[0] * encoder.conv2.stride[0]
    return stride * model.config.max_source_positions


def language_ids(subject: LoadedModel) -> dict[str, int]:
    """Token ids by language code, from the generation config, else from the tokenizer."""
    listed = getattr(subject.model.generation_config, "lang_to_id", None)
    if listed:
        return {tag.strip("<|>"): token for tag, token in listed.items()}
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    tags = {code: _tag(subject, None, f"<|{code}|>") for code in LANGUAGES}
    return {code: token for code, token in tags.items() if token is not None}


def _codes(language: str | Sequence[str], known: dict[str, int], size: int) -> list[str]:
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    named = language_of_each(language, size, "sound")
    codes = [TO_LANGUAGE_CODE.get(name.lower(), name.lower().strip("<|>")) for name in named]
    for name, code in zip(named, codes, strict=True):
        if code not in known:
            raise InputError(
                f"This model has no language {name!r}.",
                evidence=f"it has: {', '.join(sorted(known))}",
                remedy="Use one of these codes, or a language's English name.",
            )
    return codes


def _task_id(subject: LoadedModel, task: str) -> int | None:
    check_task(task)
    listed = getattr(subject.model.generation_config, "task_to_id", None) or {}
    return _tag(subject, listed.get(task), f"<|{task}|>")


def _own_task(subject: LoadedModel) -> str:
    return getattr(subject.tokenizer, "task", None) or "transcribe"


def _tag(subject: LoadedModel, listed: int | None, text: str) -> int | None:
    """The id of a tag: as listed, else as the tokenizer has it; None where there is no such token."""
    if listed is not None or subject.tokenizer is None:
        return listed
    return subject.tokenizer.get_vocab().get(text)
