"""Colored objects: the color of one of three objects, after one worked example or none."""

from __future__ import annotations

import random

from headwise.zoo.data.prompts import Prompt, Split, check_split, until
from headwise.zoo.data.words import COLORS, OBJECTS, SURFACES, article

VERSION = 1

STARTS = ("there is", "you see", "I see")


def colored_objects_prompt(rng: random.Random, split: Split = "train", *, shots: int = 1) -> Prompt:
    """One prompt; sets of three objects are held out, in the worked example too.

    The two examples share no color, as in the data set this follows (BIG-bench "reasoning about colored
    objects"). The corruption asks for another object of the last example.

    Args:
        rng: where the choices come from.
        split: train, validation or test.
        shots: worked examples before the question, 0 or 1.

    Example:
        >>> item = colored_objects_prompt(random.Random(0), shots=0)
        >>> print(item.prompt + item.answer)
        Q: On the desk, I see a brown lighter, a black bottle, and a green envelope. What color is the bottle?
        A: Black
    """
    check_split(split)
    colors = rng.sample(COLORS, 3 * (shots + 1))
    before = ""
    for shot in range(shots):
        objects, asked = _objects(rng, split), rng.randrange(3)
        scene = _scene(rng, objects, colors[3 * shot : 3 * shot + 3])
        before += f"{_question(scene, objects[asked])} {colors[3 * shot + asked].title()}\n"
    colors = colors[3 * shots :]
    objects = _objects(rng, split)
    asked, other = rng.sample(range(3), 2)
    scene = _scene(rng, objects, colors)
    labels = tuple(f" {color.title()}" for color in colors)
    prompt = before + _question(scene, objects[asked])
    words = prompt.split()
    start = len(before.split())
    color_at = [words.index(color, start) for color in colors]
    return Prompt(
        kind="colored_objects",
        split=split,
        prompt=prompt,
        answer=labels[asked],
        wrong=labels[other],
        corrupted=before + _question(scene, objects[other]),
        corrupted_answer=labels[other],
        candidates=labels,
        meta={
            "shots": shots,
            "objects": objects,
            "colors": colors,
            "asked": asked,
            "asked_in_corrupted": other,
            "positions": {
                "colors": color_at,
                "objects": [position + 1 for position in color_at],
                "asked": len(words) - 2,
            },
        },
    )


def _objects(rng: random.Random, split: Split) -> list[str]:
    return until(lambda: rng.sample(OBJECTS, 3), lambda three: ("colored objects", *sorted(three)), split)


def _scene(rng: random.Random, objects: list[str], colors: list[str]) -> str:
    one, two, three = (
        f"{article(color)} {color} {thing}" for color, thing in zip(colors, objects, strict=True)
    )
    return f"Q: On the {rng.choice(SURFACES)}, {rng.choice(STARTS)} {one}, {two}, and {three}."


def _question(scene: str, thing: str) -> str:
    return f"{scene} What color is the {thing}?\nA:"
