"""What the model loses with a head: by replacing its output, and by the gradient of a gate on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from headwise.analyses._kinds.ablation import Gates, Head, Place, Question, applied, losses, questions
from headwise.analyses._kinds.given import as_examples, as_subject
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model
from headwise.probes.trace.frames import site_columns
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject

Estimator = Literal["zero", "mean", "resample", "gradient", "gradient per position"]
CHEAP: tuple[Estimator, ...] = ("gradient", "gradient per position")
"""Estimators of one forward and backward per example; the others run the model for every head."""
DEFAULT: tuple[Estimator, ...] = ("zero", "mean", *CHEAP)


def _summary(frame: pd.DataFrame) -> str:
    wide = frame.pivot_table(
        index=["layer", "call", "head"], columns="estimator", values="importance", sort=False
    )
    best = frame.loc[frame.groupby("estimator", sort=False)["importance"].idxmax()].to_dict("records")
    tops = ", ".join(
        f"{head_name(row['layer'], row['head'])} by {row['estimator']} ({row['importance']:.3g})"
        for row in best
    )
    ranks = wide.corr(method="spearman").to_numpy()
    pairs = sorted(
        (ranks[i, j], wide.columns[i], wide.columns[j]) for i, j in combinations(range(len(ranks)), 2)
    )
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
    description="What a head is worth to the prediction of the next token: the loss with its output replaced less the "
    "loss as it is, or the size of the gradient of a gate on it, mean over examples.",
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
    """What every head of the language tower is worth to the prediction of the next token.

    Args:
        subject: a decoder, or an encoder-decoder whose examples have targets.
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
        InputError: there are no examples, one has nothing to predict, the model predicts no next token or has no such
            attention; resampling from one example alone.
    """
    from pandas import DataFrame, concat

    subject = as_subject(subject, "head_importance")
    scene = Scene(subject, as_examples(data, "head_importance"), kind, batch_size, "head_importance")
    found = {name: scene.importance(name) for name in estimators}
    frame = concat(
        [
            DataFrame(
                site_columns(site) | {"head": head, "estimator": name, "importance": [float(values[row])]}
            )
            for name, values in found.items()
            for row, (site, head) in enumerate(scene.heads)
        ],
        ignore_index=True,
    )
    norm = frame.groupby(["estimator", "layer", "call"])["importance"].transform(
        lambda part: np.linalg.norm(part)
    )
    frame["normalised"] = frame["importance"] / (norm + 1e-20)
    frame.attrs["provenance"] = dict(scene.trace.meta)
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
    description="Loss of the next token with a share of the heads set to 0: the least important first ({estimator}), "
    "or by lot.",
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
        subject: a decoder, or an encoder-decoder whose examples have targets.
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


class Scene:
    """A model with the examples that importance is measured on, read once."""

    def __init__(
        self, subject: Subject, examples: Sequence[Mapping[str, Any]], kind: str, size: int, name: str
    ) -> None:
        """`size` sets of heads run side by side.

        Raises:
            InputError: that is none, an example has no loss, or there is no such attention.
        """
        if size < 1:
            raise InputError("One head or more is replaced at a time.", evidence=f"batch_size={size}")
        self.size = size
        self.subject = subject
        self.asked: list[Question] = questions(subject, examples, name)
        with capture(subject, stats=False, heads=True) as trace:
            for question in self.asked:
                run_model(subject, question.inputs)
        self.trace: Trace = trace
        tower = "decoder" if subject.config.is_encoder_decoder else "text"
        self.sites: list[Site] = [site for site in trace.heads if (site.tower, site.kind) == (tower, kind)]
        if not self.sites:
            raise InputError(
                f"{name} found no heads of {kind}-attention in the {tower} tower whose output could be replaced.",
                evidence=", ".join(sorted({f"{site.tower} {site.kind}" for site in trace.sites})),
                remedy='Use kind="self".' if kind == "cross" else "",
            )
        self.heads = [(site, head) for site in self.sites for head in range(trace.heads[site].shape[2])]
        self.tower, self.kind = tower, kind

    def place(self, index: int) -> Head:
        """A head, as the fixes name it."""
        site, head = self.heads[index]
        return site.layer, site.call, head

    def importance(self, estimator: Estimator) -> np.ndarray:
        """(head,) nats per token."""
        if estimator in CHEAP:
            return self._by_gradient(per_position=estimator != "gradient")
        if estimator == "resample" and len(self.asked) < 2:
            raise InputError(
                "Resampling takes a head's output from another example.", remedy="Give two examples or more."
            )
        alone = [[self.place(index)] for index in range(len(self.heads))]
        changes = []
        for number, question in enumerate(self.asked):
            values = self._values(estimator, number)
            replaced = losses(
                self.subject, question, alone, self.size, values=values, tower=self.tower, kind=self.kind
            )
            plain = losses(self.subject, question, [[]], self.size, tower=self.tower, kind=self.kind)
            changes.append((replaced - plain).double().numpy())
        return np.mean(changes, axis=0)

    def mean_loss(self, sets: Sequence[Sequence[Head]]) -> np.ndarray:
        """(set,) loss with each set of heads at 0, mean over examples."""
        found = [
            losses(self.subject, one, sets, self.size, tower=self.tower, kind=self.kind) for one in self.asked
        ]
        return torch.stack(found).double().mean(0).numpy()

    def _values(self, estimator: str, number: int) -> dict[Place, Tensor]:
        if estimator == "zero":
            return {}
        found = {}
        for site in self.sites:
            z = self.trace.heads[site]
            other = z if estimator == "mean" else z[[(number + 1) % len(z)]]
            rows = other.flatten(0, 1)
            rows = rows[~rows.isnan().flatten(1).any(1)]
            found[site.layer, site.call] = rows.mean(0, keepdim=True) if estimator == "mean" else rows
        return found

    def _by_gradient(self, *, per_position: bool) -> np.ndarray:
        changes = []
        for question in self.asked:
            gates = Gates(tower=self.tower, kind=self.kind)
            with torch.enable_grad(), applied(self.subject, gates):
                loss = question.loss(self.subject).sum()
                flat = [gate for parts in gates.gates.values() for gate in parts]
                slopes = dict(zip(map(id, flat), torch.autograd.grad(loss, flat), strict=True))
            own = []
            for site in self.sites:
                slope = torch.cat([slopes[id(gate)] for gate in gates.gates[site.layer, site.call]]).double()
                own.append(slope.abs().sum(0) if per_position else slope.sum(0).abs())
            changes.append(torch.cat(own).cpu().numpy())
        return np.mean(changes, axis=0)
