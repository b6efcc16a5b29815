"""From text, images and sound to the tensors a model takes, through the model's own processor."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from headwise.errors import InputError
from headwise.families import family_of
from headwise.layout.roles import tokenizer_of
from headwise.model.tokenizing import encoded, tokenizing
from headwise.subject.chat import chat_prompt
from headwise.subject.languages import language_prompts, writes_languages
from headwise.subject.media import read_image
from headwise.subject.sounds import features, read_waves
from headwise.subject.specials import check_vocabulary, without_doubled
from headwise.subject.speech_prompt import names_languages
from headwise.subject.tokens import (
    DECODER,
    ENCODER,
    NO_TOKENIZER,
    TEXT,
    as_texts,
    check_length,
    decoder_ids,
    given_positions,
    pad_id,
    spoken,
    word_ids,
)

if TYPE_CHECKING:
    from transformers import BatchFeature

    from headwise.subject.loaded import LoadedModel


@dataclass(frozen=True)
class Prepared:
    """The tensors of a batch, and what was decided for the user on the way."""

    batch: BatchFeature
    notes: tuple[str, ...] = ()


def prepare(
    subject: LoadedModel,
    *,
    text: Any = None,
    image: Any = None,
    audio: Any = None,
    target: Any = None,
    language: str | Sequence[str] | None = None,
    task: str | None = None,
    decoder: bool = True,
) -> Prepared:
    """The tensors of a batch; see `Subject.prepare`."""
    from transformers import BatchFeature

    texts, targets = as_texts(text), as_texts(target)
    images = _images(image, texts)
    sounds = None if audio is None else audio if isinstance(audio, list) else [audio]
    size = _size(text=texts, image=images, audio=sounds, target=targets)
    if images is not None and sounds is not None:
        raise InputError("Images and sound cannot be combined.", remedy="Give one of them.")
    if images is not None:
        batch = _with_images(subject, texts, images)
    elif sounds is not None:
        batch = _with_sounds(subject, texts, sounds)
    elif texts is not None:
        _needs(subject.model, "text", "input_ids")
        batch = word_ids(subject, texts)
    else:
        raise InputError("There is nothing to prepare.", remedy="Give text=, image= or audio=.")
    encodes = getattr(subject.config, "is_encoder_decoder", False)
    check_length(subject, batch.get("input_ids"), ENCODER if encodes else TEXT)
    notes: tuple[str, ...] = ()
    if sounds is not None and encodes and names_languages(subject.model):
        more, notes = spoken(
            subject, batch["input_features"], targets, language=language, task=task, decoder=decoder
        )
        batch.update(more)
    elif language is not None and task is None and texts is not None and writes_languages(subject):
        batch.update(decoder_ids(subject, _in_language(subject, targets, language, size), size))
    elif language is not None or task is not None:
        raise _not_told(subject, texts is not None and writes_languages(subject))
    elif encodes and (decoder or targets is not None):
        batch.update(decoder_ids(subject, targets, size))
    elif targets is not None:
        raise InputError("This model has no decoder to give a target to.", remedy="Give the words as text=.")
    check_length(subject, batch.get("decoder_input_ids"), DECODER)
    check_vocabulary(subject, batch.get("input_ids"), batch.get("decoder_input_ids"))
    if not encodes:
        batch.pop("labels", None)  # PaliGemma's processor makes them
        batch.update(given_positions(subject, batch))
    if "token_type_ids" in batch and not _accepts(subject.model, "token_type_ids"):
        del batch["token_type_ids"]
    return Prepared(BatchFeature(batch).to(subject.device, dtype=subject.model.dtype), notes)


def _in_language(
    subject: LoadedModel, targets: list[Any] | None, language: str | Sequence[str], size: int
) -> list[list[int]]:
    """Decoder ids that begin with the language: it alone, or with the words of the targets behind it."""
    fronts = language_prompts(subject, language, size)
    if targets is None:
        return fronts
    if not isinstance(targets[0], str):
        return targets
    words = encoded(subject.tokenizer, targets, add_special_tokens=False, verbose=False).input_ids
    return [front + row for front, row in zip(fronts, words, strict=True)]


def _not_told(subject: LoadedModel, writes: bool) -> InputError:
    evidence = type(subject.model).__name__
    if writes:
        return InputError("This model is told no task.", evidence=evidence, remedy="Leave task out.")
    return InputError(
        "This model is not told a language or a task.",
        evidence=evidence,
        remedy="Leave language and task out.",
    )


def _accepts(model: nn.Module, *names: str) -> bool:
    """True when the model's forward has one of these arguments by name."""
    return any(name in inspect.signature(model.forward).parameters for name in names)


