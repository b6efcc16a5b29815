"""Integrated gradients: the gradient along the way from a baseline, of all tokens in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.saliency.explained import Explained, Leaves, Maps
from headwise.saliency.gradients import gradients, require_slope

POINTS = 8
"""Points of a stretch of the way, which are run side by side."""
STRETCHES = 512
"""The most stretches that the way is cut into."""
COMPLETE = 1e-3
"""Share of the difference of outputs that the sum of a map may miss."""


def baseline(example: Explained) -> Leaves:
    """What stands for nothing at every position of a tower: the mean of what enters at its real positions (ours).

    Of the tower that writes, positions before the reply alone: no token is to know of those behind it.
    """
    with torch.no_grad():
        _, entered = example.forward()
    found = {}
    for tower, hidden in entered.items():
        read = example.question.positions[0] if tower == example.question.tower else hidden.shape[1]
        valid = example.question.layout.axes[tower].valid[0, :read].to(hidden.device)
        found[tower] = hidden[:, :read][:, valid].mean(1, keepdim=True).expand_as(hidden)
    return found


def integrated_gradients(example: Explained) -> Maps:
    """Integrated gradients of Sundararajan et al. 2017 from the mean of what enters.

    Complete: over all towers and positions a map sums to the output less that of the baseline, to 1e-3 of the
    difference (in half precision as far as 64 points allow). All towers go along the way at once. The way is cut where
    the sums miss most: of every stretch it is known what they have to be (ours; Gauss-Legendre within a stretch).

    Raises:
        InputError: the target has no gradient, or 4,096 points do not make the sums complete.
    """
    require_slope(example)
    start = baseline(example)
    with torch.no_grad():
        (end, entered), (begin, _) = example.forward(), example.forward(lambda tower, _: start[tower])
    way = _Way(example, start, entered)
    least = COMPLETE * (end - begin)[0].double().abs().clamp_min(1e-3)
    if next(iter(entered.values())).dtype in (torch.float16, torch.bfloat16):
        return _sum([way.stretch(place / 8, (place + 1) / 8) for place in range(8)])
    parts, far = [way.stretch(0.0, 1.0)], torch.tensor(torch.inf)
    while len(parts) <= STRETCHES:
        missed = torch.stack([part.missed for part in parts])
        far = (missed.sum(0).abs() / least).max()
        if far <= 1:
            return _sum(parts)
        worst = parts.pop(int((missed.abs() / least).max(1).values.argmax()))
        middle = (worst.start + worst.stop) / 2
        parts += [way.stretch(worst.start, middle), way.stretch(middle, worst.stop)]
    raise InputError(
        "The way from the baseline is too crooked for integrated gradients.",
        evidence=f"with {POINTS * STRETCHES} points the sums miss {float(far) * COMPLETE:.2%} of the difference",
        remedy='Use method="gradient x input" or "ablation", or load the model in float32.',
    )


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A part of the way: its maps, and what their sums miss, (token,)."""

    start: float
    stop: float
    maps: Maps
    missed: Tensor


@dataclass(frozen=True, eq=False)
class _Way:
    """The straight way from the baseline to what enters."""

    example: Explained
    start: Leaves
    end: Leaves

    def stretch(self, start: float, stop: float) -> _Stretch:
        nodes, weights = np.polynomial.legendre.leggauss(POINTS)
        inner = start + (stop - start) * (nodes + 1) / 2
        alphas = torch.tensor([*inner, start, stop])
        shares = torch.tensor([*(weights * (stop - start) / 2), 0.0, 0.0], dtype=torch.float64)
        tokens = len(self.example.question.reply)
        rows: dict[str, list[Tensor]] = {}
        with torch.enable_grad():
            values, leaves = self.example.forward(lambda tower, _: self._at(tower, alphas), len(alphas))
            for token in range(tokens):
                found = gradients(values[:, token].sum(), leaves, last=token == tokens - 1)
                for tower, gradient in found.items():
                    mean = torch.einsum("c,cpw->pw", shares.to(gradient.device), gradient.double())
                    rows.setdefault(tower, []).append((mean * self._step(tower)[0].double()).sum(-1))
        maps = {tower: torch.stack(parts) for tower, parts in rows.items()}
        ends = values.detach().double()
        sums = torch.stack([one.sum(1) for one in maps.values()]).sum(0)
        return _Stretch(start, stop, maps, (sums - (ends[-1] - ends[-2])).cpu())

    def _step(self, tower: str) -> Tensor:
        return self.end[tower] - self.start[tower]

    def _at(self, tower: str, alphas: Tensor) -> Tensor:
        return self.start[tower] + alphas.to(self.start[tower])[:, None, None] * self._step(tower)


def _sum(parts: list[_Stretch]) -> Maps:
    return {tower: torch.stack([part.maps[tower] for part in parts]).sum(0) for tower in parts[0].maps}
