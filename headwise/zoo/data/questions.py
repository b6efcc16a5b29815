"""What can be asked about a scene, with the right answers; and the same as the files of POPE and COCO."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from headwise.errors import InputError
from headwise.zoo.data.drawing import SHAPES, SIZE
from headwise.zoo.data.scenes import Scene, boxes, masks, successor, together

NEGATIVES = ("random", "popular", "adversarial")
NUMBERS = ("zero", "one", "two", "three", "four")
DESCRIBE = "describe the image:"


@dataclass(frozen=True)
class Question:
    """A question in plain words.

    Attributes:
        kind: "yes" (the shape is there), "random", "popular" or "adversarial" (it is not), "color", "count".
        text: as a user would type it.
        answer: one word.
        shape: the shape it asks about; empty for "count".
    """

    kind: str
    text: str
    answer: str
    shape: str = ""


@cache
def by_frequency() -> tuple[str, ...]:
    """The shapes from the most to the least frequent one: from 54 down to 27 per cent of all scenes."""
    return tuple(SHAPES[number] for number in (-together().diagonal()).argsort(kind="stable"))


def expected(scene: Scene) -> tuple[str, ...]:
    """Absent successors of shapes that are there: what a caption is likely to make up. There is always one.

    Example:
        >>> from headwise.zoo.data.scenes import SceneObject
        >>> expected(Scene((SceneObject("star", "red", 0, 0, 0), SceneObject("ring", "red", 1, 16, 0))))
        ('heart',)
    """
    next_ones = {successor(shape) for shape in scene.shapes}
    return tuple(shape for shape in by_frequency() if shape in next_ones - set(scene.shapes))


def absent(scene: Scene, kind: str) -> tuple[str, ...]:
    """Shapes that are not in the scene and may be asked for. There is always one.

    Args:
        scene: what is seen.
        kind: "random": all of them, from the most to the least frequent; "popular": the most frequent of them;
            "adversarial": the one that occurs most often together with the shapes that are there.

    Raises:
        InputError: there is no such kind.

    Example:
        >>> from headwise.zoo.data.scenes import SceneObject
        >>> one = Scene((SceneObject("star", "red", 0, 0, 0), SceneObject("ring", "red", 1, 16, 0)))
        >>> absent(one, "adversarial"), absent(one, "popular")
        (('cross',), ('cross',))
    """
    missing = tuple(shape for shape in by_frequency() if shape not in scene.shapes)
    match kind:
        case "random":
            return missing
        case "popular":
            return missing[:1]
        case "adversarial":
            company = together()[[SHAPES.index(shape) for shape in scene.shapes]].sum(0)
            return (max(missing, key=lambda shape: company[SHAPES.index(shape)]),)
    raise InputError(
        "There is no such kind of absent shape.",
        evidence=repr(kind),
        remedy=f"One of {', '.join(NEGATIVES)}.",
    )


def ask(scene: Scene, kind: str, rng: random.Random) -> Question:
    """One question of a kind; see `Question` for the kinds.

    Raises:
        InputError: there is no such kind.

    Example:
        >>> from headwise.zoo.data.scenes import SceneObject
        >>> one = Scene((SceneObject("star", "red", 0, 0, 0), SceneObject("ring", "red", 1, 16, 0)))
        >>> ask(one, "adversarial", random.Random(0))
        Question(kind='adversarial', text='Is there a cross in the image?', answer='no', shape='cross')
    """
    if kind == "count":
        return Question(kind, "How many objects are there?", NUMBERS[len(scene.objects)])
    if kind == "color":
        item = rng.choice(scene.objects)
        return Question(kind, f"What color is the {item.shape}?", item.color, item.shape)
    shape = rng.choice(scene.shapes if kind == "yes" else absent(scene, kind))
    answer = "yes" if kind == "yes" else "no"
    return Question(kind, f"Is there a {shape} in the image?", answer, shape)


def pope_pair(scene: Scene, *, split: str, seed: int | str = 0) -> tuple[Question, Question]:
    """A question about a shape that is there and one about a shape that is not.

    Args:
        scene: what is seen.
        split: which absent shapes: "random", "popular" or "adversarial". The first question is the same in all.
        seed: chooses the shapes.
    """
    positive = ask(scene, "yes", random.Random(f"pope/yes/{seed}"))
    return positive, ask(scene, split, random.Random(f"pope/no/{seed}"))


def file_name(index: int) -> str:
    """The name under which the files below mention the picture of scene `index`."""
    return f"scene_{index:06d}.png"


def pope_lines(
    scenes: Sequence[Scene], *, split: str = "adversarial", seed: int = 0
) -> list[dict[str, int | str]]:
    """The lines of a POPE file, two per scene, yes and no in turn; dump each as JSON.

    Example:
        >>> from headwise.zoo.data.scenes import scenes
        >>> [line["label"] for line in pope_lines(scenes(2))]
        ['yes', 'no', 'yes', 'no']
    """
    lines: list[dict[str, int | str]] = []
    for index, scene in enumerate(scenes):
        for question in pope_pair(scene, split=split, seed=f"{seed}/{index}"):
            line = {"question_id": len(lines) + 1, "image": file_name(index)}
            lines.append({**line, "text": question.text, "label": question.answer})
    return lines


def coco_instances(scenes: Sequence[Scene]) -> dict[str, list[dict[str, Any]]]:
    """The scenes in the format of COCO's instances files, without outlines; shapes are the categories.

    Image ids are the places in `scenes`, category ids count from 1 in the order of `SHAPES`, boxes are
    x, y, width, height and areas are counted in pixels.
    """
    annotations = []
    for image, scene in enumerate(scenes):
        for item, box, mask in zip(scene.objects, boxes(scene), masks(scene), strict=True):
            about = {"category_id": SHAPES.index(item.shape) + 1, "iscrowd": 0}
            where = {"bbox": box.tolist(), "area": int(mask.sum())}
            annotations.append({"id": len(annotations) + 1, "image_id": image, **about, **where})
    size = {"width": SIZE, "height": SIZE}
    return {
        "images": [{"id": n, "file_name": file_name(n), **size} for n in range(len(scenes))],
        "annotations": annotations,
        "categories": [{"id": n, "name": shape} for n, shape in enumerate(SHAPES, 1)],
    }
