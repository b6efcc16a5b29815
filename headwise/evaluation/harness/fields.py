"""What a task file may hold as data: the fields of the harness that name no code, and bounds on their values."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from headwise.errors import InputError
from headwise.evaluation.harness.templates import check_template
from headwise.readers.yaml import Place
from headwise.text import visible

CODE = "Take it out, or give allow_code=True (--allow-code) if you trust the file and what lies beside it."
"""The remedy for what a task file may only do as code."""
_REPEATS, _OPTIONS = 2, 16


def check_pattern(pattern: str) -> str:
    """A regular expression that is through with a text soon.

    Args:
        pattern: at most 500 characters, with at most two repeats in a row and 16 of the marks `?` and `|`.

    Raises:
        ValueError: it is malformed or has more; a repeat holds a repeat, an option or a choice; it refers back.

    Example:
        >>> check_pattern("The answer is (-?[0-9.]+)")
        'The answer is (-?[0-9.]+)'
        >>> check_pattern("(a+)+$")
        Traceback (most recent call last):
        ...
        ValueError: a pattern may take for ever: it repeats repeats or choices, or has more than 2 repeats in a row
    """
    slow = len(pattern) > 500 or pattern.count("?") + pattern.count("|") > _OPTIONS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            slow = slow or _repeats(import_module("re._parser").parse(pattern)) >= _REPEATS + 1
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"a pattern is malformed: {error}") from error
    if slow:
        raise ValueError(
            f"a pattern may take for ever: it repeats repeats or choices, or has more than {_REPEATS} repeats in a row"
        )
    return pattern


def _repeats(parts: Any) -> float:
    """Repeats in a row in a parsed pattern; options and choices count little, what may take for ever without end."""
    total = 0.0
    for kind, given in parts:
        match str(kind), given:
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT", (_, most, inner):
                within = _repeats(inner)
                total += within + 0.01 if most == 1 else float("inf") if within else 1
            case "BRANCH", (_, several):
                total += max(map(_repeats, several)) + 0.01
            case "SUBPATTERN" | "ASSERT" | "ASSERT_NOT", (*_, inner):
                total += _repeats(inner)
            case "ATOMIC_GROUP", inner:
                total += _repeats(inner)
            case "GROUPREF" | "GROUPREF_EXISTS" | "GROUPREF_IGNORE", _:
                total = float("inf")
    return total


def _registered(kind: str) -> Any:
    def check(name: str) -> str:
        known = getattr(import_module("lm_eval.api.registry"), f"{kind}_registry")
        import_module("lm_eval.api.metrics")
        if name not in known:
            raise ValueError(f"the harness itself has no such {kind}; it has: {', '.join(known)}")
        return name

    return AfterValidator(check)


_Template = Annotated[str, AfterValidator(check_template)]
_Pattern = Annotated[str, AfterValidator(check_pattern)]
_Names = str | list[str] | None
_Target = _Template | int | list[str | int] | None
_Choice = _Template | list[str | int | float] | dict[str, str] | None


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Metric(_Data):
    metric: Annotated[str, _registered("metric")]
    aggregation: Annotated[str, _registered("aggregation")] | None = None
    higher_is_better: bool | None = None
    hf_evaluate: Literal[False] = False
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: list[_Pattern] | None = None


class _Step(_Data):
    function: Literal[
        "take_first",
        "take_first_k",
        "majority_vote",
        "regex",
        "regex_pos",
        "multi_choice_regex",
        "remove_whitespace",
        "lowercase",
        "uppercase",
        "map",
        "format_span",
    ]
    regex_pattern: _Pattern | None = None
    regexes_to_ignore: list[_Pattern] | None = None
    group_select: int = 0
    fallback: str | list[str] | None = None
    ignore_case: bool = False
    ignore_punctuation: bool = False
    mapping_dict: dict[str, Any] | None = None
    default_value: str | int | float | None = None
    k: int = 1


class _Filter(_Data):
    name: str
    filter: list[_Step]


class _Generation(_Data):
    until: _Names = None
    do_sample: bool = False
    temperature: float = Field(0, ge=0, le=100)
    top_p: float = Field(1, ge=0, le=1)
    min_p: float = Field(0, ge=0, le=1)
    top_k: int = Field(50, ge=0, le=10**6)
    num_beams: int = Field(1, ge=1, le=64)
    repetition_penalty: float = Field(1, ge=0.01, le=100)
    max_gen_toks: int = Field(1, ge=1, le=32768)
    max_new_tokens: int = Field(1, ge=1, le=32768)
    max_length: int = Field(1, ge=1, le=32768)


class _Asked(_Data):
    doc_to_text: _Template | int | None = None
    doc_to_target: _Target = None
    doc_to_choice: _Choice = None
    gen_prefix: _Template | None = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"


class _FewShot(_Asked):
    sampler: Literal["default", "first_n"] = "default"
    split: str | None = None
    samples: list[dict[str, Any]] | None = None
    fewshot_indices: list[int] | None = None


class DataFiles(_Data):
    """`dataset_kwargs` of a task file as data: the names of files, and how a table separates values."""

    data_files: str | list[str] | dict[str, str | list[str]]
    delimiter: str = Field(",", min_length=1, max_length=1)
    column_names: list[str] | None = None


class _Mean(_Data):
    metric: str
    aggregation: Literal["mean"] = "mean"
    weight_by_size: bool = True
    filter_list: _Names = None


class _Task(_Asked):
    task: str | list[str | _Task] | None = None
    task_alias: str | None = None
    group: str | None = None
    group_alias: str | None = None
    aggregate_metric_list: _Mean | list[_Mean] | None = None
    tag: _Names = None
    dataset_path: Literal["csv", "json", "parquet", "text"] | None = None
    dataset_name: None = None
    dataset_kwargs: DataFiles | None = None
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    fewshot_config: _FewShot | None = None
    num_fewshot: int | None = Field(None, ge=0, le=1000)
    description: _Template = ""
    output_type: (
        Literal["loglikelihood", "loglikelihood_rolling", "generate_until", "multiple_choice"] | None
    ) = None
    generation_kwargs: _Generation | None = None
    repeats: int = Field(1, ge=1, le=100)
    filter_list: list[_Filter] | None = None
    metric_list: list[_Metric] | None = None
    should_decontaminate: bool = False
    doc_to_decontamination_query: _Template | None = None
    unsafe_code: Literal[False] = False
    use_prompt: None = None
    metadata: dict[str, Any] | str | int | float | None = None


def check_fields(config: Mapping[str, Any], lines: Mapping[Place, int], where: str) -> None:
    """Refuse a task file that is more than data.

    Args:
        config: what stands in it, without `include`.
        lines: where it stands.
        where: the file.

    Raises:
        InputError: a field names code, data from elsewhere, or what nobody knows; a value is out of bounds.
    """
    try:
        _Task.model_validate(config)
    except ValidationError as error:
        found = max(error.errors(include_url=False, include_context=False), key=lambda item: len(item["loc"]))
        place: Place = ()
        for part in found["loc"]:  # which also holds names of types
            place = (*place, part) if (*place, part) in lines else place
        name, said = ".".join(map(str, place)), found["msg"].removeprefix("Value error, ")
        evidence = f"{where}, line {lines.get(place, 1)}: {name}: {said}, not {found['input']!r}"
        raise InputError(
            "The task file asks for what a file of data may not.",
            evidence=visible(evidence, limit=400),
            remedy=CODE,
        ) from error
