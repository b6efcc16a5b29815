"""What the model loses with a head: by replacing its output, and by the gradient of a gate on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from headwise.analyses._kinds.scene import CHEAP, Estimator, Scene
from headwise.analyses.inputs import as_examples, as_subject
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.probes.trace.frames import site_columns
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.subject import Subject

DEFAULT: tuple[Estimator, ...] = ("zero", "mean", *CHEAP)


def _summary(frame: pd.DataFrame) -> str:
    best = frame.loc[frame.groupby("estimator", sort=False)["importance"].idxmax()].to_dict("records")
    tops = ", ".join(
        f"{head_name(row['layer'], row['head'])} by {row['estimator']} ({row['importance']:.3g})"
        for row in best
    )
    pairs = _pairs(_ranks(frame))
    agree = ""
    if pairs:
        ends = [f"{value:.2f} ({one}, {other})" for value, one, other in (pairs[0], pairs[-1])]
        agree = f"; the ranks of heads agree with Spearman {' to '.join(dict.fromkeys(ends))}"
    return f"Most important, in nats per token: {tops}{agree}."


@analysis(
    kind="heads",
    keys=("tower", "kind", "layer", "call", "head", "estimator"),
    value="importance",
    unit="change of nats per token",
    description="What a head is worth to the prediction of the next token, or of hidden ones: the loss with its output "
    "replaced less the loss as it is, or the size of the gradient of a gate on it, mean over examples.",
    summary=_summary,
    inputs="subject",
)
def head_importance(
    subject: Subject,
    data: Sequence[Mapping[str, Any]],
    estimators: tuple[Estimator, ...] = DEFAULT,
    kind: Literal["self", "cross"] = "self",
    batch_size: int = 8,
) -> pd.DataFrame:
    """What every head of the language tower is worth to the prediction of the next token, or of hidden ones.

    A masked language model reads every example seven times, each time with another seventh of its words hidden.

    Args:
        subject: a decoder, an encoder-decoder whose examples have targets, or a masked language model.
        data: texts, or keywords of `Subject.prepare`.
        estimators: `"zero"`, `"mean"` (over positions and examples) and `"resample"` (the next example, at the same
            position) replace a head's output z; `"gradient"` is |sum of z · dL/dz| of an example,
            `"gradient per position"` the sum of |z · dL/dz| over positions.
        kind: self-attention or cross-attention.
        batch_size: heads that are replaced side by side.

    Returns:
        One row per head and estimator: `importance` in nats per token, `normalised` by the Euclidean norm over the
        heads of the layer.

    Raises:
        InputError: there are no examples, one has nothing to predict, the model predicts no tokens or has no such
            attention; resampling from one example alone.
    """
    frame = _importances("head_importance", subject, data, estimators, kind, batch_size)
    norm = frame.groupby(["estimator", "layer", "call"])["importance"].transform(
        lambda part: np.linalg.norm(part)
    )
    frame["normalised"] = frame["importance"] / (norm + 1e-20)
    return frame


def _importances(
    name: str,
    subject: Subject,
    data: Sequence[Mapping[str, Any]],
    estimators: Iterable[Estimator],
    kind: str,
    batch_size: int,
) -> pd.DataFrame:
    """A row per head and estimator, for the analysis of that name."""
    from pandas import DataFrame, concat

    scene = Scene(as_subject(subject, name), as_examples(data, name), kind, batch_size, name)
    found = {one: scene.importance(one) for one in estimators}
    frame = concat(
        [
            DataFrame(
                site_columns(site) | {"head": head, "estimator": one, "importance": [float(values[row])]}
            )
            for one, values in found.items()
            for row, (site, head) in enumerate(scene.heads)
        ],
        ignore_index=True,
    )
    frame.attrs["provenance"] = dict(scene.trace.meta)
    return frame


def _ranks(frame: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation over heads, estimator by estimator."""
    places = ["layer", "call", "head"]
    return frame.pivot_table(index=places, columns="estimator", values="importance", sort=False).corr(
        method="spearman"
    )


def _pairs(ranks: pd.DataFrame) -> list[tuple[float, str, str]]:
    """Every two estimators and how much they agree, the least first."""
    names = list(ranks.columns)
    values = ranks.to_numpy()
    return sorted((values[i, j], names[i], names[j]) for i, j in combinations(range(len(names)), 2))


def _agreement_sentence(frame: pd.DataFrame) -> str:
    ranks = frame.pivot_table(index="estimator", columns="other", values="agreement", sort=False)
    low, high = (
        f"{value:.2f} ({one}, {other})" for value, one, other in (_pairs(ranks)[0], _pairs(ranks)[-1])
    )
    return f"The ranks of {frame['heads'].iloc[0]} heads agree with Spearman {low} to {high}."


