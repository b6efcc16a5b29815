"""One word for every head, with the score that is its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headwise.analyses._heads import by_tower
from headwise.analyses._kinds.copying import copying_table
from headwise.analyses._kinds.patterns import pattern_scores
from headwise.analyses._kinds.types import COUNTS, TYPE, Prompts, made_scores
from headwise.analyses.inputs import as_examples, as_subject
from headwise.analyses.record import analysis
from headwise.errors import InputError, UnsupportedModel
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
        **{name: name for name in ("name mover", "negative name mover", "successor", "retrieval")},
    }
)
"""Type -> what a head of that type is called."""
LAST = (*tuple(KEYS)[-4:], "first")
"""Types that name a head only where no other does: what it does on texts of one sort, then where it rests."""
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
    description="What a head does, where its score is {least:g} or more on the scale from a flat pattern (0) to all "
    "attention (1); `score` and `baseline` are the evidence.",
    summary=_summary,
    inputs="subject",
    title="Kinds of heads",
)
def head_kinds(
    subject: Subject,
    data: Sequence[Mapping[str, Any]] = (),
    prompts: tuple[Prompts, ...] | None = None,
    least: float = 0.45,
    sequences: int | None = None,
    period: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The kind of every head, from what it does on prompts made for it, and on examples.

    A head is of every type whose excess, (score - baseline) / (1 - baseline), is `least` or more. Its kind is that of
    the largest excess; a name mover, successor or retrieval head is called so only where no pattern on any tokens says
    what it is, and a sink only where it is nothing else.

    Args:
        subject: a model that reads words.
        data: examples, which add separator, punctuation, image and sound heads; none are needed.
        prompts: which are made, see `head_types`; all that the model and its tokenizer allow when None.
        least: excess over a flat pattern, above 0 and up to 1.
        sequences: prompts of each sort, see `head_types`.
        period: random tokens in a copy, see `head_types`.
        seed: of the prompts.

    Returns:
        One row per head: `head_kind`, and of its type `score`, `baseline` and `excess`; those of the nearest type where
        the kind is "none", and `nearest` says which; `also`, the other types that it is of; and `copying`, see
        `head_types`, NaN where there is none.

    Raises:
        InputError: `least` is out of range, or as in `head_types`.
    """
    from pandas import concat

    subject = as_subject(subject, "head_kinds")
    if not 0.0 < least <= 1.0:
        raise InputError(
            "least is a share above 0 and up to 1.", evidence=f"least={least:g}", remedy="The usual is 0.45."
        )
    scores, meta = _scores(subject, prompts, sequences, period, seed)
    if data:
        with capture(subject, stats=False, maps=True) as trace:
            for example in as_examples(data, "head_kinds"):
                run_model(subject, prepare_run(subject, 0, **example).inputs)
        natural = pattern_scores(trace)
        natural = natural[natural["type"].isin(NATURAL) & natural["tower"].isin(scores["tower"])]
        scores = concat([scores, natural], ignore_index=True)
    frame = _named(scores, least)
    copying = copying_table(subject).rename(columns={"score": "copying"})
    frame = (
        frame.merge(copying, how="left", on=list(TYPE[:-1])) if len(copying) else frame.assign(copying=nan)
    )
    frame.attrs["provenance"] = meta
    return frame


def _scores(
    subject: Subject,
    prompts: tuple[Prompts, ...] | None,
    sequences: int | None,
    period: int | None,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores on all prompts, and what the capture says of itself; where they were not named, not of those refused."""
    from pandas import concat

    parts, meta, refused = [], {}, []
    for one in tuple(COUNTS) if prompts is None else prompts:
        try:
            found, about = made_scores(subject, one, sequences, period, seed)
        except (InputError, UnsupportedModel) as error:
            if prompts is not None or one == "repeats":
                raise
            refused.append(f"Heads were not tried on prompts={one!r}: {error}")
            continue
        parts.append(found)
        meta = meta or about
    if not parts:
        raise InputError("There are no prompts to tell heads by.", remedy=f"Name any of {', '.join(COUNTS)}.")
    return concat(parts, ignore_index=True), {**meta, "warnings": [*meta.get("warnings", ()), *refused]}


def _named(scores: pd.DataFrame, least: float) -> pd.DataFrame:
    """One row per head: its kind, the evidence, and what else it is."""
    head = list(TYPE[:-1])
    means = scores.groupby(list(TYPE), sort=False, as_index=False)[["score", "baseline"]].mean()
    means = means[means["baseline"] < 1.0].copy()
    means["excess"] = (means["score"] - means["baseline"]) / (1.0 - means["baseline"])
    passed = means["excess"] >= least
    rank = means["type"].map({name: 1 + (name == "first") for name in LAST}).fillna(0).where(passed, 3)
    order = means.assign(rank=rank, less=-means["excess"]).sort_values(["rank", "less"], kind="stable").index
    own = means.loc[order].drop_duplicates(head).index
    called = means["type"].map(KEYS)
    others = called[passed & ~means.index.isin(own)].groupby([means[name] for name in head]).agg(", ".join)
    frame = means[head].drop_duplicates().merge(means.loc[own], on=head)
    frame.insert(len(head), "head_kind", frame["type"].map(KEYS).where(frame["excess"] >= least, NONE))
    frame["nearest"] = frame.pop("type").map(KEYS)
    return frame.merge(others.rename("also").reset_index(), how="left", on=head).fillna({"also": ""})
