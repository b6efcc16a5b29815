"""Saliency overlap: how much of what a token rests on do heads, layers and their mean show?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from headwise.analyses._saliency.examples import Asked, explained_examples, provenance
from headwise.analyses._saliency.intervals import interval, mean
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.functional.explained import Target
from headwise.functional.overlap import DISTANCES, MEASURES
from headwise.layout import ROLES
from headwise.saliency.explained import At, Explained
from headwise.saliency.heads import HeadMaps, head_maps, on, randomised
from headwise.saliency.methods import find_method, saliency_maps
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

Measure = Literal[
    "pearson", "spearman", "jensen_shannon", "intersection", "iou", "auc", "earth_mover", "on_salient"
]
Keys = Literal["all", "content"]
CONTENT = ("content", "generated", "image", "audio")
SHUFFLES = 5
"""Orders of the positions over which the baseline is averaged."""


def _summary(frame: pd.DataFrame, method: str, measure: str) -> str:
    row = frame.set_index("view")

    def said(view: str) -> str:
        one = row.loc[view]
        return f"{one['overlap']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"

    best = ""
    if "best head" in row.index:
        chosen = row.loc["best head", "chosen"]
        best = f", the best head of the other half of the examples {said('best head')} ({chosen})"
    chance = row.loc["mean", "shuffled"]
    return (
        f"Mean attention agrees with {method} by {measure.replace('_', ' ')} {said('mean')}{best}; shuffled maps "
        f"{chance:.2f}, weights in random order {row.loc['mean', 'randomised']:.2f}."
    )


@analysis(
    kind="rows",
    keys=("view",),
    value="overlap",
    unit="score",
    inputs="subject",
    needs=(),
    description="Agreement ({measure}) of attention with saliency ({method}), over the positions that a token can rest "
    "on; mean over tokens of a reply, then over examples, with a bootstrap interval (95 %) over examples.",
    summary=_summary,
    title="Saliency overlap",
)
def saliency_overlap(
    subject: Any,
    data: Any,
    method: str = "gradient x input",
    measure: Measure = "pearson",
    target: Target = "log_probability",
    at: At = "input",
    positions: Keys = "all",
    sign: Literal["absolute", "positive"] = "absolute",
    generate: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """How much of what a token rests on do heads show? The question of Papi et al. 2025 (arXiv 2509.18010).

    Attention is of the rows that predict the reply: through cross-attention to the source, or of a decoder's own
    positions.

    Args:
        subject: the model with its processor.
        data: examples, as for `saliency`.
        method: of the reference, any of `headwise.saliency.methods.METHODS`.
        measure: `"pearson"` (the paper's), `"spearman"`, `"auc"` and `"on_salient"` (of the tenth of the positions with
            the largest saliency), `"iou"`, `"intersection"`, `"jensen_shannon"`, `"earth_mover"`.
        target: of the reference.
        at: `"input"` or `"encoder_output"`.
        positions: `"all"`, or `"content"` alone: no tags, ends, punctuation and silence, which draw attention whatever
            is said.
        sign: of a signed reference, its size, or what speaks for the token alone.
        generate: the most tokens of a reply that is not given.
        seed: of the shuffled maps, of the random weights and of the bootstrap.

    Returns:
        One row per view: every head, every layer (its heads averaged), `mean`, and with two examples or more
        `best head` and `best layer`, each chosen on the other half of the examples. `overlap` with `low` and `high`,
        `shuffled` (positions of the reference in random order), `randomised` (both maps of the same model with
        every weight matrix in random order), the `tokens` that have a number, `dropped` ones where a map is constant,
        and `examples`.

    Raises:
        InputError: as `saliency`, or no token can rest on two positions of this kind.
    """
    from pandas import DataFrame

    find_method(method)
    settings = _Settings(method, measure, positions, sign, seed)
    examples = explained_examples(subject, data, Asked(target, at, generate), "saliency_overlap")
    asked = [example for _, example in examples]
    found = [settings.overlaps(example) for example in asked]
    random = randomised(asked[0].question.subject, seed)
    other = [settings.overlaps(on(random, example)) for example in asked]
    table = _Table(found, other, seed)
    views = found[0].views
    rows = [
        {"view": view, "layer": layer, "head": head, **table.row([index] * len(found))}
        for index, (view, layer, head) in enumerate(views)
    ]
    for what in ("head", "layer") if len(found) > 1 else ():
        chosen = table.best(what, least=measure in DISTANCES)
        names = " or ".join(dict.fromkeys(views[index][0] for index in chosen[:2]))
        rows.append({"view": f"best {what}", "chosen": names, **table.row(chosen)})
    frame = DataFrame(rows).astype({"layer": "Int64", "head": "Int64"}).assign(examples=len(found))
    frame.attrs["provenance"] = provenance(asked[-1], len(asked))
    return frame


@dataclass(frozen=True, eq=False)
class _Overlaps:
    """Overlaps of an example, of every view: mean over tokens."""

    views: list[tuple[str, int | None, int | None]]
    overlaps: np.ndarray
    shuffled: np.ndarray
    tokens: np.ndarray
    dropped: np.ndarray


@dataclass(frozen=True)
class _Settings:
    method: str
    measure: Measure
    positions: Keys
    sign: str
    seed: int

    def overlaps(self, example: Explained) -> _Overlaps:
        """Overlaps of every view with the reference, and with the reference in random order."""
        heads = head_maps(example)
        reference = saliency_maps(example, self.method).get(heads.source)
        if reference is None:
            raise InputError(
                f"{self.method} gives no saliency of the {heads.source}, which attention reads.",
                remedy="Use another method.",
            )
        reference = reference.abs() if self.sign == "absolute" else reference.clamp_min(0)
        views, maps = _views(heads)
        known = ~reference.isnan() & self._wanted(example, heads.source)
        generator = torch.Generator().manual_seed(self.seed)
        values, shuffled = [], []
        for token, places in enumerate(known):
            at = places.nonzero()[:, 0]
            if len(at) < 2:
                continue
            rows, own = maps[:, token, at], reference[token, at].expand(len(maps), -1)
            values.append(MEASURES[self.measure](rows, own))
            orders = [torch.randperm(len(at), generator=generator) for _ in range(SHUFFLES)]
            shuffled.append(
                torch.stack([MEASURES[self.measure](rows, own[:, order]) for order in orders]).nanmean(0)
            )
        if not values:
            raise InputError(
                "No token of the reply can rest on two positions of this kind.",
                evidence=f"positions={self.positions!r}",
                remedy='Use positions="all", or another example.',
            )
        found = torch.stack(values).double()
        missing = found.isnan()
        return _Overlaps(
            views,
            found.nanmean(0).numpy(),
            torch.stack(shuffled).double().nanmean(0).numpy(),
            (~missing).sum(0).numpy(),
            missing.sum(0).numpy(),
        )

    def _wanted(self, example: Explained, tower: str) -> Tensor:
        roles = example.question.layout.axes[tower].roles[0]
        if self.positions == "all":
            return torch.ones(len(roles), dtype=torch.bool)
        return torch.isin(roles.long(), torch.tensor([ROLES.index(role) for role in CONTENT]))


def _views(heads: HeadMaps) -> tuple[list[tuple[str, int | None, int | None]], Tensor]:
    """Every head, every layer and the mean, with their maps, (view, token, position)."""
    names: list[tuple[str, int | None, int | None]] = []
    maps: list[Tensor] = []
    layers: dict[int, list[Tensor]] = {}
    for site, own in heads.by_site.items():
        call = f" call {site.call}" if site.call else ""
        names += [(head_name(site.layer, head) + call, site.layer, head) for head in range(len(own))]
        maps += list(own)
        layers.setdefault(site.layer, []).append(own.mean(0))
    names += [(f"layer {layer}", layer, None) for layer in layers]
    maps += [torch.stack(parts).mean(0) for parts in layers.values()]
    return [*names, ("mean", None, None)], torch.stack([*maps, heads.mean])


@dataclass(frozen=True)
class _Table:
    """Overlaps of all examples, of the model and of the one with random weights."""

    found: list[_Overlaps]
    random: list[_Overlaps]
    seed: int

    def row(self, views: list[int]) -> dict[str, Any]:
        """The numbers of a view of every example."""
        values = [one.overlaps[view] for one, view in zip(self.found, views, strict=True)]
        low, high = interval(values, self.seed)
        return {
            "overlap": mean(values),
            "low": low,
            "high": high,
            "shuffled": mean([one.shuffled[view] for one, view in zip(self.found, views, strict=True)]),
            "randomised": mean([one.overlaps[view] for one, view in zip(self.random, views, strict=True)]),
            "tokens": int(sum(one.tokens[view] for one, view in zip(self.found, views, strict=True))),
            "dropped": int(sum(one.dropped[view] for one, view in zip(self.found, views, strict=True))),
        }

    def best(self, what: str, *, least: bool) -> list[int]:
        """For every example, the head or layer that is best on the other half of the examples."""
        views = self.found[0].views
        heads = what == "head"
        named = [at for at, (_, layer, _) in enumerate(views) if layer is not None]
        meant = [at for at in named if (views[at][2] is not None) == heads]
        chosen = []
        for half in (0, 1):
            others = [one for number, one in enumerate(self.found) if number % 2 != half]
            means = np.array([mean([one.overlaps[at] for one in others]) for at in meant])
            worst = np.inf if least else -np.inf
            means = np.where(np.isnan(means), worst, means)
            chosen.append(meant[int(means.argmin() if least else means.argmax())])
        return [chosen[number % 2] for number in range(len(self.found))]
