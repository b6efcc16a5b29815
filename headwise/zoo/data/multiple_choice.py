"""Multiple choice: which of four words belongs to a category; the answer is its letter."""

from __future__ import annotations

import random
from typing import Literal

from headwise.zoo.data.prompts import Prompt, Split, check_split, until
from headwise.zoo.data.words import CATEGORIES, LETTERS, MEMBERS, article

VERSION = 1


def multiple_choice_prompt(
    rng: random.Random,
    split: Split = "train",
    *,
    options: int = 4,
    answer_with: Literal["letter", "word"] = "letter",
) -> Prompt:
    """One question; sets of options are held out. No two options share a category.

    The corruption asks for the category of another option.

    Args:
        rng: where the choices come from.
        split: train, validation or test.
        options: 2 to 4.
        answer_with: "word" asks for the option itself instead of its letter.

    Example:
        >>> item = multiple_choice_prompt(random.Random(0))
        >>> print(item.prompt + item.answer)
        Which one is a color?
        A. zinc
        B. truck
        C. cow
        D. blue
        Answer: D
    """
    check_split(split)

    def draw() -> list[str]:
        return [rng.choice(CATEGORIES[name]) for name in rng.sample(sorted(CATEGORIES), options)]

    words = until(draw, lambda drawn: ("multiple choice", *sorted(drawn)), split)
    asked, other = rng.sample(range(options), 2)
    says = words if answer_with == "word" else LETTERS
    labels = tuple(f" {says[place]}" for place in range(options))
    ending = "Answer:" if answer_with == "letter" else "Word:"

    def write(place: int) -> str:
        category = MEMBERS[words[place]]
        lines = [f"{letter}. {word}" for letter, word in zip(LETTERS, words, strict=False)]
        return "\n".join([f"Which one is {article(category)} {category}?", *lines, ending])

    return Prompt(
        kind="multiple_choice",
        split=split,
        prompt=write(asked),
        answer=labels[asked],
        wrong=labels[other],
        corrupted=write(other),
        corrupted_answer=labels[other],
        candidates=labels,
        meta={
            "options": words,
            "category": MEMBERS[words[asked]],
            "category_in_corrupted": MEMBERS[words[other]],
            "answer_with": answer_with,
            "asked": asked,
            "asked_in_corrupted": other,
            "positions": {
                "category": 4,
                "letters": [5 + 2 * place for place in range(options)],
                "words": [6 + 2 * place for place in range(options)],
            },
        },
    )


def fact(rng: random.Random) -> str:
    """A sentence that says what category a word belongs to: training text for the questions.

    Example:
        >>> fact(random.Random(1))
        'A cat is an animal.'
    """
    word = rng.choice(sorted(MEMBERS))
    category = MEMBERS[word]
    return f"{article(word).title()} {word} is {article(category)} {category}."
