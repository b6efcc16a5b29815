"""Pairs of prompts: what is refused, and how they are put side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from headwise.circuits.pairs import PairSet, batches
from headwise.errors import InputError


def ids(*numbers: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([numbers])}


def pair_set(**parts) -> PairSet:
    given: dict[str, Any] = {
        "clean": (ids(1, 2), ids(3, 4, 5)),
        "corrupted": (ids(1, 6), ids(3, 4, 6)),
        "correct": (7, 8),
        "wrong": (8, 7),
    } | parts
    for name in ("correct", "wrong"):
        given[name] = torch.tensor(given[name], dtype=torch.long)
    return PairSet("task", **given)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"clean": (), "corrupted": (), "correct": (), "wrong": ()}, "one or more"),
        ({"correct": (7,)}, "1 of correct"),
        ({"corrupted": (ids(1, 6, 2), ids(3, 4, 6))}, "not equally long"),
        ({"wrong": (8, 8)}, "pair 1"),
    ],
)
def test_what_is_no_pair_is_refused(parts, told) -> None:
    with pytest.raises(InputError, match=told):
        pair_set(**parts)


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size=0"):
        next(batches(pair_set(), 0))


def test_prompts_of_one_length_share_a_batch() -> None:
    pairs = pair_set(
        clean=(ids(1, 2), ids(3, 4, 5), ids(6, 7)),
        corrupted=(ids(1, 6), ids(3, 4, 6), ids(6, 8)),
        correct=(7, 8, 9),
        wrong=(8, 7, 7),
    )
    found = list(batches(pairs, 4))
    assert [one.numbers for one in found] == [(0, 2), (1,)]
    assert found[0].corrupted["input_ids"].tolist() == [[1, 6], [6, 8]]
    assert found[0].correct.tolist() == [7, 9]
    assert [one.numbers for one in batches(pairs, 1)] == [(0,), (2,), (1,)]


def test_some_of_the_pairs() -> None:
    part = pair_set()[1:]
    assert len(part) == 1
    assert part.correct.tolist() == [8]
