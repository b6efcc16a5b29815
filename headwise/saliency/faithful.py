"""Whether the model follows a map: positions taken away, the input disturbed, weights and token exchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.functional.faithfulness import QUANTILES, curve_area, top_positions
from headwise.functional.overlap import spearman
from headwise.layout import ROLES
from headwise.optional import extra
from headwise.saliency.explained import Explained
from headwise.saliency.removal import values_without

Map = Float[Tensor, "token position"]
Method = Callable[[Explained], Map]
"""From an example to its map over the positions of the source."""
FRACTIONS = sorted({0.0, *QUANTILES, *(step / 10 for step in range(11))})
ENDS = ("bos", "first", "eos", "special", "language", "task", "padding")
"""Roles of positions that are never taken away: without them everything changes."""


def removable(example: Explained, tower: str) -> Bool[Tensor, "token position"]:
    """True at positions that a token can rest on, and that may be taken away."""
    roles = example.question.layout.axes[tower].roles[0].long()
    return example.visible(tower) & ~torch.isin(roles, torch.tensor([ROLES.index(role) for role in ENDS]))


def curves(example: Explained, tower: str, saliency: Map) -> dict[str, Float[Tensor, " token"]]:
    """Deletion, insertion, comprehensiveness and sufficiency of every token, of its probability.

    Positions are taken away, or kept, from the largest down; what is taken away is the mean of all positions. Deletion
    and insertion are areas under p / p of the whole input.
    """
    may = removable(example, tower)
    masks = []
    for row, own in zip(saliency, may, strict=True):
        tops = torch.stack([top_positions(row, own, fraction) for fraction in FRACTIONS])
        masks.append(torch.stack([tops, own & ~tops]))
    stacked = torch.stack(masks)  # (token, without or with alone, step, position)
    tokens, ways, steps, positions = stacked.shape
    found = torch.cat(list(values_without(probability(example), {tower: stacked.view(-1, positions)})))
    every = found.view(tokens, ways, steps, tokens).cpu().exp()
    own = every[torch.arange(tokens), :, :, torch.arange(tokens)].double()
    without, alone = own[:, 0], own[:, 1]
    whole = without[:, :1]
    thresholds = [FRACTIONS.index(one) for one in QUANTILES]
    return {
        "deletion": curve_area(FRACTIONS, without / whole),
        "insertion": curve_area(FRACTIONS, alone / whole),
        "comprehensiveness": (whole - without[:, thresholds]).mean(1),
        "sufficiency": (whole - alone[:, thresholds]).mean(1),
    }


def probability(example: Explained) -> Explained:
    """The example, explained by the log-probability of its tokens."""
    return replace(example, target="log_probability")


def infidelity(example: Explained, tower: str, saliency: Map, seed: int) -> Float[Tensor, " token"]:
    """Infidelity of Yeh et al. 2019, by captum: how far sums of a map over random positions (a tenth of them) are from
    what the explained number loses without these, squared; the map is scaled as fits best. 0 is best.
    """
    metrics = extra("captum.metrics", "Infidelity is computed", group="saliency")
    may, found = removable(example, tower), []
    generator = torch.Generator().manual_seed(seed)
    for token, (row, own) in enumerate(zip(saliency, may, strict=True)):

        def value(kept: Tensor, token: int = token) -> Tensor:
            return torch.cat(list(values_without(example, {tower: kept < 0.5})))[:, token].cpu()

        def disturb(kept: Tensor, own: Tensor = own) -> tuple[Tensor, Tensor]:
            taken = ((torch.rand(kept.shape, generator=generator) < 0.1) & own).to(kept)
            return taken, kept - taken

        ones = torch.ones(1, len(row))
        far = metrics.infidelity(
            value, disturb, ones, row.nan_to_num(0)[None], n_perturb_samples=20, normalize=True
        )
        found.append(far[0])
    return torch.stack(found)


def sensitivity(
    example: Explained, method: Method, seed: int, *, radius: float = 0.02, samples: int = 5
) -> Tensor:
    """Largest relative change of a map when what enters is moved by up to `radius` of its spread: max-sensitivity of
    Yeh et al. 2019, per token.
    """
    with torch.no_grad():
        _, entered = example.forward()
    generator = torch.Generator().manual_seed(seed)
    before = method(example).nan_to_num(0)
    worst = torch.zeros(len(before))
    for _ in range(samples):
        moved = {
            tower: (torch.rand(hidden.shape, generator=generator) * 2 - 1).to(hidden) * radius * hidden.std()
            for tower, hidden in entered.items()
        }
        after = method(replace(example, offset=moved)).nan_to_num(0)
        worst = torch.maximum(worst, (after - before).norm(dim=-1) / before.norm(dim=-1))
    return worst


def agreement(one: Map, other: Map) -> Float[Tensor, " token"]:
    """Spearman correlation of the sizes of two maps, over positions that both have."""
    return torch.stack(
        [spearman(a[~a.isnan()].abs(), b[~a.isnan()].abs()) for a, b in zip(one, other, strict=True)]
    )


def least_likely(example: Explained) -> Explained:
    """The example, every row explained by the token that it thinks least likely."""
    with torch.no_grad():
        logits, _ = example.logits()
    return replace(example, tokens=tuple(logits[0].argmin(-1).tolist()))
