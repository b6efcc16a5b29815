"""How heads share out their attention over the rings of patches around each patch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._heads import HEAD, by_tower, extremes, heads_frame
from headwise.analyses.record import analysis
from headwise.analyses.sentences import kinds_of, percent
from headwise.errors import CaptureError, InputError
from headwise.functional.entropy import LEAST
from headwise.functional.neighbourhood import hops as hops_between
from headwise.functional.neighbourhood import ring_mass

if TYPE_CHECKING:
    import pandas as pd

    from headwise.layout import ImageSpan
    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace


class Rings(NamedTuple):
    """Attention of rows over the rings around each; NaN beyond the farthest ring of a grid."""

    share: Float[Tensor, "head row ring"]
    flat: Float[Tensor, "head row ring"]
    relative: Float[Tensor, "head row ring"]
    inside: Float[Tensor, "head row"]


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    near = frame[frame["hop"] <= 1].groupby(["example", "layer", "head"])[["share", "flat"]].sum()
    _, (head, most) = extremes(near.reset_index(), "share")
    return (
        f"heads give the patch itself and its neighbours {percent(near['share'].mean())} of what they give the picture "
        f"(a flat head {percent(near['flat'].mean())}), most "
        f"{head}: {percent(most)}"
    )


@analysis(
    kind="heads",
    keys=(*HEAD, "hop"),
    value="share",
    unit="share",
    description="Share of a patch's attention to its picture that falls on the ring of patches so many hops away, mean "
    "over patches; hop 0 is the patch itself. `flat` is what a flat head gives the same ring.",
    summary=_summary,
    needs=("maps",),
    sees=True,
    title="Neighbourhood of patches",
)
def neighbourhood(trace: Trace, hops: int = 3) -> pd.DataFrame:
    """Attention of patches by hops on the grid of their picture (rings of Chebyshev distance), beside a flat head.

    The k-hop strength that "How Does Attention Work in Vision Transformers?" (arXiv 2303.13731) is about; only its
    abstract was at hand, and the definitions are ours. Rows are scaled up to one over the patches of their own picture.

    Args:
        trace: a capture with patterns, of a vision tower or of a decoder that reads image tokens on a grid.
        hops: the farthest ring in the table.

    Returns:
        One row per example, head of self-attention and `hop`: `share`, 0 to 1; `flat`, what a head gives the ring that
        spreads over all patches a row sees; `relative`, attention per neighbour times the patches seen, mean over rows
        that have such neighbours, 1 for a flat head; `inside`, the share of whole rows that falls on the picture.

    Raises:
        InputError: `hops` is below 0.
        CaptureError: the trace holds no patterns, or no picture of which the grid is known.
    """
    from pandas import concat

    if hops < 0:
        raise InputError(f"hops is 0 or more, got {hops}.")
    parts = []
    for site in trace.maps:
        if site.kind == "self":
            of_site = list(_of_site(trace, site, hops))
            parts += [concat(of_site).sort_values(["example", "head", "hop"])] if of_site else []
    if not parts:
        raise CaptureError(
            "No rows of this trace read the patches of a picture whose grid is known.",
            evidence=kinds_of(trace.sites),
            remedy="Capture a model with a picture: hw.capture(subject, maps=True), with its processor.",
        )
    return concat(parts, ignore_index=True)


def _of_site(trace: Trace, site: Site, hops: int) -> Iterator[pd.DataFrame]:
    maps, axis = trace.maps[site], trace.layout.axes.get(site.tower)
    if axis is None or len(maps) % len(axis.roles):
        return
    spans = [span for span in axis.repeat(len(maps) // len(axis.roles)).images if span.grid is not None]
    means: dict[str, Tensor] = {
        name: torch.full((*maps.shape[:2], hops + 1), torch.nan) for name in Rings._fields
    }
    for example in {span.example for span in spans}:
        pattern = maps[example].detach().float().cpu()
        rows = trace.positions[site].cpu().long()
        found = [_rings(pattern, rows, span, hops) for span in spans if span.example == example]
        for name in ("share", "flat", "relative"):
            means[name][example] = torch.cat([getattr(one, name) for one in found], 1).nanmean(1)
        inside = torch.cat([one.inside for one in found], 1).nanmean(1)
        means["inside"][example] = inside[:, None].expand(-1, hops + 1)
    for hop in range(hops + 1):
        columns = {name: values[..., hop] for name, values in means.items()}
        part = heads_frame(site, trace.records[site], "maps", columns)
        if len(part):
            yield part.assign(hop=hop)


def _rings(pattern: Tensor, positions: Tensor, span: ImageSpan, hops: int) -> Rings:
    """The rings around the patches of one picture, for the rows that read them."""
    assert span.grid is not None
    order = torch.arange(span.length) if span.places is None else torch.tensor(span.places)
    places = torch.stack([order // span.grid[1], order % span.grid[1]], 1)
    index = positions - span.start
    reads = (index >= 0) & (index < span.length) & ~pattern.isnan().any(-1).any(0)
    block = pattern[:, reads, span.start : span.start + span.length]
    seen = (block > 0).any(0, keepdim=True).float()
    apart = hops_between(places[index[reads]], places)
    total = block.sum(-1, keepdim=True)
    mass = ring_mass(block / total.where(total > LEAST, torch.nan), apart)
    size, number = ring_mass(seen, apart), seen.sum(-1, keepdim=True)
    flat = (size / number).expand_as(mass).where(~mass.isnan(), torch.nan)
    relative = (mass / size.where(size > 0, torch.nan)) * number
    wide = [
        torch.nn.functional.pad(one, (0, max(0, hops + 1 - one.shape[-1])), value=torch.nan)[..., : hops + 1]
        for one in (mass, flat, relative)
    ]
    return Rings(*wide, inside=total[..., 0])
