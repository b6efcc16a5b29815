"""One word for every head, with the score that is its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headwise.analyses._heads import by_tower
from headwise.analyses._kinds.copying import copying_table
from headwise.analyses._kinds.given import as_examples, as_subject
from headwise.analyses._kinds.patterns import pattern_scores
from headwise.analyses._kinds.types import TYPE, made_scores
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model
from headwise.subject.generation import prepare_run

if TYPE_CHECKING:
    import pandas as pd

    from headwise.subject import Subject

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "previous": "previous token",
        "next": "next token",
        "current": "current token",
        "first": "sink",
        "duplicate": "duplicate token",
        "induction": "induction",
        "separator": "separator",
        "punctuation": "punctuation",
        "image": "image",
        "audio": "sound",
    }
)
"""Type -> what a head of that type is called."""
NATURAL = ("separator", "punctuation", "image", "audio")
"""Types that random tokens do not show, and examples do."""
NONE = "none"


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    counts = frame["head_kind"].value_counts()
    named = ", ".join(f"{name} {count}" for name, count in counts.items() if name != NONE)
    return f"of {len(frame)} heads {counts.get(NONE, 0)} have no kind" + (f"; {named}" if named else "")


@analysis(
    kind="classes",
    keys=TYPE[:-1],
    value="head_kind",
    unit="kind",
    description="What a head looks at, where its score is {least:g} or more on the scale from a flat pattern (0) to "
    "all attention (1); `score` and `baseline` are the evidence.",
    summary=_summary,
    inputs="subject",
    title="Kinds of heads",
)
def head_kinds(
    subject: Subject,
    data: Sequence[Mapping[str, Any]] = (),
    least: float = 0.45,
    sequences: int = 4,
    period: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The kind of every head, from what it looks at on random tokens that are read twice, and on examples.

    The kind is the type of the largest excess, (score - baseline) / (1 - baseline), if that is `least` or more.

    Args:
        subject: a model that reads words.
        data: examples, which add separator, punctuation, image and sound heads; none are needed.
        least: excess over a flat pattern, above 0 and up to 1.
        sequences: random sequences, see `head_types`.
        period: random tokens in a copy, see `head_types`.
        seed: of the tokens.

    Returns:
        One row per head: `head_kind`, and of its type `score`, `baseline` and `excess`; those of the nearest type where
        the kind is "none", and `nearest` says which; and `copying`, see `head_types`, NaN where there is none.

    Raises:
        InputError: `least` is out of range, or as in `head_types`.
    """
    from pandas import concat

    subject = as_subject(subject, "head_kinds")
    if not 0.0 < least <= 1.0:
        raise InputError(
            "least is a share above 0 and up to 1.", evidence=f"least={least:g}", remedy="The usual is 0.45."
        )
    scores, meta = made_scores(subject, sequences, period, seed)
    if data:
        with capture(subject, stats=False, maps=True) as trace:
            for example in as_examples(data, "head_kinds"):
                run_model(subject, prepare_run(subject, 0, **example).inputs)
        natural = pattern_scores(trace)
        natural = natural[natural["type"].isin(NATURAL) & natural["tower"].isin(scores["tower"])]
        scores = concat([scores, natural], ignore_index=True)
    means = scores.groupby(list(TYPE), sort=False, as_index=False)[["score", "baseline"]].mean()
    means = means[means["baseline"] < 1.0].copy()
    means["excess"] = (means["score"] - means["baseline"]) / (1.0 - means["baseline"])
    best = means.groupby(list(TYPE[:-1]), sort=False)["excess"].idxmax()
    frame = means.loc[best].reset_index(drop=True)
    frame.insert(len(TYPE) - 1, "head_kind", frame["type"].map(KEYS).where(frame["excess"] >= least, NONE))
    frame["nearest"] = frame.pop("type").map(KEYS)
    copying = copying_table(subject).rename(columns={"score": "copying"})
    frame = (
        frame.merge(copying, how="left", on=list(TYPE[:-1])) if len(copying) else frame.assign(copying=nan)
    )
    frame.attrs["provenance"] = meta
    return frame
