"""Pairs of prompts that differ in what a task is about: clean and corrupted, with the right answer and a wrong one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from headwise.errors import InputError

Inputs = Mapping[str, Any]
"""Keyword arguments of a model's forward, of one example without padding."""


@dataclass(frozen=True, eq=False)
class PairSet:
    """A task as pairs: the clean prompt has the answer `correct`, the corrupted one takes away what says so.

    The answer is the token behind the last position: of the text, or of the decoder in an encoder-decoder.

    Raises:
        InputError: there is no pair, a list is shorter than another, the two prompts of a pair are not of one shape,
            or the right answer is the wrong one.

    Example:
        >>> clean, corrupted = ({"input_ids": torch.tensor([ids])} for ids in ([4, 7, 4], [5, 7, 4]))
        >>> PairSet("copy", [clean], [corrupted], correct=torch.tensor([7]), wrong=torch.tensor([8]))
        PairSet(copy: 1 pair)
    """

    name: str
    clean: Sequence[Inputs] = field(repr=False)
    corrupted: Sequence[Inputs] = field(repr=False)
    correct: Int[Tensor, " _"]
    """Token ids."""
    wrong: Int[Tensor, " _"]
    positions: Mapping[str, Int[Tensor, " _"]] = field(default_factory=dict)
    """Where in each prompt something of a name stands, such as "S2"."""
    corruption: str = ""
    """What the corrupted prompts differ in, in words."""

    def __post_init__(self) -> None:
        counts = {
            "clean": len(self.clean),
            "corrupted": len(self.corrupted),
            "correct": len(self.correct),
            "wrong": len(self.wrong),
            **{f"positions[{name!r}]": len(places) for name, places in self.positions.items()},
        }
        if not self.clean or len(set(counts.values())) > 1:
            raise InputError(
                "A task is a list of pairs, each with a right and a wrong answer.",
                evidence=", ".join(f"{count} of {name}" for name, count in counts.items()),
                remedy="Give as many of each, one or more.",
            )
        for number, (clean, corrupted) in enumerate(zip(self.clean, self.corrupted, strict=True)):
            one, other = _shapes(clean), _shapes(corrupted)
            if one != other:
                raise InputError(
                    f"The prompts of pair {number} of {self.name} are not equally long.",
                    evidence=f"clean {one}, corrupted {other}",
                    remedy="Replace words by words of as many tokens, or leave the pair out.",
                )
        if bool((self.correct == self.wrong).any()):
            raise InputError(
                f"The right answer of a pair of {self.name} is its wrong one.",
                evidence=f"pair {int((self.correct == self.wrong).nonzero()[0])}",
                remedy="Give two tokens that differ; of a longer word, its first.",
            )

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, numbers: slice | Sequence[int]) -> PairSet:
        """Some of the pairs."""
        chosen = range(len(self))[numbers] if isinstance(numbers, slice) else numbers
        index = torch.tensor(list(chosen), dtype=torch.long)
        return PairSet(
            self.name,
            [self.clean[number] for number in chosen],
            [self.corrupted[number] for number in chosen],
            self.correct[index],
            self.wrong[index],
            {name: places[index] for name, places in self.positions.items()},
            self.corruption,
        )

    def __repr__(self) -> str:
        return f"PairSet({self.name}: {len(self)} pair{'s' if len(self) > 1 else ''})"


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs of one shape, side by side."""

    numbers: tuple[int, ...]
    """Of the pairs in their set."""
    shape: str
    """Batches of prompts of one shape have it in common."""
    clean: dict[str, Any] = field(repr=False)
    corrupted: dict[str, Any] = field(repr=False)
    correct: Int[Tensor, " pair"]
    wrong: Int[Tensor, " pair"]

    def __len__(self) -> int:
        return len(self.numbers)


def batches(pairs: PairSet, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """The pairs in batches of at most `size`; only prompts of one shape share a batch, so that nothing is padded.

    Raises:
        InputError: a batch of none is asked for.
    """
    if size < 1:
        raise InputError("A batch holds one pair or more.", evidence=f"batch_size={size}")
    alike: dict[str, list[int]] = {}
    for number, clean in enumerate(pairs.clean):
        alike.setdefault(str(_shapes(clean)), []).append(number)
    for shape, numbers in alike.items():
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            yield Batch(
                tuple(chosen),
                shape,
                joined([pairs.clean[number] for number in chosen], device),
                joined([pairs.corrupted[number] for number in chosen], device),
                pairs.correct[chosen].to(device),
                pairs.wrong[chosen].to(device),
            )


def joined(examples: Sequence[Inputs], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Examples of one shape as a batch."""
    first = examples[0]
    return {
        name: torch.cat([example[name] for example in examples]).to(device)
        if isinstance(value, Tensor)
        else value
        for name, value in first.items()
    }


def _shapes(inputs: Inputs) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in inputs.items() if isinstance(value, Tensor)}
