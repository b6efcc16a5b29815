"""Questions about the zoo's drawn scenes: is it there, which color has it, how many are there."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.vqa import NUMBERS
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.task import Metric, Response, mean
from headwise.evaluation.tasks.vision.pictures import PictureTask, one_of, seen
from headwise.zoo.data.scenes import TRAINING_NOISE

KINDS = ("existence", "color", "count")
_QUESTIONS = 1000


@dataclass(frozen=True, kw_only=True)
class Scenes(PictureTask):
    """One question about each of many drawn scenes.

    `existence`: half of the shapes asked about are there, the others are drawn from those that are not;
    guessing gives 0.5. `color`: of a shape that is there; guessing gives 1/6. `count`: how many objects, two
    to four; guessing gives 1/3. `noise` is how bad the camera is: 0 is a clean picture.

    The answer read is the first word of its kind in the response (yes or no, a color, a number in words or
    digits), so that models which answer in sentences can be asked, too; a response without one is wrong, and
    counted as unparsed.

    Example:
        >>> Scenes(kind="count", noise=0).draw(1, seed=0)[0].inputs["text"]
        'How many objects are there?'
    """

    name: ClassVar[str] = "scene"
    guards: ClassVar[tuple[str, ...]] = ("unparsed",)

    kind: str = "existence"
    noise: float = TRAINING_NOISE

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("kind", self.kind, KINDS)
        if self.data is not None:
            raise InputError(
                "These questions are about drawn scenes only.",
                evidence=f"data={str(self.data)!r}",
                remedy="For pictures of your own take pope, vqa or yes-no.",
            )

    @property
    def title(self) -> str:
        """scene-existence, scene-color or scene-count."""
        return f"scene-{self.kind}"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Share of right answers, and of responses that hold none."""
        return (mean("correct", name="accuracy"), mean("unparsed", higher_is_better=False))

    @property
    def solver(self) -> Generate:
        """The model writes its answer."""
        return Generate(self.max_new_tokens)

    def drawn(self, n: int | None, seed: int, *, scenes: str = "test") -> list[Example]:
        """One question per scene; those about existence are right and wrong in turn."""
        from headwise.zoo.data.questions import ask

        examples = []
        for number, (scene, image) in enumerate(seen(n or _QUESTIONS, seed, noise=self.noise, split=scenes)):
            kind = ("yes", "random")[number % 2] if self.kind == "existence" else self.kind
            question = ask(scene, kind, random.Random(f"{self.title}/{seed}/{number}"))
            inputs = {"text": self.asked(question.text), "image": image}
            metadata = {"kind": kind, "object": question.shape}
            examples.append(Example(f"{self.title}/{seed}/{number:06d}", inputs, question.answer, metadata))
        return examples

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """What was read from the response, and whether it is right."""
        parsed = self._parsed(response.text)
        return {
            "parsed": parsed or "unknown",
            "correct": int(parsed == example.answer),
            "unparsed": int(parsed == ""),
        }

    def _parsed(self, text: str) -> str:
        from headwise.zoo.data.drawing import COLORS

        digits = {digit: word for word, digit in NUMBERS.items() if word != "none"}
        words = {"existence": ("yes", "no"), "color": tuple(COLORS), "count": tuple(NUMBERS)}[self.kind]
        for said in re.finditer(r"\w+", text.lower()):
            word = digits.get(said[0], said[0]) if self.kind == "count" else said[0]
            if word in words:
                return word
        return ""


EXISTENCE = partial(Scenes, kind="existence")
COLOR = partial(Scenes, kind="color")
COUNT = partial(Scenes, kind="count")
