"""Heads that look at the same keys, layer by layer and across layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._heads import HEAD, by_tower
from headwise.analyses.record import analysis
from headwise.errors import CaptureError, InputError
from headwise.functional.clustering import pattern_distances, silhouettes
from headwise.probes.trace.frames import site_columns
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace


def _sentence(frame: pd.DataFrame) -> str:
    sizes = frame["cluster"].value_counts()
    largest = ", ".join(f"{size} like {name}" for name, size in sizes.items() if size > 1)
    alone = int((sizes == 1).sum())
    return (
        f"{len(frame)} heads in {len(sizes)} clusters (silhouette {frame['silhouette'].mean():.2f}): "
        + ", ".join(filter(None, [largest, f"{alone} alone" if alone else ""]))
    )


@analysis(
    kind="classes",
    keys=HEAD[1:],
    value="cluster",
    unit="cluster",
    description="Heads of one word look at the same keys; the word is the head in the middle of them. `distance` "
    "to it is the Jensen-Shannon divergence of their rows, mean over rows and examples, 0 to 0.69 nats.",
    summary=lambda frame: by_tower(frame, _sentence),
    needs=("maps",),
    title="Clusters of heads",
)
def pattern_clusters(trace: Trace, clusters: int = 8, rows: int = 64) -> pd.DataFrame:
    """Clusters of the heads of each tower by what they look at, over all layers: complete linkage of their distances.

    Args:
        trace: a capture with patterns.
        clusters: at most so many.
        rows: at most so many rows of an example are compared, evenly spread.

    Returns:
        One row per head: `cluster`, named by the head in its middle (of the least mean distance to the others);
        `distance` to that head in nats; and `silhouette`, -1 to 1: whether it is nearer to its own cluster than to the
        next.

    Raises:
        CaptureError: the trace holds no patterns, layers of a tower whose patterns have other sizes, or one head alone.
        InputError: fewer clusters than 2, or no rows.
    """
    from pandas import DataFrame, concat

    if rows < 1 or clusters < 2:
        raise InputError(
            "There are two clusters or more, of one row or more.",
            evidence=f"clusters={clusters}, rows={rows}",
        )
    groups: dict[tuple[str, str], list[Site]] = {}
    for site in trace.maps:
        groups.setdefault((site.tower, site.kind), []).append(site)
    parts = []
    for (tower, kind), sites in groups.items():
        heads = [site_columns(site) | {"head": head} for site in sites for head in trace.head_numbers(site)]
        if len({tuple(trace.maps[site].shape[2:]) for site in sites}) > 1 or len(heads) < 2:
            raise CaptureError(
                f"The patterns of {tower} {kind} attention cannot be compared.",
                evidence="one head" if len(heads) < 2 else "layers have patterns of other sizes",
                remedy="Capture several layers with patterns of one size, as with sites=.",
            )
        far = _distances(trace, sites, rows)
        found = _groups(far, clusters)
        names = [head_name(_layer(one), one["head"]) for one in heads]
        middles = _middles(far, found)
        parts.append(
            DataFrame(heads).assign(
                cluster=[names[middle] for middle in middles.tolist()],
                distance=far.gather(1, middles[:, None])[:, 0].numpy(),
                silhouette=silhouettes(far, found).numpy(),
            )
        )
    return concat(parts, ignore_index=True)


def _layer(head: dict) -> str:
    return f"{head['layer']}.{head['call']}" if head["call"] else str(head["layer"])


def _distances(trace: Trace, sites: list[Site], rows: int) -> Float[Tensor, "head head"]:
    """Mean over examples, each by its rows that are no padding."""
    found = []
    for example in range(trace.maps[sites[0]].shape[0]):
        own = torch.cat([trace.maps[site][example].detach().cpu() for site in sites])
        real = (~own.isnan().any(-1).any(0)).nonzero().flatten()
        if len(real):
            chosen = real[torch.linspace(0, len(real) - 1, min(rows, len(real))).round().long()]
            found.append(pattern_distances(own[:, chosen]))
    return torch.stack(found).double().mean(0)


def _groups(far: Float[Tensor, "head head"], clusters: int) -> Tensor:
    """The number of every head's cluster."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(far.numpy(), checks=False), "complete")
    return torch.from_numpy(fcluster(tree, clusters, "maxclust") - 1).long()


def _middles(far: Float[Tensor, "head head"], groups: Tensor) -> Tensor:
    """For every head the one in the middle of its cluster."""
    same = groups[:, None] == groups
    return far.where(same, 0.0).sum(1).where(same, torch.inf).argmin(1)
