"""One real input for every model of the zoo, to look at before there is data of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from headwise.errors import InputError
from headwise.zoo.registry import PREFIX

MOST = 16
_LENGTH = range(300, 500)
"""Characters of the paragraph that the language model reads."""


@dataclass(frozen=True)
class Sample:
    """An input of the test split."""

    title: str
    """What it is, in a few words."""
    inputs: Mapping[str, Any]
    """Keywords of `Subject.prepare`."""
    generate: int = 0
    """Tokens to generate after it; 0 for a decoder that is given its target."""
    languages: tuple[str, str] | None = None
    """From and to, for a model that translates."""

    def example(self, generate: int = 0) -> dict[str, Any]:
        """As an example of `hw.report`; without the words that the decoder is to find itself, where it generates.

        Args:
            generate: tokens that will be generated.
        """
        inputs = dict(self.inputs)
        if generate:
            inputs.pop("target", None)
            inputs |= {"languages": self.languages} if self.languages else {}
        return inputs


def sample(name: str) -> Sample:
    """The input that shows a model of the zoo.

    Raises:
        InputError: the zoo has no such model.

    Example:
        >>> sample("zoo:vlm").inputs["image"].size
        (48, 48)
    """
    return samples(name, 1)[0]


def samples(name: str, count: int) -> tuple[Sample, ...]:
    """Several inputs that show a model of the zoo; the first is `sample(name)`.

    Raises:
        InputError: the zoo has no such model, or less than one or more than sixteen inputs are asked for.

    Example:
        >>> [one.inputs["text"] for one in samples("zoo:nmt", 2)]
        ['Guernsey, Sunday, November 22, 1992.', 'Lesotho, Friday, September 10, 2010.']
    """
    makers = {"lm": _paragraphs, "vlm": _scenes, "speech": _sentences, "nmt": _dates}
    model = re.split("[@+]", name.removeprefix(PREFIX))[0]
    if model not in makers:
        raise InputError(
            f"There is no sample for {name!r}.",
            evidence=f"there are: {', '.join(makers)}",
            remedy="Name a model of the zoo.",
        )
    if not 1 <= count <= MOST:
        raise InputError(f"There are 1 to {MOST} samples, not {count}.")
    return tuple(islice(makers[model](count), count))


def _paragraphs(count: int) -> Iterator[Sample]:
    from headwise.zoo.data.text import shipped_test

    for text in shipped_test():
        if len(text) in _LENGTH:
            yield Sample("a paragraph of the Python documentation", {"text": text})


def _scenes(count: int) -> Iterator[Sample]:
    from headwise.zoo.data.scenes import draw, scenes

    for number, scene in enumerate(scenes(count, split="test", seed=1), start=1):
        picture = draw(scene, noise=1.0, seed=number)
        question = f"is there a {scene.objects[0].shape} in the image ?"
        yield Sample("a drawn scene with a question", {"text": question, "image": picture}, generate=4)


def _sentences(count: int) -> Iterator[Sample]:
    from headwise.zoo.data.clips import shipped_clips

    for clip in sorted(shipped_clips(), key=lambda clip: -len(clip.words)):
        yield Sample("a spoken sentence", {"audio": clip.path, "target": " ".join(clip.words)})


def _dates(count: int) -> Iterator[Sample]:
    from headwise.zoo.data.phrases import shipped_pairs

    for pair in shipped_pairs("sw"):
        if pair.kind == "territory_date":
            inputs = {"text": pair.source.text, "target": pair.target.text}
            yield Sample(
                "a date and its translation into Swahili", inputs, languages=("eng_Latn", "swh_Latn")
            )
