"""What a model's folder may say of generating: the settings that are taken, and within which ranges."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from headwise.errors import InputError, LoadError
from headwise.readers.json import read_json
from headwise.text import visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "generation_config.json"
_SHOWN = 8
"""Settings that a note names with their values."""


def _in_vocabulary(token: int, info: ValidationInfo) -> int:
    if info.context is not None and token >= info.context:
        raise ValueError(f"the model has {info.context} tokens")
    return token


def _few(tokens: list[int], info: ValidationInfo) -> list[int]:
    if info.context is not None and len(set(tokens)) > info.context / 2:
        raise ValueError("these are most of the model's tokens")
    return tokens


def _in_order(pairs: list[list[int | None]]) -> list[list[int | None]]:
    if [place for place, _ in pairs] != list(range(1, len(pairs) + 1)):
        raise ValueError("places count from 1")
    return pairs


def _listed(name: str, info: ValidationInfo) -> str:
    """A language or a task that the model can be told."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    code = TO_LANGUAGE_CODE.get(name.lower(), name.strip("<|>"))
    ids = info.data.get("lang_to_id" if info.field_name == "language" else "task_to_id")
    if not info.data.get("is_multilingual") or not {code, f"<|{code}|>"} & {*(ids or ())}:
        raise ValueError("the model has no such choice")
    return name


Token = Annotated[int, Field(ge=0), AfterValidator(_in_vocabulary)]
Tokens = Annotated[list[Token], AfterValidator(_few)]
Word = Annotated[Tokens, Field(min_length=1)]
Ends = Token | Annotated[list[Token], Field(min_length=1, max_length=100)]
Count = Annotated[int, Field(ge=0, le=2**31)]
Positive = Annotated[int, Field(ge=1, le=2**31)]
Pair = Annotated[list[Count | None], Field(min_length=2, max_length=2)]
Places = Annotated[list[Pair], Field(min_length=1, max_length=16), AfterValidator(_in_order)]
Share = Annotated[float, Field(gt=0, le=1)]
Cutoff = Annotated[float, Field(ge=0, lt=1)]
Penalty = Annotated[float, Field(gt=0, le=10)]


