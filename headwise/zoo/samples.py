"""One real input for every model of the zoo, to look at before there is data of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headwise.errors import InputError
from headwise.zoo.registry import PREFIX

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


def sample(name: str) -> Sample:
    """The input that shows a model of the zoo.

    Raises:
        InputError: the zoo has no such model.

    Example:
        >>> sample("zoo:vlm").inputs["image"].size
        (48, 48)
    """
    makers = {"lm": _paragraph, "vlm": _scene, "speech": _sentence, "nmt": _date}
    model = name.removeprefix(PREFIX).partition("@")[0]
    if model not in makers:
        raise InputError(
            f"There is no sample for {name!r}.",
            evidence=f"there are: {', '.join(makers)}",
            remedy="Name a model of the zoo.",
        )
    return makers[model]()


def _paragraph() -> Sample:
    from headwise.zoo.data.text import shipped_test

    text = next(text for text in shipped_test() if len(text) in _LENGTH)
    return Sample("a paragraph of the Python documentation", {"text": text})


def _scene() -> Sample:
    from headwise.zoo.data.scenes import draw, scenes

    (scene,) = scenes(1, split="test", seed=1)
    picture = draw(scene, noise=1.0, seed=1)
    question = f"is there a {scene.objects[0].shape} in the image ?"
    return Sample("a drawn scene with a question", {"text": question, "image": picture}, generate=4)


def _sentence() -> Sample:
    from headwise.zoo.data.clips import shipped_clips

    clip = max(shipped_clips(), key=lambda clip: len(clip.words))
    return Sample("a spoken sentence", {"audio": clip.path, "target": " ".join(clip.words)})


def _date() -> Sample:
    from headwise.zoo.data.phrases import shipped_pairs

    pair = next(pair for pair in shipped_pairs("sw") if pair.kind == "territory_date")
    return Sample(
        "a date and its translation into Swahili", {"text": pair.source.text, "target": pair.target.text}
    )
