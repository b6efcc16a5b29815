"""Yes/no questions in groups, as in MME (Fu et al. 2023, arXiv 2306.13394)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.data.components import FileSplit
from headwise.evaluation.data.files import Row, read_json_lines, read_lines, refuse
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.yes_no import mme_yes_no, strict_yes_no
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.task import Metric, Response, Solver, mean, ratio
from headwise.evaluation.tasks.vision.pictures import PictureTask, seen
from headwise.readers.content import inside, shown
from headwise.zoo.data.scenes import PATIENT_NOISE

if TYPE_CHECKING:
    from headwise.subject import Subject

PERCEPTION = (
    *("existence", "count", "position", "color", "posters"),
    *("celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_SCENES = 500
_SUFFIXES = (".jsonl", ".json")


@dataclass(frozen=True, kw_only=True)
class YesNo(PictureTask):
    """Yes/no questions, several about one picture; a group counts when all its answers are right.

    An example is a group, so `n` counts groups, and the intervals are over groups. `accuracy` is the share of
    right answers, `accuracy_plus` that of groups without a wrong one, which guessing brings to 1/4 for pairs;
    `score` is MME's, 100 times the one plus 100 times the other, added up over categories (200 at most for
    each). The first word yes or no is the answer; `other` is the share of responses without either. `compat=True` reads
    answers as MME's `calculation.py` does (zhengdian1/AIA, commit c0f413d): yes or no is looked for in the first four
    characters. So it takes "Nothing", "Not sure" and "Knot" for "no", "Yesterday" for "yes", and "It is not. No." for
    neither.

    `data` is one of:

    - a text file as MME has them, `picture<tab>question<tab>Yes or No` (what stands behind another tab is not
      read); two lines that follow one another belong to one picture;
    - JSON lines (`.jsonl`, `.json`) with `image`, `question`, `answer`; lines with the same value in the
      column that `group` names belong together, however many; a `category` is used if it is there;
    - a folder of text files, one per category, whose scores are told one by one, too; with all of MME's ten
      perception or four cognition categories also their sum (2000 and 800 at most).

    Without `data` two questions are asked about each drawn scene, one about a shape that is there and one
    about a shape that likes to be seen with it.

    Example:
        >>> YesNo().draw(1, seed=0)[0].answer
        ['yes', 'no']
    """

    name: ClassVar[str] = "yes-no"
    version: ClassVar[int] = 2
    guards: ClassVar[tuple[str, ...]] = ("other",)

    group: str = "image"
    """Column of a JSON-lines file that tells which questions belong together."""
    compat: bool = False
    noise: float = PATIENT_NOISE

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy by question and by group, MME's score, and the share of responses that are neither."""
        columns = ("right", "questions", "all_right", "category_number")
        score = Metric("score", columns, _points, "points", strata="category_number")
        found = [
            ratio("right", "questions", name="accuracy"),
            mean("all_right", name="accuracy_plus"),
            ratio("others", "questions", name="other", higher_is_better=False),
            score,
        ]
        if self.data is not None and Path(self.data).is_dir():
            names = [path.stem for path in _files(Path(self.data))]
            for kind, known in (("perception", PERCEPTION), ("cognition", COGNITION)):
                if set(names) >= set(known):
                    numbers = tuple(map(_number, known))
                    found.append(replace(score, name=kind, statistic=partial(_points, numbers=numbers)))
            found += [replace(score, name=f"score {name}", where=("category", name)) for name in names]
        return tuple(found)

    @property
    def solver(self) -> Solver:
        """The model answers every question of a group by itself."""
        return GroupSolver(Generate(self.max_new_tokens))

    def chosen(
        self, examples: Sequence[Example], n: int | None, seed: int, split: FileSplit | None = None
    ) -> list[Example]:
        """`n` groups, of every category in proportion to its size, and of each one at least where `n` allows."""
        pools: dict[str, list[Example]] = {}
        for example in examples:
            pools.setdefault(example.metadata["category"], []).append(example)
        if n is None or not len(pools) <= n < len(examples):
            return super().chosen(examples, n, seed, split)
        split = split or FileSplit(examples)
        counts = _shares(n, [len(pool) for pool in pools.values()])
        found = [
            example
            for pool, count in zip(pools.values(), counts, strict=True)
            for example in super(YesNo, self).chosen(pool, count, seed, split)
        ]
        places = {example.id: place for place, example in enumerate(examples)}
        return sorted(found, key=lambda example: places[example.id])

    def notes(self, examples: Sequence[Example]) -> dict[str, Any]:
        """What the score lacks where not every category is asked about."""
        if self.data is None or not Path(self.data).is_dir():
            return {}
        asked = {example.metadata["category"] for example in examples}
        lacking = [item.stem for item in _files(Path(self.data)) if item.stem not in asked]
        said = f"the score adds up {len(asked)} categories; none of {', '.join(lacking)} was drawn"
        return {"warnings": [said]} if lacking else {}

    def drawn(self, n: int | None, seed: int, *, scenes: str = "test") -> list[Example]:
        """Two questions per scene."""
        from headwise.zoo.data.questions import pope_pair

        examples = []
        for number, (scene, image) in enumerate(seen(n or _SCENES, seed, noise=self.noise, split=scenes)):
            pair = pope_pair(scene, split="adversarial", seed=f"{seed}/{number}")
            inputs = {"text": [self.asked(one.text) for one in pair], "image": [image] * len(pair)}
            examples.append(
                Example(f"yes-no/{seed}/{number:06d}", inputs, [one.answer for one in pair], _metadata("", 0))
            )
        return examples

    def listed(self, data: Path) -> Sequence[Example]:
        """The groups of the file or folder, in the order of their first lines."""
        if data.is_dir():
            others = sorted({item.stem for item in _files(data)} - {*PERCEPTION, *COGNITION})
            return [
                self._example(f"{item.stem}/{name}", item.stem, rows, others)
                for item in _files(data)
                for name, rows in _pairs(item)
            ]
        if data.suffix not in _SUFFIXES:
            return [self._example(name, "", rows, [""]) for name, rows in _pairs(data)]
        groups: dict[tuple[str, str], list[Row]] = {}
        line = {"image": "1.jpg", "question": "Is this a dog?", "answer": "Yes"}
        for row in read_json_lines(data, {self.group: "1", **line}):
            key = (row.label("category"), row.label(self.group))
            groups.setdefault(key, []).append(row)
        others = sorted({category for category, _ in groups} - {*PERCEPTION, *COGNITION})
        return [
            self._example(f"{category}/{name}" if category else name, category, rows, others)
            for (category, name), rows in groups.items()
        ]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """How many questions of the group were answered rightly, and how they were read."""
        read = mme_yes_no if self.compat else strict_yes_no
        parsed = [read(text) for text in response.metadata["replies"]]
        right = sum(prediction == answer for prediction, answer in zip(parsed, example.answer, strict=True))
        return {
            "parsed": ", ".join(parsed),
            "questions": len(parsed),
            "right": right,
            "all_right": int(right == len(parsed)),
            "others": sum(answer not in ("yes", "no") for answer in parsed),
            "category": example.metadata["category"],
            "category_number": example.metadata["category_number"],
        }

    def _example(self, name: str, category: str, rows: list[Row], others: list[str]) -> Example:
        answers = []
        for row in rows:
            answer = row.text("answer").strip().lower()
            if answer not in ("yes", "no"):
                row.wrong(f"The answer is {row.fields['answer']!r}.", "Write Yes or No.")
            answers.append(answer)
        inputs = {
            "text": [self.asked(row.text("question")) for row in rows],
            "image": [self.picture(row.text("image"), row.place) for row in rows],
        }
        metadata = _metadata(category, _number(category, others)) | {"where": rows[0].place}
        # the option may name the column as what tells one example from another
        groups = {"" if self.group == "group" else row.group for row in rows}
        if len(groups) > 1:
            rows[0].wrong(
                f"Its {len(rows)} questions are one example and of {len(groups)} groups.",
                "Give them one group, or take each group for an example: --set group=group.",
            )
        return Example(name, inputs, answers, metadata, groups.pop())


