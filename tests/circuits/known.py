"""Pairs for the hand-built circuit model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from headwise.circuits.pairs import PairSet
from headwise.testing.circuit import CANDIDATES, FILLERS, ind_prompts, ioi_prompts

S2 = 5


def swap_subject(ids: Tensor, right: int, wrong: int) -> Tensor:
    """The repeated name becomes the other one: the answer flips."""
    return ids.index_fill(0, torch.tensor([S2]), right)


def third_name(ids: Tensor, right: int, wrong: int) -> Tensor:
    """The repeated name becomes a third one: nothing is repeated."""
    return ids.index_fill(0, torch.tensor([S2]), next(n for n in CANDIDATES if n not in (right, wrong)))


def swap_query(ids: Tensor, right: int, wrong: int) -> Tensor:
    """The last token becomes the other filler."""
    return ids.index_fill(0, torch.tensor([7]), FILLERS[2])


def swap_keys(ids: Tensor, right: int, wrong: int) -> Tensor:
    """The two fillers in the context change places."""
    return ids.index_fill(0, torch.tensor([3]), FILLERS[2]).index_fill(0, torch.tensor([S2]), FILLERS[1])


CORRUPTIONS: dict[str, tuple[str, Callable[[Tensor, int, int], Tensor]]] = {
    "swap_subject": ("ioi", swap_subject),
    "third_name": ("ioi", third_name),
    "swap_query": ("ind", swap_query),
    "swap_keys": ("ind", swap_keys),
}


def known_pairs(corruption: str, count: int = 8) -> PairSet:
    """Prompts of the task, evenly spaced, with one of its corruptions."""
    name, corrupt = CORRUPTIONS[corruption]
    prompts = ioi_prompts() if name == "ioi" else ind_prompts()
    prompts = prompts[:: len(prompts) // count][:count]
    ids, right, wrong = zip(*prompts, strict=True)
    return PairSet(
        name,
        [{"input_ids": one[None]} for one in ids],
        [{"input_ids": corrupt(*prompt)[None]} for prompt in prompts],
        torch.tensor(right),
        torch.tensor(wrong),
        corruption=corruption,
    )
