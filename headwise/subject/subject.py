"""A model together with what turns words, images and sound into its inputs."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from headwise.errors import InputError
from headwise.layout import TokenLayout, describe, with_tokens
from headwise.model.device import unwrapped
from headwise.model.loading import load_model, load_processor
from headwise.model.location import not_loaded
from headwise.model.seal import sealed
from headwise.probes.generation.forward_inputs import with_decoder_ids
from headwise.subject.loaded import LoadedModel
from headwise.subject.prepare import prepare
from headwise.zoo.damage import find_damage
from headwise.zoo.registry import PREFIX, zoo_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import BatchFeature, PreTrainedModel


@dataclass(frozen=True, eq=False, repr=False)
class Subject(LoadedModel):
    """A model and its processor; the model stays the user's own object, untouched."""

    def prepare(
        self,
        *,
        text: Any = None,
        image: Any = None,
        audio: Any = None,
        target: Any = None,
        language: str | Sequence[str] | None = None,
        task: str | None = None,
        decoder: bool = True,
    ) -> BatchFeature:
        """Inputs for `model(**inputs)` and `model.generate(**inputs)`, on the model's device.

        Lists make a padded batch, on the side that the tokenizer says, with `position_ids` where the model would count
        the padding of the left side. Text that names no image gets the processor's placeholder: by its chat template
        where there is one, else in front. Text that begins with the beginning-of-sequence token gets no second one.

        A multilingual Whisper is told a language and a task by its first tokens. Ask for them here and they are in
        `decoder_input_ids`, which forward reads and `generate` continues. Ask for neither and `generate` begins by
        itself, so that `model.generate(**inputs, language="fr", task="translate")` obeys; forward begins with the
        language that the model detects and with `transcribe`, which `labels` tell it. Sound longer than the model's
        window is for `model.generate(**inputs, return_timestamps=True)` alone.

        A translation model whose decoder begins with the language to write (NLLB, M2M100, mBART) is told it by
        `language`, for forward and for `generate` alike.

        Args:
            text: string, list of strings, or token ids (the only form for a model without processor).
            image: path, PIL image or array; a list of lists for several images per text.
            audio: path, or (samples, rate); resampled to the rate the model listens at.
            target: what the decoder of an encoder-decoder model is given; its start token otherwise.
            language: what a multilingual speech model hears, by name or code, or what a translation model is to
                write (`swh_Latn`, `sw`); one, or one for each example. A model that detects what it hears is quoted
                in a warning.
            task: transcribe, or translate into English; for a multilingual speech model.
            decoder: False leaves out what only forward needs to begin the decoder with.

        Raises:
            InputError: the input is empty, too long, unreadable, of a kind the model does not take, or the
                kinds differ in number; token ids lie outside the model's vocabulary; a batch cannot be padded on
                the tokenizer's side.

        Example:
            >>> from transformers import GPT2Config, GPT2LMHeadModel
            >>> config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)
            >>> subject = wrap(GPT2LMHeadModel(config))
            >>> subject.prepare(text=[[5, 6, 7], [5]])["attention_mask"].tolist()
            [[1, 1, 1], [1, 0, 0]]
        """
        prepared = prepare(
            self,
            text=text,
            image=image,
            audio=audio,
            target=target,
            language=language,
            task=task,
            decoder=decoder,
        )
        for note in prepared.notes:
            warnings.warn(note, stacklevel=2)
        return prepared.batch

    def layout(self, inputs: Mapping[str, Any]) -> TokenLayout:
        """What every position of `inputs` is, with its text.

        Example:
            >>> from transformers import GPT2Config, GPT2LMHeadModel
            >>> config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)
            >>> subject = wrap(GPT2LMHeadModel(config))
            >>> subject.layout(subject.prepare(text=[5, 6])).axes["text"].tokens
            (('5', '6'),)
        """
        given = with_decoder_ids(self.model, dict(inputs))
        return with_tokens(describe(self.model, self.processor, given), self.processor)

    def __repr__(self) -> str:
        tool = "no processor" if self.processor is None else type(self.processor).__name__
        size = sum(p.numel() for p in self.model.parameters())
        return (
            f"Subject({self.name}: {type(self.model).__name__}, {size:,} parameters, {self.device}, {tool})"
        )