def _needs(model: nn.Module, kind: str, *names: str) -> None:
    if not _accepts(model, *names):
        raise InputError(
            f"This model takes no {kind}.", evidence=type(model).__name__, remedy=f"Leave {kind}= out."
        )


def _with_images(subject: LoadedModel, texts: list[Any] | None, images: list[list[Any]]) -> dict[str, Any]:
    _needs(subject.model, "image", "pixel_values")
    processor = subject.processor
    if processor is None or not (hasattr(processor, "image_processor") or _looks(processor)):
        raise InputError(
            "There is no image processor to read this image with.", remedy="hw.wrap(model, processor)"
        )
    pictures = [[read_image(image) for image in row] for row in images]
    placeholder = getattr(processor, "image_token", None)
    if texts is None and placeholder is not None and family_of(subject.config).image_prompt is not None:
        texts = [""] * len(pictures)
    if texts is None:
        return dict(processor(images=[picture for row in pictures for picture in row], return_tensors="pt"))
    if not isinstance(texts[0], str):
        raise InputError("Token ids and images cannot be combined.", remedy="Give the text as a string.")
    if subject.tokenizer is None:
        raise InputError("There is no tokenizer to read this text with.", remedy=NO_TOKENIZER)
    options: dict[str, Any] = {"return_tensors": "pt", "padding": len(texts) > 1}
    if len(texts) > 1 and subject.tokenizer.pad_token is None:
        raise InputError(
            "This processor's tokenizer has no padding token, which a batch with images needs.",
            remedy="Set processor.tokenizer.pad_token, or prepare the prompts one by one.",
        )
    if placeholder is None:
        pictures = [picture for row in pictures for picture in row]
    else:
        counts = [len(row) for row in pictures]
        pairs = zip(texts, counts, strict=True)
        texts = [_placed(subject, "image", str(placeholder), *pair) for pair in pairs]
    batch = _call(processor, text=texts, images=pictures, **options)
    return without_doubled(subject.tokenizer, texts, batch, pad_id(subject))


def _with_sounds(subject: LoadedModel, texts: list[Any] | None, sounds: list[Any]) -> dict[str, Any]:
    _needs(subject.model, "audio", "input_values", "input_features")
    processor = subject.processor
    waves, rate = read_waves(subject, sounds)
    placeholder = getattr(processor, "audio_token", None)
    if texts is not None and placeholder is not None:
        prompts = [_placed(subject, "audio", str(placeholder), text, 1) for text in texts]
        options = {"return_tensors": "pt", "padding": len(texts) > 1}
        batch = _call(processor, text=prompts, audio=waves, sampling_rate=rate, **options)
        return without_doubled(subject.tokenizer, prompts, batch, pad_id(subject))
    if texts is not None:
        raise InputError(
            "This model reads no text beside sound.", remedy="Give the words to write as target=."
        )
    return features(subject, waves, rate)


def _placed(subject: LoadedModel, kind: str, placeholder: str, text: str, count: int) -> str:
    """The prompt with one placeholder per image or sound: as written, by the chat template, or in front."""
    if placeholder in text:
        return text
    template = family_of(subject.config).image_prompt
    if kind == "image" and template is None:
        return text
    if getattr(subject.processor, "chat_template", None):
        content = [{"type": kind}] * count + [{"type": "text", "text": text}]
        messages = [{"role": "user", "content": content}]
        prompt = chat_prompt(subject, messages)
        if prompt.count(placeholder) == count:
            return prompt
    return (template or "{image}\n").format(image=placeholder) * count + text


def _call(processor: Any, **arguments: Any) -> dict[str, Any]:
    try:
        with tokenizing(tokenizer_of(processor), alone=False):
            return dict(processor(**arguments))
    except ValueError as error:
        raise InputError(
            "The processor refused this input.",
            evidence=str(error).split("\n")[0],
            remedy="Give one image per placeholder, and a text with each.",
        ) from error


def _looks(processor: Any) -> bool:
    return tokenizer_of(processor) is None and "pixel_values" in getattr(processor, "model_input_names", ())


def _images(image: Any, texts: list[Any] | None) -> list[list[Any]] | None:
    """One list of images per example; a plain list beside a single text belongs to that text."""
    if image is None:
        return None
    if not isinstance(image, list):
        return [[image]]
    if image and all(isinstance(item, list) for item in image):
        return image
    if texts is not None and len(texts) == 1:
        return [image]
    return [[item] for item in image]


def _size(**kinds: list[Any] | None) -> int:
    sizes = {kind: len(items) for kind, items in kinds.items() if items is not None}
    if len(set(sizes.values())) > 1:
        raise InputError(
            "The kinds of input differ in number.",
            evidence=", ".join(f"{size} {kind}" for kind, size in sizes.items()),
            remedy="Give one of each kind per example.",
        )
    return max(sizes.values(), default=0)
