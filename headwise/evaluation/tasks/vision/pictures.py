"""What tasks about pictures share: drawn scenes by default, or files of questions beside a folder of images."""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from headwise.errors import InputError
from headwise.evaluation.data.components import FileSplit
from headwise.evaluation.data.splits import draw_of_file
from headwise.evaluation.example import Example
from headwise.evaluation.task import Task
from headwise.readers.content import inside, shown

if TYPE_CHECKING:
    from PIL import Image

    from headwise.subject import Subject
    from headwise.zoo.data.scenes import Scene

QUESTION = "{question}"


@dataclass(frozen=True, kw_only=True)
class PictureTask(Task):
    """A task about pictures.

    Without `data` the pictures are drawn scenes of the zoo's test split, as noisy as `noise` says. With `data`
    they are files in the folder `images`, by default the folder that `data` is or lies in. They are opened
    when they are asked about; that they are there is checked before the model is run.
    """

    template: ClassVar[str] = "{prompt}"

    data: Path | None = None
    images: Path | None = None
    noise: float
    """Of drawn scenes; see `headwise.zoo.data.scenes.draw`."""
    prompt: str = QUESTION
    """What is asked; the question takes the place of `{question}`."""
    max_new_tokens: int = 16

    def __post_init__(self) -> None:
        if self.data is None and self.images is not None:
            raise InputError(
                "images= is the folder of the pictures that a file asks about, and there is no data=.",
                evidence=str(self.images),
                remedy="Give data=, or leave images= out for drawn scenes.",
            )
        if not 0 <= self.noise < float("inf"):
            raise InputError("Noise is 0 or more.", evidence=f"noise={self.noise}")
        if QUESTION not in self.prompt:
            raise InputError(
                "The prompt has no place for the question.",
                evidence=repr(self.prompt),
                remedy=f"Write {QUESTION} where it goes.",
            )
        if self.max_new_tokens < 1:
            raise InputError(
                "At least one token must be generated.", evidence=f"max_new_tokens={self.max_new_tokens}"
            )

    def options(self) -> dict[str, Any]:
        """The fields; without the noise where nothing is drawn."""
        found = super().options()
        if self.data is not None:
            del found["noise"]
        return found

    def check(self, subject: Subject) -> None:
        """Refuse a model that sees nothing.

        Raises:
            InputError: the model takes no pictures.
        """
        if "pixel_values" not in inspect.signature(subject.model.forward).parameters:
            raise InputError(
                f"{self.title} shows pictures, and this model takes none.",
                evidence=type(subject.model).__name__,
                remedy="Take a vision-language model, such as zoo:vlm.",
            )

    def examples(self) -> Sequence[Example]:
        """All there are: those of the file, or the task's own number of drawn scenes, with seed 0."""
        return self.drawn(None, 0) if self.data is None else self.listed(Path(self.data))

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """Examples of drawn scenes, or `n` of the file's, in its order.

        Raises:
            InputError: a file or a picture is missing or malformed, or there are fewer than `n` examples.
        """
        if self.data is None:
            return self.drawn(n, seed)
        chosen = self.chosen(self.listed(Path(self.data)), n, seed)
        for example in chosen:
            check_images(example)
        return chosen

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Examples about scenes of the validation split; of a file, about pictures of its own.

        Raises:
            InputError: a file or a picture is missing or malformed, or fewer than `n` are left.
        """
        if self.data is None:
            found = self.drawn(n, seed, scenes="validation")
            return [replace(example, id=f"validation/{example.id}") for example in found]
        chosen = super().validation(n, seed, exclude=exclude)
        for example in chosen:
            check_images(example)
        return chosen

    def chosen(
        self, examples: Sequence[Example], n: int | None, seed: int, split: FileSplit | None = None
    ) -> list[Example]:
        """`n` of the examples of a file; `split` is that of the whole file where they are a part of it."""
        return draw_of_file(examples, n, seed, what=self.title, split=split)

    def drawn(self, n: int | None, seed: int, *, scenes: str = "test") -> list[Example]:
        """Examples about drawn scenes of a split."""
        raise NotImplementedError

    def listed(self, data: Path) -> Sequence[Example]:
        """Examples of the file (or folder) `data`, all of them."""
        raise NotImplementedError

    def asked(self, question: str) -> str:
        """The prompt with the question in its place."""
        return self.prompt.replace(QUESTION, question)

    def picture(self, name: str, where: str) -> Path:
        """Path of a picture that the file names, within the folder of the pictures; `where` names file and line.

        Raises:
            InputError: the name leaves the folder.
        """
        return inside(name, self._folder, where=where)

    @cached_property
    def _folder(self) -> Path:
        data = Path(self.data or "")
        return Path(self.images or (data if data.is_dir() else data.parent))


def seen(count: int, seed: int, *, noise: float, split: str = "test") -> Iterator[tuple[Scene, Image.Image]]:
    """The first `count` scenes of a seed, with their pictures; both stay the same when `count` grows."""
    from headwise.zoo.data.scenes import draw, scenes

    for number, scene in enumerate(scenes(count, split=split, seed=seed)):
        blur = random.Random(f"noise/{seed}/{number}").getrandbits(63)
        yield scene, draw(scene, noise=noise, seed=blur)


def check_images(example: Example) -> None:
    """Refuse an example whose picture is not there.

    Raises:
        InputError: naming the picture, and where it is asked about (`example.metadata["where"]`).
    """
    images = example.inputs["image"]
    for path in images if isinstance(images, Sequence) else [images]:
        if not os.path.isfile(path):
            raise InputError(
                f"There is no picture {shown(path)}.",
                evidence=f"asked about in {example.metadata['where']}",
                remedy="Check images=, the folder of the pictures.",
            )


def one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that an option cannot have.

    Raises:
        InputError: listing the values that it can have.
    """
    if value not in allowed:
        raise InputError(
            f"There is no {option} {value!r}.",
            evidence=f"{option}={value!r}",
            remedy=f"One of {', '.join(allowed)}.",
        )