def load(name: str | os.PathLike[str], **options: Any) -> Subject:
    """Load a model in evaluation mode, with its processor if it has one.

    Args:
        name: local folder, name on the Hugging Face hub, or a model of the zoo (`zoo:lm`, `zoo:vlm`,
            `zoo:speech`, `zoo:nmt`; `zoo:lm@early` for a checkpoint, `zoo:lm+text-sink` for a planted fault), which
            comes in float32 unless `dtype` says otherwise.
        options: passed to `from_pretrained` (`dtype`, `device_map`, `revision`, `attn_implementation`, ...).
            Code from the repository is run only with `trust_remote_code=True`. A folder is opened by itself, without
            the network and the hub's cache, unless `local_files_only=False`.

    Warns:
        UserWarning: weights are missing and were set at random, or found no place and were left out. The subject keeps
            that in `warnings`, and so do traces, results and manifests of what is done with it.

    Raises:
        LoadError: there is no such model, its files are incomplete or damaged, lead out of the folder or need what is
            not in it, or its weights are not finite.

    Example:
        >>> load("zoo:nmt").tokenizer.src_lang
        'eng_Latn'
    """
    name = place = os.fspath(name)
    damage = None
    if name.startswith(PREFIX):
        healthy, planted, fault = name.partition("+")
        damage = find_damage(fault, healthy) if planted else None
        place = str(zoo_folder(healthy))
        options.setdefault("dtype", torch.float32)
    with sealed(place, options) as given:
        model, notes = load_model(place, **given)
        processor = load_processor(place, **given)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    if damage is not None:
        damage.apply(model)
    return Subject(
        model,
        processor,
        name=name,
        revision=getattr(model.config, "_commit_hash", None) or options.get("revision"),
        warnings=notes,
    )


def wrap(model: PreTrainedModel, processor: Any = None) -> Subject:
    """A subject around a model that is already loaded. Nothing is copied and nothing is changed.

    Args:
        model: a transformers model, or a wrapper of torch.compile, DistributedDataParallel or PEFT around one, which
            is left aside.
        processor: its processor or tokenizer, if there is one.

    Raises:
        InputError: the model is not a transformers model, or the processor is none.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)
        >>> wrap(GPT2LMHeadModel(config))
        Subject(GPT2LMHeadModel: GPT2LMHeadModel, 1,024 parameters, cpu, no processor)
    """
    from transformers import PreTrainedModel

    if isinstance(model, str | os.PathLike):
        raise not_loaded(os.fspath(model))
    model = unwrapped(model)
    if not isinstance(model, PreTrainedModel):
        inner = " its inner transformers model" if isinstance(model, nn.Module) else " a transformers model"
        raise InputError(
            "This is not a transformers model.", evidence=type(model).__name__, remedy=f"Give{inner}."
        )
    _check_processor(processor)
    name = getattr(model.config, "_name_or_path", "") or type(model).__name__
    return Subject(model, processor, name=name, revision=getattr(model.config, "_commit_hash", None))


def unwrap(subject: Subject | PreTrainedModel) -> tuple[PreTrainedModel, Any]:
    """The model and the processor behind a subject or a bare model."""
    from transformers import PreTrainedModel

    held = unwrapped(subject)
    if isinstance(held, PreTrainedModel):
        return held, None
    model = None if isinstance(held, nn.Module) else getattr(subject, "model", None)
    if isinstance(model, PreTrainedModel):
        return model, getattr(subject, "processor", None)
    raise InputError(
        "This is neither a Subject nor a transformers model.",
        evidence=type(subject).__name__,
        remedy="Wrap it with hw.wrap(model, processor), or load it with hw.load(name).",
    )


def _check_processor(processor: Any) -> None:
    """Refuse what reads nothing: a name, a class, another model, or anything else that cannot be called."""
    if processor is None or (callable(processor) and not isinstance(processor, nn.Module | type)):
        return
    if isinstance(processor, str | os.PathLike):
        remedy = f"Load it: transformers.AutoProcessor.from_pretrained({os.fspath(processor)!r})."
    else:
        remedy = "Give the tokenizer or processor of the model, or leave it out."
    raise InputError(
        "This is not a tokenizer or a processor.",
        evidence=f"{processor!r}" if isinstance(processor, str | type) else type(processor).__name__,
        remedy=remedy,
    )
