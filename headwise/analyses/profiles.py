"""Languages, tasks or examples that use their heads alike: clusters of the profiles that an analysis gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from headwise.analyses._heads import HEAD
from headwise.errors import InputError
from headwise.functional.clustering import adjusted_rand, silhouettes
from headwise.results.result import Result

if TYPE_CHECKING:
    import pandas as pd


def profile_clusters(
    results: Result | Mapping[str, Result],
    labels: Sequence[str] | None = None,
    *,
    clusters: int | None = None,
    trials: int = 10_000,
    seed: int = 0,
) -> Result:
    """Clusters of languages, tasks or examples by what an analysis finds in every head, beside labels.

    An item's profile is its value in each head, mean over its examples: L x H numbers. Distances are Euclidean, and
    linkage is average (ours, for the question of arXiv 2605.01229: do languages of a family use attention alike).

    Args:
        results: of one analysis of heads, such as `entropy`: one for each item by its name, or one alone, whose
            examples are the items.
        labels: the family of each item, in order.
        clusters: how many to cut the tree into; as many as there are labels, or 2.
        trials: shuffles of the labels, for what chance would give.
        seed: of the shuffles.

    Returns:
        A `Result` of kind matrix: one row for every two items, in the order of the tree: `distance`, `cluster` and
        `label` of the item. The sentence says the adjusted Rand index of clusters and labels and the silhouette of the
        labels, each with p, the share of shuffles that do as well.

    Raises:
        InputError: there are fewer than three items, results of different analyses or heads, labels of another number
            or alike throughout, or no such number of clusters or trials.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame([(e, "text", "self", 0, 0, h, v) for e, row in enumerate([(0, 1), (0.1, 1), (1, 0)])
        ...     for h, v in enumerate(row)], columns=[*HEAD, "peak"])
        >>> peaks = Result(name="peak", kind="heads", keys=HEAD, value="peak", unit="share", frame=frame,
        ...     description="", summary="", provenance={})
        >>> profile_clusters(peaks, ["a", "a", "b"], trials=99).summary.split(";")[0]
        '3 items in 2 clusters: 2 | 0, 1'
    """
    from pandas import DataFrame
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import pdist, squareform

    name, table = _profiles(results)
    items = [str(item) for item in table.index]
    count = clusters if clusters is not None else max(2, len(set(labels or ())))
    _check(items, labels, count, trials)
    pairs = pdist(table.to_numpy(float))
    tree = linkage(pairs, "average")
    groups = fcluster(tree, count, "maxclust") - 1
    distances = squareform(pairs)
    order = leaves_list(tree)
    named = list(labels) if labels is not None else [None] * len(items)
    frame = DataFrame(
        {
            "item": items[i],
            "other": items[j],
            "distance": distances[i, j],
            "cluster": int(groups[i]),
            "label": named[i],
        }
        for i in order
        for j in order
    )
    parts = [
        ", ".join(items[i] for i in order if groups[i] == group) for group in dict.fromkeys(groups[order])
    ]
    summary = f"{len(items)} items in {len(parts)} clusters: {' | '.join(parts)}"
    if labels is not None:
        summary += f"; {_agreement(groups, list(labels), distances, trials, seed)}"
    return Result(
        name="profile_clusters",
        kind="matrix",
        keys=("item", "other"),
        axes=("item", "other"),
        value="distance",
        unit="distance",
        frame=frame,
        description=f"Euclidean distance between two items' {name} in all heads; 0 is the same.",
        summary=f"{summary}.",
        provenance={
            "analysis": "profile_clusters",
            "of": name,
            "trials": trials,
            "seed": seed,
            "clusters": count,
        },
    )


def _profiles(results: Result | Mapping[str, Result]) -> tuple[str, pd.DataFrame]:
    """Name of the value, and a row of numbers for every item, a column for every head."""
    from pandas import concat

    several = results if isinstance(results, Mapping) else {"": results}
    found = list(several.values())
    wrong = [
        one
        for one in found
        if not isinstance(one, Result) or one.kind != "heads" or set(one.keys) != set(HEAD)
    ]
    if not found or wrong:
        raise InputError(
            "Profiles are made of results with one number per head.",
            evidence=f"got {wrong[0]!r}" if wrong else "there is none",
            remedy='For example {"de": hw.analyses.entropy(trace), "fr": hw.analyses.entropy(other), …}.',
        )
    first = found[0]
    if any((one.name, one.value) != (first.name, first.value) for one in found):
        raise InputError(
            "Profiles are of one analysis.", evidence=", ".join(dict.fromkeys(one.name for one in found))
        )
    if isinstance(results, Mapping):
        frames = [one.frame.assign(item=item) for item, one in several.items()]
    else:
        frames = [first.frame.assign(item=first.frame["id" if "id" in first.frame else "example"])]
    frame = concat(frames, ignore_index=True)
    table = frame.pivot_table(index="item", columns=list(HEAD[1:]), values=first.value, sort=False)
    if table.isna().any(axis=None):
        raise InputError(
            "Some items have no number for some heads.",
            evidence=", ".join(map(str, table.index[table.isna().any(axis=1)][:5])),
            remedy="Give results of the same towers and layers.",
        )
    return first.value, table


def _check(items: Sequence[str], labels: Sequence[str] | None, clusters: int, trials: int) -> None:
    if len(items) < 3:
        raise InputError("Clusters take three items or more.", evidence=f"got {len(items)}")
    if labels is not None and (len(labels) != len(items) or len(set(labels)) < 2):
        raise InputError(
            "Every item has a label, and they are not all the same.",
            evidence=f"{len(items)} items, {len(labels)} labels, {len(set(labels))} different",
        )
    if not 2 <= clusters <= len(items) or trials < 1:
        raise InputError(
            "There are 2 clusters or more, at most one per item, and one shuffle or more.",
            evidence=f"clusters={clusters}, trials={trials}, {len(items)} items",
        )


def _agreement(groups: np.ndarray, labels: list[str], distances: np.ndarray, trials: int, seed: int) -> str:
    """Both scores of the labels, beside what shuffled ones get."""
    known = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    given = torch.tensor([known[label] for label in labels])
    found, apart = torch.from_numpy(groups).long(), torch.from_numpy(distances)
    generator = torch.Generator().manual_seed(seed)
    shuffled = [given[torch.randperm(len(given), generator=generator)] for _ in range(trials)]
    said = []
    for name, score in (
        ("adjusted Rand index with the labels", lambda one: adjusted_rand(found, one)),
        ("silhouette of the labels", lambda one: float(silhouettes(apart, one).mean())),
    ):
        value, chance = score(given), [score(one) for one in shuffled]
        p = (sum(other >= value - 1e-12 for other in chance) + 1) / (trials + 1)
        mean = math.fsum(chance) / trials
        said.append(f"{name} {value:.2f}, p = {p:.2g} ({mean:.2f} by chance)")
    return ", ".join(said)