@dataclass(frozen=True)
class GroupSolver:
    """Ask the questions of every example one by one; `response.metadata["replies"]` holds what was said to each."""

    one: Generate

    def __call__(
        self,
        subject: Subject,
        examples: Sequence[Example],
        *,
        batch_size: int,
        advance: Callable[[int], None],
    ) -> list[Response]:
        """One response per group."""
        singles = [
            Example(f"{example.id}/{place}", {"text": text, "image": image}, None)
            for example in examples
            for place, (text, image) in enumerate(
                zip(example.inputs["text"], example.inputs["image"], strict=True)
            )
        ]
        asked = reported = 0

        def count(more: int) -> None:
            nonlocal asked, reported
            asked += more
            groups = asked * len(examples) // len(singles)
            advance(groups - reported)
            reported = groups

        responses = iter(self.one(subject, singles, batch_size=batch_size, advance=count))
        joined = []
        for example in examples:
            parts = [next(responses) for _ in example.inputs["text"]]
            texts = [part.text for part in parts]
            joined.append(
                Response(" | ".join(texts), sum(part.tokens for part in parts), metadata={"replies": texts})
            )
        return joined

    def manifest(self) -> dict[str, Any]:
        """That of the single question."""
        return self.one.manifest()


def _metadata(category: str, number: int) -> dict[str, Any]:
    return {"category": category, "category_number": number}


