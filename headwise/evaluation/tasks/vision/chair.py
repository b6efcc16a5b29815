"""CHAIR: objects that a caption invents (Rohrbach et al. 2018, arXiv 1809.02156; LisaAnne/Hallucination)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from headwise.errors import InputError
from headwise.evaluation.data.coco import group_of_record, records
from headwise.evaluation.data.splits import draw_of_file
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.chair import ObjectTable, mentions, named_objects, own_objects, read_objects
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.task import Metric, Response, mean, ratio
from headwise.evaluation.tasks.vision.pictures import QUESTION, PictureTask, check_images, seen
from headwise.readers.content import shown, uncollected
from headwise.readers.json import read_json
from headwise.text import visible
from headwise.zoo.data.scenes import CAPTION_NOISE

DETAILED = "Please describe this image in detail."
_SCENES = 500
_LONG, _SHORT = 512, 24


@dataclass(frozen=True, kw_only=True)
class Chair(PictureTask):
    """Captions, and the objects in them that the picture does not show.

    `chair_i` is the share of mentioned objects that are invented (repeats count), `chair_s` the share of
    captions with one at least; less is better. Both fall when a model says less: read them beside recall, the
    share of the objects there that are mentioned, and the length in words, and compare models at one
    `max_new_tokens` (512 for files, as usual; 24 for drawn scenes, which is more than their captions need).

    `data` is COCO's instances file (`images` with `id` and `file_name`, `annotations` with `image_id` and
    `category_id`, `categories` with `id` and `name`), `captions` its captions file (`annotations` with
    `image_id` and `caption`), whose objects count as there, too. Published numbers need both, 500 images of
    val2014, and the synonyms file of the authors as `synonyms`; without it headwise's own table of words is
    used. The manifest says which.

    `compat=True` counts words as the published script does (LisaAnne/Hallucination, `utils/chair.py` of commit
    a967f2f, with nltk 3.10 and pattern at 0483028). It loses "bus" (not "buses"), "ties", "canoes", "collies" and
    "doggies"; words in "dog/cat", "dog.cat", "_dog_", "dog…" and "dog+cat"; synonyms with a capital or after two
    spaces ("iPhone", " motor bike"); and pairs that its list has not ("park seat"). To it "kine" is a cow.

    Without `data` captions of drawn scenes are asked for, and `successors` is added: the share of invented
    shapes that like to follow one which is there, so that habit is told from blindness.

    Example:
        >>> Chair().draw(1, seed=0)[0].inputs["text"]
        'describe the image:'
    """

    name: ClassVar[str] = "chair"
    version: ClassVar[int] = 2
    guards: ClassVar[tuple[str, ...]] = ("recall", "length")

    captions: Path | None = None
    synonyms: Path | None = None
    compat: bool = False
    noise: float = CAPTION_NOISE
    prompt: str = QUESTION
    """What is asked; `{question}` is "Please describe this image in detail.", or what `zoo:vlm` was taught."""
    max_new_tokens: int = 0
    """At most so many are generated; 0 takes 512 for files and 24 for drawn scenes."""

    def __post_init__(self) -> None:
        if self.data is None and (self.captions is not None or self.synonyms is not None):
            raise InputError(
                "captions= and synonyms= belong to pictures of your own, and there is no data=.",
                remedy="Give data=, an instances file of COCO, or leave them out for drawn scenes.",
            )
        if self.max_new_tokens == 0:
            object.__setattr__(self, "max_new_tokens", _SHORT if self.data is None else _LONG)
        super().__post_init__()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Invented mentions over all mentions (NaN where nothing is mentioned), and what to read beside it."""
        found = (
            ratio("hallucinated", "mentions", name="chair_i", higher_is_better=False),
            mean("any_hallucinated", name="chair_s", higher_is_better=False),
            ratio("found", "objects", name="recall"),
            mean("words", name="length", unit="words", higher_is_better=None),
        )
        if self.data is not None:
            return found
        return (*found, ratio("expected", "hallucinated", name="successors", higher_is_better=False))

    @property
    def solver(self) -> Generate:
        """The model writes a caption."""
        return Generate(self.max_new_tokens)

    def drawn(self, n: int | None, seed: int, *, scenes: str = "test") -> list[Example]:
        """One caption per scene."""
        from headwise.zoo.data.questions import DESCRIBE
        from headwise.zoo.data.scenes import successor

        examples = []
        for number, (scene, image) in enumerate(seen(n or _SCENES, seed, noise=self.noise, split=scenes)):
            there = list(scene.shapes)
            expected = sorted({successor(shape) for shape in there} - set(there))
            inputs = {"text": self.asked(DESCRIBE), "image": image}
            examples.append(Example(f"chair/{seed}/{number:06d}", inputs, there, {"expected": expected}))
        return examples

    def listed(self, data: Path) -> Sequence[Example]:
        """One caption per image of the instances file."""
        return self._of_files(data, None, 0)

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """Captions of drawn scenes, or of `n` of the file's images, in its order.

        Raises:
            InputError: a file or a picture is missing or malformed, or there are fewer than `n` images.
        """
        if self.data is None:
            return self.drawn(n, seed)
        examples = self._of_files(Path(self.data), n, seed)
        for example in examples:
            check_images(example)
        return examples

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Counts of one caption, and which objects it mentions rightly and wrongly."""
        mentioned = [mention.node for mention in mentions(response.text, self._table)]
        there = set(example.answer)
        wrong = [node for node in mentioned if node not in there]
        row = {
            "mentions": len(mentioned),
            "hallucinated": len(wrong),
            "any_hallucinated": int(bool(wrong)),
            "found": len(there & set(mentioned)),
            "objects": len(there),
            "words": sum(any(map(str.isalnum, word)) for word in response.text.split()),
            "mentioned": ", ".join(mentioned),
            "wrong": ", ".join(wrong),
        }
        if self.data is None:
            row["expected"] = sum(node in example.metadata["expected"] for node in wrong)
        return row

    def notes(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Which table of words was used: its name, its size, and a digest of what it says."""
        table = self._table
        digest = sha256("\n".join(f"{word}: {node}" for word, node in table.nodes.items()).encode())
        facts = {"name": table.name, "words": len(table.nodes), "sha256": digest.hexdigest()}
        return {"table of words": facts}

    @cached_property
    def _table(self) -> ObjectTable:
        if self.data is None:
            from headwise.zoo.data.drawing import SHAPES

            return named_objects(SHAPES, name="shapes")
        if self.synonyms is None:
            return own_objects(compat=self.compat)
        return read_objects(self.synonyms, compat=self.compat)

    @uncollected()
    def _of_files(self, path: Path, n: int | None, seed: int) -> list[Example]:
        table = self._table
        document = read_json(path)
        categories = records(document, "categories", {"id": int, "name": str}, path)
        known = {record["id"]: record["name"] for record in categories}
        strange = [name for name in known.values() if name not in table.nodes]
        if strange:
            raise InputError(
                f"{len(strange)} categories are not in the table of words.",
                evidence=f"{visible(', '.join(strange[:5]), limit=200)}; table: {visible(table.name, limit=80)}",
                remedy="Give synonyms=, a file with a line for each.",
            )
        images = records(document, "images", {"id": (int, str), "file_name": str}, path)
        there: dict[Any, set[str]] = {image["id"]: set() for image in images}
        kinds = {"image_id": (int, str), "category_id": int}
        for place, record in enumerate(records(document, "annotations", kinds, path)):
            if record["category_id"] not in known or record["image_id"] not in there:
                raise InputError(
                    "An annotation belongs to no image or category of the file.",
                    evidence=f"{shown(path)}, annotations[{place}]: image_id "
                    f"{visible(str(record['image_id']), limit=80)}, category_id {record['category_id']}",
                )
            there[record["image_id"]].add(table.nodes[known[record["category_id"]]])
        chosen = draw_of_file(
            [_example(self, image, shown(path)) for image in images], n, seed, what=self.title
        )
        captions = self._captions()
        finished = []
        for example in chosen:
            image = example.metadata["image_id"]
            nodes = {
                mention.node for caption in captions.get(image, ()) for mention in mentions(caption, table)
            }
            finished.append(replace(example, answer=sorted(there[image] | nodes)))
        return finished

    def _captions(self) -> dict[Any, list[str]]:
        """Image id -> the captions that people wrote."""
        captions: dict[Any, list[str]] = {}
        if self.captions is not None:
            kinds = {"image_id": (int, str), "caption": str}
            for record in records(read_json(self.captions), "annotations", kinds, self.captions):
                captions.setdefault(record["image_id"], []).append(record["caption"])
        return captions


def _example(task: Chair, image: dict[str, Any], place: str) -> Example:
    where = f"{place}, image {visible(str(image['id']), limit=80)}"
    inputs = {"text": task.asked(DETAILED), "image": task.picture(image["file_name"], where)}
    metadata = {"image_id": image["id"], "where": where}
    return Example(str(image["id"]), inputs, [], metadata, group_of_record(image, where))
