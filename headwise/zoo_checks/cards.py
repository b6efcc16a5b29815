"""Model cards of the zoo: what is stated about a model is measured, and can be measured again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation import evaluate
from headwise.evaluation.registry import find_task
from headwise.evaluation.results.evaluation import Evaluation
from headwise.evaluation.statistics.estimate import Estimate
from headwise.files import replacing
from headwise.subject import Subject, load
from headwise.zoo.registry import PREFIX, zoo_folder

CARD = "card.json"
_FACTS = Path(str(files("headwise.zoo"))) / "facts"

Show = Callable[[str, int, int], None]
"""Told what is being measured, how many examples are done, and of how many."""


@dataclass(frozen=True)
class Measurement:
    """One evaluation that a card quotes: a task with its options, and the metrics quoted from it."""

    task: str
    n: int
    metrics: tuple[str, ...]
    about: str
    """What the numbers mean, for the reader of the card."""
    options: Mapping[str, Any]
    seed: int = 0

    def run(self, subject: Subject, show: Show | None = None) -> Evaluation:
        """Measure it."""
        task = find_task(self.task, **self.options)
        told = None if show is None else lambda done, total: show(task.title, done, total)
        return evaluate(subject, task, n=self.n, seed=self.seed, progress=told)


@dataclass(frozen=True)
class Check:
    """One figure of a card, measured again."""

    figure: str
    stated: float
    low: float
    high: float
    found: float
    n: int

    @property
    def holds(self) -> bool:
        """True when the new number lies in the stated interval.

        An interval without width says that all examples scored alike. Up to 3 in n of the next might not (the rule
        of three, at 95 %), and each may change the number by as much as it is.
        """
        slack = 3 / self.n * abs(self.stated) if self.low == self.high else 0.0
        return self.low - slack <= self.found <= self.high + slack


def read_facts(name: str) -> dict[str, Any]:
    """What people wrote about a model: data, licence, priors, limits, and what is to be measured."""
    return tomllib.loads((_FACTS / f"{name.removeprefix(PREFIX)}.toml").read_text(encoding="utf-8"))


def measurements(name: str) -> list[Measurement]:
    """What the card of a model quotes."""
    return [
        Measurement(
            item["task"],
            item["n"],
            tuple(item["metrics"]),
            item["about"],
            item.get("options", {}),
            item.get("seed", 0),
        )
        for item in read_facts(name)["measure"]
    ]


def read_card(name: str) -> dict[str, Any]:
    """The card of a model of the zoo.

    Raises:
        LoadError: there is no such model.

    Example:
        >>> read_card("zoo:nmt")["class"]
        'M2M100ForConditionalGeneration'
    """
    return json.loads((zoo_folder(name) / CARD).read_text(encoding="utf-8"))


def measure(name: str, *, show: Show | None = None) -> dict[str, Any]:
    """Measure everything on the card of a model, and write `card.json` and `README.md` beside its weights."""
    from headwise.zoo_checks.card_text import card_text

    folder = zoo_folder(name)
    subject = load(f"{PREFIX}{name.removeprefix(PREFIX)}")
    figures = [figure for item in measurements(name) for figure in _figures(item, item.run(subject, show))]
    facts = {key: value for key, value in read_facts(name).items() if key != "measure"}
    training = folder / "training.json"
    card = {
        "name": name,
        "class": type(subject.model).__name__,
        "parameters": sum(value.numel() for value in subject.model.parameters()),
        "bytes": (folder / "model.safetensors").stat().st_size,
        **facts,
        "figures": figures,
        "training": json.loads(training.read_text(encoding="utf-8")) if training.is_file() else None,
    }
    with replacing(folder / CARD) as part:
        part.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with replacing(folder / "README.md") as part:
        part.write_text(card_text(card), encoding="utf-8")
    return card


def verify(names: Sequence[str], *, show: Show | None = None) -> Iterator[tuple[str, Check]]:
    """Measure every figure on the cards again.

    Yields:
        The model and the check, as they are done.

    Raises:
        InputError: a card quotes a figure that its facts do not name, or lacks one that they do.
    """
    for name in names:
        stated = {figure["key"]: figure for figure in read_card(name)["figures"]}
        named = {_key(item, metric) for item in measurements(name) for metric in item.metrics}
        differ = sorted(named ^ set(stated))
        if differ:
            raise InputError(
                f"The card of {name} {'lacks' if differ[0] in named else 'states'} a figure that its facts "
                f"{'name' if differ[0] in named else 'do not name'}.",
                evidence=differ[0],
                remedy=f"headwise zoo measure {name}",
            )
        subject = load(f"{PREFIX}{name.removeprefix(PREFIX)}")
        for item in measurements(name):
            for figure in _figures(item, item.run(subject, show)):
                old = stated[figure["key"]]
                yield (
                    name,
                    Check(figure["key"], old["value"], old["low"], old["high"], figure["value"], item.n),
                )


def _key(item: Measurement, metric: str) -> str:
    options = "".join(f", {key}={value}" for key, value in item.options.items())
    return f"{item.task}{options}: {metric}"


def _figures(item: Measurement, found: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "key": _key(item, metric),
            "task": item.task,
            "options": dict(item.options),
            "n": item.n,
            "seed": item.seed,
            "metric": metric,
            "about": item.about,
            **_rounded(found.estimates[metric]),
        }
        for metric in item.metrics
    ]


def _rounded(estimate: Estimate) -> dict[str, Any]:
    low, high = (round(value, 6) for value in (estimate.low, estimate.high))
    return {"value": round(estimate.value, 6), "low": low, "high": high, "unit": estimate.unit}
