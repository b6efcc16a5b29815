"""How much every head is of each type: on any input, and on prompts made for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from headwise.analyses._heads import HEAD, by_tower
from headwise.analyses._kinds.copying import copying_table
from headwise.analyses._kinds.patterns import pattern_scores
from headwise.analyses._kinds.prompts import repeats
from headwise.analyses._kinds.tasks import task_scores
from headwise.analyses.inputs import as_subject
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model
from headwise.subject.info import identity_of
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject

TYPE = ("tower", "kind", "layer", "call", "head", "type")
"""The columns that name the score of a head of a model."""
MADE = ("previous", "next", "current", "first", "duplicate", "induction")
"""Types that random tokens, read twice, tell apart."""


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    means = frame.groupby(["type", "layer", "head"], sort=False, as_index=False)[["score", "baseline"]].mean()
    best = means.loc[means.groupby("type", sort=False)["score"].idxmax().dropna()]
    return "strongest head of each type: " + ", ".join(
        f"{row['type']} {head_name(row['layer'], row['head'])} {row['score']:.2f} (flat {row['baseline']:.2f})"
        for row in best.to_dict("records")
    )


@analysis(
    kind="heads",
    keys=(*HEAD, "type"),
    value="score",
    unit="share",
    description="Mean share of attention on the keys that a head of the type looks at, over rows that have such a key; "
    "`baseline` is that of a flat pattern.",
    summary=_summary,
    needs=("maps",),
)
def pattern_types(trace: Trace) -> pd.DataFrame:
    """How much every head looks at what a head of each type looks at, on any input.

    `duplicate` and `induction` (the prefix-matching score) are about tokens that occur twice in the input.

    Args:
        trace: a capture with patterns.

    Returns:
        One row per example, head and type that the input has keys for: `score`, `baseline` (the same for a flat
        pattern over visible keys), both 0 to 1, and `rows`, the rows with such a key.

    Raises:
        CaptureError: the trace holds no patterns, or no type has keys.
    """
    return pattern_scores(trace)


Prompts = Literal["repeats", "names", "order", "needle"]
COUNTS: Mapping[Prompts, int] = MappingProxyType({"repeats": 4, "names": 16, "order": 1, "needle": 8})
"""Prompts of each sort, unless a number is given; there is one set of series."""


def made_scores(
    subject: Subject, prompts: Prompts, sequences: int | None, period: int | None, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores of every prompt that was made, and what the capture says of itself.

    Raises:
        InputError: see `headwise.analyses._kinds.prompts.repeats` and `headwise.analyses._kinds.tasks.task_scores`.
    """
    count = COUNTS[prompts] if sequences is None else sequences
    if count < 1:
        raise InputError("There is one sequence or more.", evidence=f"sequences={sequences}")
    if prompts != "repeats":
        return task_scores(subject, prompts, count, seed), identity_of(subject)
    with capture(subject, stats=False, maps=True) as trace:
        for one in repeats(subject, count, period, seed):
            run_model(subject, subject.prepare(**one))
    return pattern_scores(trace, MADE), dict(trace.meta)


@analysis(
    kind="heads",
    keys=TYPE,
    value="score",
    unit="score",
    description="How much a head is of a type, on prompts made for it ({prompts}): the share of attention on what such "
    "a head looks at, or of tokens that it copies or counts on (1 is all); `copying` is from the weights, -1 to 1. "
    "`baseline` is what a flat pattern has.",
    summary=_summary,
    inputs="subject",
)
def head_types(
    subject: Subject,
    data: Sequence[Mapping[str, Any]] = (),
    prompts: Prompts = "repeats",
    sequences: int | None = None,
    period: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How much every head is of each type, on prompts made for it; no data are needed.

    `"repeats"`: an opening token, different random tokens, and the same again, for previous token, induction and their
    like; `copying` is of the weights: whether what a head writes raises the token that it reads. `"names"`: sentences
    that end where a name is to be said (Wang et al. 2022), for name movers and negative name movers. `"order"`: days,
    months, numbers and letters, for successor heads (Gould et al. 2023). `"needle"`: a sentence to be found among
    others, for retrieval heads (Wu et al. 2024).

    Args:
        subject: a model that reads words; for all but `"repeats"` a decoder with its tokenizer.
        data: not read.
        prompts: what the prompts are.
        sequences: prompts, which are averaged; 4 of repeats, 16 of names, 8 of needle when None.
        period: random tokens in a copy; 25, or what the model has room for, when None.
        seed: of the prompts.

    Returns:
        One row per head and type: `score`, and `baseline`, that of a flat pattern over visible keys.

    Raises:
        InputError: the model reads no words, or not so many; its tokenizer cuts the words of the prompts into pieces.

    Example:
        >>> import headwise as hw
        >>> found = hw.analyses.head_types(hw.load("zoo:lm"), prompts="names")
        >>> found.frame.query("type == 'name mover'").nlargest(1, "score")["layer"].item()
        1
    """
    from pandas import concat

    subject = as_subject(subject, "head_types")
    scores, meta = made_scores(subject, prompts, sequences, period, seed)
    order = {name: place for place, name in enumerate((*MADE, "copying"))}
    frame = scores.groupby(list(TYPE), sort=False, as_index=False)[["score", "baseline"]].mean()
    if prompts == "repeats":
        weights = copying_table(subject).assign(type="copying", baseline=0.0)
        frame = concat([frame, weights], ignore_index=True) if len(weights) else frame
    frame = frame.sort_values("type", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    frame.attrs["provenance"] = meta
    return frame