class GenerationSettings(BaseModel):
    """The settings that a folder may bring, each with its type and range; what is not here is left out."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    bos_token_id: Token | None = None
    eos_token_id: Ends | None = None
    pad_token_id: Token | None = None
    decoder_start_token_id: Token | None = None
    forced_bos_token_id: Token | None = None
    forced_eos_token_id: Ends | None = None
    suppress_tokens: Tokens | None = None
    begin_suppress_tokens: Tokens | None = None
    bad_words_ids: (
        Annotated[list[Annotated[Tokens, Field(min_length=1)]], Field(min_length=1, max_length=1000)] | None
    ) = None

    transformers_version: Annotated[str, Field(max_length=40)] | None = None
    max_length: Positive | None = None
    max_new_tokens: Positive | None = None
    min_length: Count | None = None
    min_new_tokens: Count | None = None
    use_cache: bool | None = None
    disable_compile: bool | None = None

    do_sample: bool | None = None
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    top_k: Count | None = None
    top_p: Share | None = None
    top_h: Share | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Share | None = None
    epsilon_cutoff: Cutoff | None = None
    eta_cutoff: Cutoff | None = None
    renormalize_logits: bool | None = None
    repetition_penalty: Penalty | None = None
    encoder_repetition_penalty: Penalty | None = None
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=1000)] | None = None
    encoder_no_repeat_ngram_size: Annotated[int, Field(ge=0, le=1000)] | None = None

    num_beams: Annotated[int, Field(ge=1, le=64)] | None = None
    early_stopping: bool | Literal["never"] | None = None
    length_penalty: Annotated[float, Field(ge=-10, le=10)] | None = None

    is_multilingual: bool | None = None
    lang_to_id: dict[str, Token] | None = None
    task_to_id: dict[str, Token] | None = None
    language: Annotated[str, AfterValidator(_listed)] | None = None
    task: Annotated[Literal["transcribe", "translate"], AfterValidator(_listed)] | None = None
    text_decoder_lang_to_code_id: dict[str, Token] | None = None
    forced_decoder_ids: Places | None = None
    alignment_heads: list[Pair] | None = None
    no_timestamps_token_id: Token | None = None
    prev_sot_token_id: Token | None = None
    max_initial_timestamp_index: Count | None = None
    return_timestamps: bool | None = None
    condition_on_prev_tokens: bool | None = None
    median_filter_width: Annotated[int, Field(ge=1, le=1000)] | None = None


_OWN = (
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
"""How models of speech and translation are told to begin and what never to write; of others it is said."""
_FELT = (
    *(
        "repetition_penalty",
        "encoder_repetition_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
    ),
    *("min_length", "min_new_tokens"),
)
"""Settings that change which words are the most likely."""
_USUAL = (None, False, 0, 1, "", [], {}, "hybrid", "dynamic")
"""What a setting says that asks for nothing."""


def read_settings(name: str, subfolder: str = "") -> dict[str, Any] | None:
    """The settings of a folder's `generation_config.json`; None where there is no such folder or file.

    Raises:
        LoadError: the file is no JSON, or holds something else than settings.
    """
    path = Path(name, subfolder, FILE)
    if not os.path.lexists(path):
        return None
    try:
        found = read_json(path)
    except InputError as error:
        raise LoadError(error.fact, evidence=error.evidence, remedy=error.remedy) from error
    if not isinstance(found, dict):
        raise LoadError(
            f"The {FILE} of {name} holds no settings.",
            evidence=type(found).__name__,
            remedy="Copy it again, or remove it.",
        )
    return found


def settle(model: PreTrainedModel, given: Mapping[str, Any] | None, *, name: str) -> Iterator[str]:
    """What was left out of the settings of a model, and of the models within it, and what changes their words.

    Args:
        model: just loaded; its `generation_config` is replaced by one with what `GenerationSettings` takes.
        given: what the folder says; None takes what the model has.
        name: the model's.
    """
    for part in model.modules():
        held = vars(part).get("generation_config")
        if held is None:
            continue
        found = dict(vars(held) if given is None or part is not model else given)
        usual = vars(type(held)())
        taken, wrong = _taken(found, _vocabulary(part))
        asked = {key for key, value in found.items() if key[:1] != "_" and _asks(value, usual.get(key))}
        fresh = type(held)()
        vars(fresh).update(taken, _from_model_config=found.get("_from_model_config") is True)
        part.generation_config = fresh
        felt = _FELT if model.config.is_encoder_decoder else _FELT + _OWN
        if left := {key: said for key, said in wrong.items() if key in asked}:
            yield f"{name}: settings for generating were left out: {_list(left)}"
        if more := {key: _value(taken[key]) for key in felt if key in taken and key in asked}:
            yield f"{name}: settings for generating change what it writes: {_list(more)}"


def _asks(value: Any, usual: Any) -> bool:
    """True for a value that asks for something: neither what a setting is anyway nor nothing."""
    return value is True or (value != usual and value not in _USUAL)


def _taken(found: Mapping[str, Any], tokens: int | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings that are taken, and those that are not: their value, and what is wrong with it where that is its
    range.
    """
    wrong = {key: _value(value) for key, value in found.items() if key not in GenerationSettings.model_fields}
    try:
        taken = GenerationSettings.model_validate(found, context=tokens)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            key = str(one["loc"][0])
            if key not in wrong:  # a list may have an error for each of its items
                wrong[key] = f"{_value(found[key])}: {one['msg'].removeprefix('Value error, ')}"
        taken = GenerationSettings.model_validate({key: found[key] for key in found.keys() - wrong.keys()})
    return taken.model_dump(exclude_none=True), wrong


def _vocabulary(model: Any) -> int | None:
    """Tokens that a model reads or writes; None where it has no table of them."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    sizes = [len(table.weight) for table in tables if getattr(table, "weight", None) is not None]
    return max(sizes, default=None)


def _value(value: Any) -> str:
    return visible(repr(value), limit=40)


def _list(some: Mapping[str, str]) -> str:
    """Settings with their values; of many, the first."""
    listed = [f"{visible(key, limit=60)} ({value})" for key, value in some.items()]
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")
