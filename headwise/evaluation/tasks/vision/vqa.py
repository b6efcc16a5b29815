"""VQA accuracy: short answers against those of ten people (Antol et al. 2015, arXiv 1505.00468)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from headwise.errors import InputError
from headwise.evaluation.data.coco import group_of_record, records
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.vqa import PEOPLE, normalized, vqa_accuracy
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.task import Metric, Response, mean
from headwise.evaluation.tasks.vision.pictures import PictureTask, seen
from headwise.readers.content import shown, uncollected
from headwise.readers.json import read_json
from headwise.text import visible
from headwise.zoo.data.scenes import TRAINING_NOISE

TYPES = ("yes/no", "number", "other")
_QUESTIONS = 1000
_PEOPLE = 10


@dataclass(frozen=True, kw_only=True)
class Vqa(PictureTask):
    """Open questions, scored by how many people gave the same answer.

    An answer that four or more of ten people gave scores 1; one that 3, 2, 1 gave scores 0.9, 0.6, 0.3.
    Accuracy is the mean over questions, beside it that of each type of answer; a type that does not occur has
    no number. Answers are compared without marks, articles and capitals, see
    `headwise.evaluation.scoring.vqa.normalized`.

    `data` is the questions file (`questions` with `question_id`, `image_id`, `question`), `annotations` the
    annotations file (`annotations` with `question_id` and `answers`, each with `answer`; `question_type` and
    `answer_type` are used if they are there). Pictures are called after `file_name`, unless a question names
    its own as `image`. Without `data` the questions are about drawn scenes and ten equal answers are known.

    `compat=True` counts as the published script does (GT-Vision-Lab/VQA, the last `vqaEval.py`): where all people said
    the same, the bare texts are compared, so that "Two", "2.", "a dog" and "Dog" are wrong beside ten times "2" or
    "dog"; of more than 32 full stops the others stay; and "somebody'd" becomes "somebodyd".

    TextVQA uses the same measure.

    Example:
        >>> Vqa().draw(1, seed=0)[0].answer[:2]
        ['yes', 'yes']
    """

    name: ClassVar[str] = "vqa"
    guards: ClassVar[tuple[str, ...]] = ()

    annotations: Path | None = None
    file_name: str = "COCO_val2014_{image_id:012d}.jpg"
    compat: bool = False
    noise: float = TRAINING_NOISE

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.data is None) != (self.annotations is None):
            raise InputError(
                "VQA needs two files.",
                evidence=f"data={self.data}, annotations={self.annotations}",
                remedy="Give the questions as data= and the answers as annotations=.",
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy over all questions, and over those with an answer of one type."""
        whole = mean("accuracy")
        parts = (replace(whole, name=f"accuracy {kind}", where=("answer_type", kind)) for kind in TYPES)
        return (whole, *parts)

    @property
    def solver(self) -> Generate:
        """The model writes its answer."""
        return Generate(self.max_new_tokens)

    def drawn(self, n: int | None, seed: int, *, scenes: str = "test") -> list[Example]:
        """One question per scene: existence, color and count in turn."""
        from headwise.zoo.data.questions import ask

        types = {"yes": "yes/no", "color": "other", "count": "number", "random": "yes/no"}
        kinds = ("yes", "color", "count", "random", "color", "count")
        examples = []
        for number, (scene, image) in enumerate(seen(n or _QUESTIONS, seed, noise=self.noise, split=scenes)):
            kind = kinds[number % len(kinds)]
            question = ask(scene, kind, random.Random(f"vqa/{seed}/{number}"))
            inputs = {"text": self.asked(question.text), "image": image}
            metadata = {"answer_type": types[kind], "question_type": kind}
            examples.append(
                Example(f"vqa/{seed}/{number:06d}", inputs, [question.answer] * _PEOPLE, metadata)
            )
        return examples

    @uncollected()
    def listed(self, data: Path) -> Sequence[Example]:
        """The questions of the file; those without answers are refused, answers without question are not."""
        annotations = Path(self.annotations or "")  # data and annotations are given together
        kinds = {"question_id": (int, str), "answers": list}
        answered = {
            record["question_id"]: (place, record)
            for place, record in enumerate(records(read_json(annotations), "annotations", kinds, annotations))
        }
        kinds = {"question_id": (int, str), "image_id": (int, str), "question": str}
        examples = []
        for place, question in enumerate(records(read_json(data), "questions", kinds, data)):
            name, where = question["question_id"], f"{shown(data)}, questions[{place}]"
            if name not in answered:
                raise InputError(
                    f"The question {visible(str(name), limit=80)} has no answers.",
                    evidence=f"{where}; looked in {shown(annotations)}",
                    remedy="Give the annotations that belong to these questions.",
                )
            spot, record = answered[name]
            answers_at = f"{shown(annotations)}, annotations[{spot}]"
            answers = _answers(record["answers"], answers_at)
            inputs = {"text": self.asked(question["question"]), "image": self._picture(question, where)}
            types = {kind: record.get(kind, "") for kind in ("answer_type", "question_type")}
            strange = [kind for kind, value in types.items() if not isinstance(value, str)]
            if strange:
                raise InputError(f"The field {strange[0]!r} is not a text.", evidence=answers_at)
            metadata = {"where": where, **types}
            examples.append(Example(str(name), inputs, answers, metadata, group_of_record(question, where)))
        return examples

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """The answer as it is compared, its accuracy, and of which type it is."""
        return {
            "parsed": normalized(response.text, compat=self.compat),
            "accuracy": vqa_accuracy(response.text, example.answer, compat=self.compat),
            "answer_type": example.metadata["answer_type"],
            "question_type": example.metadata["question_type"],
        }

    def _picture(self, question: dict[str, Any], where: str) -> Path:
        if "image" in question:
            return self.picture(str(question["image"]), where)
        try:
            name = self.file_name.format(image_id=question["image_id"])
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            number = visible(repr(question["image_id"]), limit=80)
            raise InputError(
                "The name of a picture cannot be made.",
                evidence=f"file_name={self.file_name!r}, {where}: image_id {number}; {error}",
                remedy="Write the place of the id as {image_id}, or {image_id:012d} for numbers.",
            ) from error
        return self.picture(name, where)


def _answers(answers: list[Any], where: str) -> list[str]:
    values = [answer.get("answer") if isinstance(answer, dict) else None for answer in answers]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise InputError('An answer has no text "answer".', evidence=where)
    if len(texts) < PEOPLE:
        raise InputError(
            f"{len(texts)} answers are too few: VQA accuracy counts how many of the others agree.",
            evidence=where,
            remedy=f"Give {PEOPLE} answers or more; ten are usual.",
        )
    return texts
