"""Associative recall, in words and as the integers of multi-query associative recall, and copying."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise.zoo.data.prompts import Prompt, Split, check_split, until
from headwise.zoo.data.words import PLAIN

VERSION = 1


def recall_pairs(rng: random.Random, split: Split = "train", *, pairs: int = 4) -> list[tuple[str, str]]:
    """Key and value words, all different; bindings of a value to a key are held out."""
    check_split(split)
    drawn: list[tuple[str, str]] = []

    def draw() -> tuple[str, str]:
        key, value = rng.sample(PLAIN, 2)
        return key, value

    used: set[str] = set()
    while len(drawn) < pairs:
        pair = until(draw, lambda pair: ("recall", *pair), split)
        if used.isdisjoint(pair):
            drawn.append(pair)
            used.update(pair)
    return drawn


def recall_prompt(rng: random.Random, split: Split = "train", *, pairs: int = 4) -> Prompt:
    """Pairs of words, then one of the first words again; the answer is the word that stood behind it.

    The corruption asks for another of the keys.

    Example:
        >>> item = recall_prompt(random.Random(0), pairs=3)
        >>> item.prompt, item.answer
        ('Pairs: beach hotel sheep ring red market? red', ' market')
    """
    bound = recall_pairs(rng, split, pairs=pairs)
    asked, other = rng.sample(range(pairs), 2)
    context = "Pairs:" + "".join(f" {key} {value}" for key, value in bound) + "?"
    return Prompt(
        kind="recall",
        split=split,
        prompt=f"{context} {bound[asked][0]}",
        answer=f" {bound[asked][1]}",
        wrong=f" {bound[other][1]}",
        corrupted=f"{context} {bound[other][0]}",
        corrupted_answer=f" {bound[other][1]}",
        candidates=tuple(f" {value}" for _, value in bound),
        meta={
            "pairs": [list(pair) for pair in bound],
            "asked": asked,
            "asked_in_corrupted": other,
            "positions": {"key": 1 + 2 * asked, "value": 2 + 2 * asked, "query": 1 + 2 * pairs},
        },
    )


def copying_prompt(rng: random.Random, split: Split = "train", *, period: int = 12) -> Prompt:
    """A list of words and the beginning of the same list again; the answer is its next word.

    The corruption ends on another word of the list. Lists are held out by their first two words.
    """
    check_split(split)
    words = until(lambda: rng.sample(PLAIN, period), lambda drawn: ("copying", *drawn[:2]), split)
    at, other = rng.sample(range(1, period - 1), 2)
    head = "List: " + " ".join([*words, *words[:at]])
    return Prompt(
        kind="copying",
        split=split,
        prompt=f"{head} {words[at]}",
        answer=f" {words[at + 1]}",
        wrong=f" {words[other + 1]}",
        corrupted=f"{head} {words[other]}",
        corrupted_answer=f" {words[other + 1]}",
        candidates=tuple(f" {word}" for word in words),
        meta={"period": period, "positions": {"before": 1 + at, "answer": 2 + at, "query": 1 + period + at}},
    )


def repeated_tokens(
    n: int, *, tokens: Sequence[int], period: int, start: int, seed: int, copies: int = 2
) -> NDArray[np.int64]:
    """Rows of one start token and then `copies` times the same random tokens, all different.

    Returns:
        (n, 1 + copies * period) token ids. The copy is determined from column 1 + period + 1 on: its first
        token cannot be known.

    Raises:
        InputError: there are fewer tokens than the period.

    Example:
        >>> repeated_tokens(1, tokens=range(10, 20), period=3, start=1, seed=0).tolist()
        [[1, 15, 19, 16, 15, 19, 16]]
    """
    if not 1 <= period <= len(tokens):
        raise InputError(
            "The period must be from 1 to the number of tokens.", evidence=f"{period} of {len(tokens)}"
        )
    rng = np.random.default_rng(seed)
    known = np.asarray(tokens, dtype=np.int64)
    once = np.stack([rng.choice(known, size=period, replace=False) for _ in range(n)])
    return np.concatenate([np.full((n, 1), start, dtype=np.int64), *[once] * copies], axis=1)


def mqar(
    n: int,
    *,
    vocabulary: int = 8192,
    length: int = 64,
    pairs: int = 4,
    power: float = 0.01,
    passes: int = 1,
    random_filler: bool = False,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multi-query associative recall of Zoology (Arora et al. 2023), drawn as in the published code.

    Pairs of a key and a value stand at the beginning. Every key returns once, at a distance that follows a
    power law, and the model is to name its value there; the value itself is not written.

    Args:
        n: rows.
        vocabulary: keys come from 1 to vocabulary/2 - 1, values from vocabulary/2 to vocabulary - 1.
        length: tokens in a row, even.
        pairs: keys in a row.
        power: exponent a; the chance of slot g = 1, 2, ... goes with g**(a - 1). 1 is uniform.
        passes: how often the pairs are shown.
        random_filler: random tokens between the queries instead of 0.
        seed: of the draws.

    Returns:
        Inputs and labels, (n, length) each; labels are -100 except at the `pairs` queries of a row.

    Raises:
        InputError: the pairs and their queries do not fit, or the vocabulary is not larger than the length.
    """
    if length % 2 or vocabulary <= length or 2 * pairs * (passes + 1) > length or min(n, pairs, passes) < 1:
        raise InputError(
            "The recall problem cannot be laid out.",
            evidence=f"n={n}, vocabulary={vocabulary}, length={length}, pairs={pairs}, passes={passes}",
            remedy="The length must be even, below the vocabulary and at least 2 * pairs * (passes + 1).",
        )
    rng = np.random.default_rng(seed)
    space = (length - 2 * pairs * passes) // 2
    chance = np.arange(1, space + 1) ** (power - 1.0)
    chance /= chance.sum()
    rows = []
    for _ in range(n):
        keys = rng.choice(np.arange(1, vocabulary // 2), size=pairs, replace=False)
        values = rng.choice(np.arange(vocabulary // 2, vocabulary), size=pairs, replace=False)
        slots = rng.choice(space, size=pairs, replace=False, p=chance)
        rows.append(mqar_row(keys, values, slots, length=length, passes=passes))
    inputs, labels = (np.stack(part) for part in zip(*rows, strict=True))
    if random_filler:
        inputs = np.where(inputs == 0, rng.integers(vocabulary, size=inputs.shape), inputs)
    return inputs, labels


def mqar_row(
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
    slots: NDArray[np.int64],
    *,
    length: int,
    passes: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One row of `mqar`: key m is queried `2 * slots[m]` tokens after the pairs.

    Example:
        >>> inputs, labels = mqar_row(np.array([2, 4]), np.array([8, 7]), np.array([4, 1]), length=16)
        >>> inputs.tolist()
        [2, 8, 4, 7, 0, 0, 4, 0, 0, 0, 0, 0, 2, 0, 0, 0]
        >>> labels[6].item(), labels[12].item()
        (7, 8)
    """
    inputs = np.zeros(length, dtype=np.int64)
    labels = np.full(length, -100, dtype=np.int64)
    context = np.tile(np.stack([keys, values], axis=1).reshape(-1), passes)
    inputs[: len(context)] = context
    inputs[len(context) + 2 * slots] = keys
    labels[len(context) + 2 * slots] = values
    return inputs, labels
