"""POPE: is there such an object in the image? (Li et al. 2023, arXiv 2305.10355; RUCAIBox/POPE)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.data.files import Row, read_json_lines
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.yes_no import official_yes_no, strict_yes_no
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.task import Metric, Response, mean
from headwise.evaluation.tasks.vision.pictures import PictureTask, one_of, seen
from headwise.text import visible
from headwise.zoo.data.scenes import PATIENT_NOISE

SPLITS = ("random", "popular", "adversarial")
_LINES = 3000


@dataclass(frozen=True, kw_only=True)
class Pope(PictureTask):
    """Questions about objects, half of them about objects that are not there.

    Read accuracy beside the yes ratio: a model that says yes to everything has accuracy 0.5 and yes ratio 1.
    Absent objects are drawn at random, are the most frequent ones, or those that like to be seen together with
    what is there (adversarial); a model that goes by habit falls from split to split.

    `data` is a published file: JSON lines with `question_id`, `image`, `text` and `label` (yes or no). If its
    lines have a `category`, those of `split` are taken. Without `data` the questions are about drawn scenes,
    two about each; scenes, pictures and the questions about what is there are the same in all three splits.

    The first word yes or no is the answer, and one without either counts as wrong and as unparsed. `compat=True` reads
    answers as the published script does (AoiDragon/POPE, `evaluate.py` of commit f3ec604): "no" if the words before
    the first full stop have No, no or not, else "yes". So it takes "NO", "None", "Nope", "no!", "there isn't", "It is
    there. No doubt." and silence for "yes", and "Yes, no doubt" and "Yes, why not" for "no".

    Example:
        >>> [(example.id, example.answer) for example in Pope(split="random").draw(2, seed=0)]
        [('pope-random/0/000000/0', 'yes'), ('pope-random/0/000000/1', 'no')]
    """

    name: ClassVar[str] = "pope"
    version: ClassVar[int] = 2
    guards: ClassVar[tuple[str, ...]] = ("unparsed",)

    split: str = "adversarial"
    compat: bool = False
    noise: float = PATIENT_NOISE
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("split", self.split, SPLITS)

    @property
    def title(self) -> str:
        """pope-random, pope-popular or pope-adversarial."""
        return f"pope-{self.split}"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, and the measures with yes as the positive answer; NaN where a denominator is 0."""
        pair = ("said_yes", "true_yes")
        return (
            mean("correct", name="accuracy"),
            Metric("precision", pair, _precision),
            Metric("recall", pair, _recall),
            Metric("f1", pair, _f1),
            mean("said_yes", name="yes_ratio", higher_is_better=None),
            mean("unparsed", higher_is_better=False),
        )

    @property
    def solver(self) -> Generate:
        """The model writes its answer."""
        return Generate(self.max_new_tokens)

    def drawn(self, n: int | None, seed: int, *, scenes: str = "test") -> list[Example]:
        """Yes and no in turn, two questions per scene."""
        from headwise.zoo.data.questions import pope_pair

        n = _LINES if n is None else n
        examples = []
        for number, (scene, image) in enumerate(seen((n + 1) // 2, seed, noise=self.noise, split=scenes)):
            for place, question in enumerate(pope_pair(scene, split=self.split, seed=f"{seed}/{number}")):
                inputs = {"text": self.asked(question.text), "image": image}
                name = f"{self.title}/{seed}/{number:06d}/{place}"
                examples.append(Example(name, inputs, question.answer, {"object": question.shape}))
        return examples[:n]

    def listed(self, data: Path) -> Sequence[Example]:
        """The lines of the file."""
        examples: dict[str, Example] = {}
        rows, others = self._rows(data)
        for row in rows:
            label, name = row.fields["label"], row.label("question_id")
            if label not in ("yes", "no"):
                row.wrong(f"The label is {label!r}.", "Write yes or no.")
            if name in examples:
                row.wrong(
                    f"The question_id {name} stands in an earlier line already.", "Number the questions."
                )
            picture = self.picture(row.text("image"), row.place)
            inputs = {"text": self.asked(row.text("text")), "image": picture}
            examples[name] = Example(name, inputs, label, {"where": row.place}, row.group)
        if not examples:
            raise InputError(
                f"The file has no question of the split {self.split!r}.",
                evidence=visible(f"{data} has: {', '.join(sorted(others))}", limit=200),
                remedy="Choose one of these splits.",
            )
        return list(examples.values())

    def notes(self, examples: Sequence[Example]) -> dict[str, Any]:
        """How many lines of the file were left out because they are of another split."""
        if self.data is None:
            return {}
        return {"lines of other splits, left out": sum(self._rows(self.data)[1].values())}

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """What was read from the answer, and whether it is right."""
        parsed = (official_yes_no if self.compat else strict_yes_no)(response.text)
        return {
            "parsed": parsed,
            "correct": int(parsed == example.answer),
            "true_yes": int(example.answer == "yes"),
            "said_yes": int(parsed == "yes"),
            "unparsed": int(parsed == "unknown"),
        }

    def _rows(self, path: Path) -> tuple[list[Row], Counter[str]]:
        """The lines of this split, and how many there are of others."""
        rows = read_json_lines(path, _LINE)
        split_rows = [row for row in rows if row.label("category", self.split) == self.split]
        others = Counter(row.label("category", self.split) for row in rows)
        others.pop(self.split, None)
        return split_rows, others


_LINE = {"question_id": 1, "image": "1.jpg", "text": "Is there a dog in the image?", "label": "yes"}
RANDOM = partial(Pope, split="random")
POPULAR = partial(Pope, split="popular")
ADVERSARIAL = partial(Pope, split="adversarial")


def build_pope(
    objects_per_image: Mapping[str, Sequence[str]], split: str, seed: int, *, images: int | None = None
) -> list[dict[str, Any]]:
    """The lines of a POPE file, six questions per image, yes and no in turn.

    Asked about are the first three objects of every image, each followed by one that is not in the image and
    was not asked about: any object of the chosen images (random), the most frequent (popular), or the one
    that is seen with the object before it most often (adversarial). Ties go to the object that comes first;
    where no frequent companion is left, a random object is asked about. Equal seeds choose equal images.

    Args:
        objects_per_image: image file -> the objects in it; images with fewer than three are passed over.
        split: "random", "popular" or "adversarial".
        seed: of the choice of images and of random objects.
        images: how many images; 500 in the published files, None takes all.

    Raises:
        InputError: too few images have three objects, or an image has so many objects that none is left.

    Example:
        >>> lines = build_pope({"1.jpg": ["cat", "orange", "bed"], "2.jpg": ["dog", "cow", "owl"]}, "popular", 0)
        >>> lines[2]["text"], lines[2]["label"]
        ('Is there an orange in the image?', 'yes')
    """
    one_of("split", split, SPLITS)
    objects = {name: list(dict.fromkeys(found)) for name, found in objects_per_image.items()}
    objects = {name: found for name, found in objects.items() if len(found) >= 3}
    if images is not None:
        if images > len(objects):
            raise InputError(
                f"{len(objects)} images have three objects, fewer than {images}.", remedy="Lower images=."
            )
        chosen = random.Random(f"pope/images/{seed}").sample(list(objects), images)
        objects = {name: objects[name] for name in chosen}
    frequency = Counter(item for found in objects.values() for item in found)
    company: dict[str, Counter[str]] = {item: Counter() for item in frequency}
    for found in objects.values():
        for item in found:
            company[item].update(other for other in found if other != item)
    rng = random.Random(f"pope/{split}/{seed}")
    lines: list[dict[str, Any]] = []

    def add(image: str, item: str, label: str) -> None:
        article = "an" if item[0] in "aeiou" else "a"
        text = f"Is there {article} {item} in the image?"
        lines.append({"question_id": len(lines) + 1, "image": image, "text": text, "label": label})

    for image, found in objects.items():
        used = set(found)
        for positive in found[:3]:
            free = [item for item in frequency if item not in used]
            if not free:
                raise InputError(
                    "No object is left to ask about.", evidence=f"{image} has {', '.join(found)}"
                )
            preferred = {"random": Counter(), "popular": frequency, "adversarial": company[positive]}[split]
            ranked = [item for item, _ in preferred.most_common() if item not in used]
            negative = ranked[0] if ranked else rng.choice(free)
            used.add(negative)
            add(image, positive, "yes")
            add(image, negative, "no")
    return lines


def _share(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def _precision(predicted: np.ndarray, true: np.ndarray, axis: int = -1) -> np.ndarray:
    return _share((predicted * true).sum(axis=axis), predicted.sum(axis=axis))


def _recall(predicted: np.ndarray, true: np.ndarray, axis: int = -1) -> np.ndarray:
    return _share((predicted * true).sum(axis=axis), true.sum(axis=axis))


def _f1(predicted: np.ndarray, true: np.ndarray, axis: int = -1) -> np.ndarray:
    return _share(2 * (predicted * true).sum(axis=axis), (predicted + true).sum(axis=axis))