@analysis(
    kind="matrix",
    axes=("estimator", "other"),
    keys=("estimator", "other"),
    value="agreement",
    unit="correlation",
    description="Spearman's rank correlation of the importance of heads by two estimators, over all heads; 1 ranks "
    "them alike, 0 has nothing to do with it.",
    summary=_agreement_sentence,
    inputs="subject",
)
def importance_agreement(
    subject: Subject,
    data: Sequence[Mapping[str, Any]],
    estimators: tuple[Estimator, ...] = DEFAULT,
    kind: Literal["self", "cross"] = "self",
    batch_size: int = 8,
) -> pd.DataFrame:
    """How much the ways of measuring the importance of heads agree on which heads matter.

    Args:
        subject: as of `head_importance`, and so are all others.
        data: texts, or keywords of `Subject.prepare`.
        estimators: two or more.
        kind: self-attention or cross-attention.
        batch_size: heads that are replaced side by side.

    Returns:
        One row per two estimators: `agreement`, -1 to 1, NaN where one says the same of all heads, and how many
        `heads`.

    Raises:
        InputError: as `head_importance`; there is one estimator alone.
    """
    if len(set(estimators)) < 2:
        raise InputError("Two estimators or more are compared.", evidence=f"estimators={estimators}")
    found = _importances("importance_agreement", subject, data, dict.fromkeys(estimators), kind, batch_size)
    ranks = _ranks(found).rename_axis(index="estimator", columns="other")
    frame = ranks.reset_index().melt("estimator", value_name="agreement")
    frame["heads"] = len(found) // len(ranks)
    frame.attrs["provenance"] = found.attrs["provenance"]
    return frame


def _curve_sentence(frame: pd.DataFrame, estimator: str) -> str:
    loss = frame.set_index(["order", "removed"])["loss"]
    whole, half = loss["importance", 0.0], 0.5
    return (
        f"The loss is {whole:.2f} nats per token; without the least important half of the heads (by {estimator}) "
        f"{loss['importance', half]:.2f}, without half of them by lot {loss['random', half]:.2f}."
    )


@analysis(
    kind="curve",
    axes=("removed",),
    keys=("order", "removed"),
    value="loss",
    unit="nats per token",
    description="Loss of the next token, or of hidden ones, with a share of the heads set to 0: the least important "
    "first ({estimator}), or by lot.",
    summary=_curve_sentence,
    inputs="subject",
)
def pruning_curve(
    subject: Subject,
    data: Sequence[Mapping[str, Any]],
    estimator: Estimator = "gradient",
    kind: Literal["self", "cross"] = "self",
    shuffles: int = 3,
    seed: int = 0,
    batch_size: int = 8,
) -> pd.DataFrame:
    """The loss while heads are removed, 10 % at a time, the least important first; and by lot, beside it.

    Args:
        subject: a decoder, an encoder-decoder whose examples have targets, or a masked language model.
        data: texts, or keywords of `Subject.prepare`. Importance and loss are measured on the same.
        estimator: of importance, see `head_importance`.
        kind: self-attention or cross-attention.
        shuffles: random orders, which are averaged.
        seed: of those.
        batch_size: sets of heads that are removed side by side.

    Returns:
        One row per order (`importance`, `random`) and share `removed`, 0 to 1: `loss` in nats per token, and how many
        `heads` that are.

    Raises:
        InputError: as `head_importance`, or there is no random order.
    """
    from pandas import DataFrame

    if shuffles < 1:
        raise InputError("There is one random order or more.", evidence=f"shuffles={shuffles}")
    subject = as_subject(subject, "pruning_curve")
    scene = Scene(subject, as_examples(data, "pruning_curve"), kind, batch_size, "pruning_curve")
    importance = scene.importance(estimator)
    random = np.random.default_rng(seed)
    orders = [np.argsort(importance, kind="stable")] + [
        random.permutation(len(importance)) for _ in range(shuffles)
    ]
    shares = [step / 10 for step in range(11)]
    counts = [round(share * len(importance)) for share in shares]
    sets = [[scene.place(index) for index in order[:count]] for order in orders for count in counts]
    found = scene.mean_loss(sets).reshape(len(orders), len(shares))
    rows = {"importance": found[0], "random": found[1:].mean(0)}
    frame = DataFrame(
        [
            {"order": order, "removed": share, "loss": float(loss), "heads": count}
            for order, curve in rows.items()
            for share, loss, count in zip(shares, curve, counts, strict=True)
        ]
    )
    frame.attrs["provenance"] = dict(scene.trace.meta)
    return frame
