"""Correlation of what every head gives with one score, over examples, beside what chance gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.functional.overlap import pearson, spearman

RESAMPLES = 1000
ROUNDING = 1e-6


class Correlations(NamedTuple):
    """Correlations of heads with a score; NaN for heads that are the same in all examples."""

    pearson: Float[Tensor, " head"]
    spearman: Float[Tensor, " head"]
    low: Float[Tensor, " head"]
    """Lower end of the 95 % percentile bootstrap interval of `pearson`, over examples."""
    high: Float[Tensor, " head"]
    shuffled: Float[Tensor, "head trial"]
    """Size of `pearson` with the score shuffled over examples, in each trial alike for all heads."""

    @property
    def p(self) -> Float[Tensor, " head"]:
        """Share of shuffles that correlate with the head as much as the score does, in either direction."""
        return _share(self.shuffled, self.pearson)

    @property
    def p_family(self) -> Float[Tensor, " head"]:
        """Share of shuffles that correlate as much with any of the heads: Westfall and Young (1993), max |r|."""
        return _share(self.shuffled.nan_to_num(0.0).amax(0), self.pearson)

    def above_chance(self) -> tuple[Tensor, Tensor]:
        """Heads whose |r| is above that of 95 % of their shuffles, (head,), and how many are so in each shuffle,
        (trial,).
        """
        bar = torch.stack([row.quantile(0.95) for row in self.shuffled]) + ROUNDING
        return self.pearson.abs() > bar, (self.shuffled > bar[:, None]).sum(0)


def correlations(
    values: Float[Tensor, "head example"],
    score: Float[Tensor, " example"],
    *,
    least: int = 3,
    trials: int = 1000,
    seed: int = 0,
) -> Correlations:
    """Correlation of every row of values with a score, with its interval and that of shuffled scores.

    Args:
        values: NaN where a head has none; these examples do not count for it.
        score: one number per example.
        least: heads with fewer examples than this get NaN.
        trials: shuffles of the score.
        seed: of shuffles and resamples.

    Example:
        >>> score = torch.arange(6.0)
        >>> found = correlations(torch.stack([2 * score, -(score**2), torch.ones(6)]), score)
        >>> [round(float(r), 2) for r in found.pearson], found.spearman.tolist()
        ([1.0, -0.96, nan], [1.0, -1.0, nan])
    """
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(len(score), generator=generator) for _ in range(trials)])
    found: list[tuple[Tensor, ...]] = []
    for row in values:
        known = ~row.isnan()
        x, y = row[known], score[known]
        r = pearson(x, y) if len(x) >= least else torch.tensor(torch.nan)
        if r.isnan():
            found.append((r, r, r, r, r.expand(trials)))
            continue
        drawn = torch.randint(len(x), (RESAMPLES, len(x)), generator=generator)
        ends = pearson(x[drawn], y[drawn]).nanquantile(torch.tensor([0.025, 0.975]))
        shuffled = pearson(x.expand(trials, -1), score[orders][:, known]).abs().nan_to_num(0.0)
        found.append((r, spearman(x, y), *ends, shuffled))
    return Correlations(*(torch.stack(column) for column in zip(*found, strict=True)))


def _share(shuffled: Float[Tensor, "*#head trial"], found: Float[Tensor, " head"]) -> Float[Tensor, " head"]:
    """(hits + 1) / (trials + 1) of each head; NaN where it has no correlation."""
    hits = (shuffled >= found.abs()[:, None] - ROUNDING).sum(-1)
    return ((hits + 1) / (shuffled.shape[-1] + 1)).where(~found.isnan(), torch.nan)