def _number(category: str, others: Sequence[str] = ()) -> int:
    """MME's categories by their place in its list, others behind them."""
    known = (*PERCEPTION, *COGNITION, *others)
    return known.index(category)


def _shares(n: int, sizes: Sequence[int]) -> list[int]:
    """`n` split in proportion to sizes, the largest remainders first, one for each at least.

    Example:
        >>> _shares(28, [30, 30, 147, 170]), _shares(4, [1, 1, 100])
        ([2, 2, 11, 13], [1, 1, 2])
    """
    counts = [max(1, n * size // sum(sizes)) for size in sizes]
    remainders = [n * size / sum(sizes) - count for size, count in zip(sizes, counts, strict=True)]
    while sum(counts) != n:
        step = 1 if sum(counts) < n else -1
        open_ = [
            place for place, count in enumerate(counts) if (count < sizes[place] if step > 0 else count > 1)
        ]
        place = max(open_, key=lambda one: step * remainders[one])
        counts[place] += step
        remainders[place] -= step
    return counts


def _files(folder: Path) -> list[Path]:
    names = sorted(item.name for item in folder.glob("*.txt"))
    if not names:
        raise InputError("The folder holds no text file.", evidence=shown(folder))
    return [inside(name, folder, where=shown(folder)) for name in names]


def _pairs(path: Path) -> Iterator[tuple[str, list[Row]]]:
    rows: list[Row] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        parts = line.split("\t")
        if len(parts) < 3:
            refuse(path, number, f"The line has {len(parts)} of 3 columns.", "Separate them by tabs.")
        rows.append(Row(path, number, dict(zip(("image", "question", "answer"), parts[:3], strict=True))))
    names: set[str] = set()
    for first, second in zip(rows[::2], [*rows[1::2], None], strict=False):
        name = first.fields["image"]
        if second is None or second.fields["image"] != name:
            first.wrong(
                f"The question about {name!r} has no second one below it.", "Two lines belong together."
            )
        if name in names:
            first.wrong(f"{name!r} has more than two questions.", "Take JSON lines for larger groups.")
        names.add(name)
        yield name, [first, second]


def _points(
    right: np.ndarray,
    questions: np.ndarray,
    whole: np.ndarray,
    category: np.ndarray,
    axis: int = -1,
    *,
    numbers: tuple[int, ...] = (),
) -> np.ndarray:
    """MME's score, added up over categories; one that a resample does not hold adds nothing."""
    total: Any = 0.0
    for number in numbers or np.unique(category):
        in_category = category == number
        groups = in_category.sum(axis=axis)
        asked = np.where(in_category, questions, 0).sum(axis=axis)
        share = np.where(in_category, right, 0).sum(axis=axis) / np.maximum(asked, 1)
        plus = np.where(in_category, whole, 0).sum(axis=axis) / np.maximum(groups, 1)
        total = total + 100 * (share + plus)
    return total
