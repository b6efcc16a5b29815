"""Tasks by name; packages add theirs through entry points of the group `headwise.tasks`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from headwise.errors import InputError
from headwise.evaluation.task import Task
from headwise.plugins import Plugins, needed, read_options

_HERE = "headwise.evaluation.tasks"

TASKS = Plugins(
    "task",
    "headwise.tasks",
    {
        "alignment": f"{_HERE}.translation.alignment:Alignment",
        "chair": f"{_HERE}.vision.chair:Chair",
        "colored-objects": f"{_HERE}.language.circuits:ColoredObjects",
        "copying": f"{_HERE}.language.recall:Copying",
        "induction": f"{_HERE}.attention.induction:Induction",
        "ioi": f"{_HERE}.language.circuits:Ioi",
        "multiple-choice": f"{_HERE}.language.multiple_choice:MultipleChoiceQuestions",
        "perplexity": f"{_HERE}.language.perplexity:Perplexity",
        "pope": f"{_HERE}.vision.pope:Pope",
        "pope-adversarial": f"{_HERE}.vision.pope:ADVERSARIAL",
        "pope-popular": f"{_HERE}.vision.pope:POPULAR",
        "pope-random": f"{_HERE}.vision.pope:RANDOM",
        "recall": f"{_HERE}.language.recall:Recall",
        "scene-color": f"{_HERE}.vision.scenes:COLOR",
        "scene-count": f"{_HERE}.vision.scenes:COUNT",
        "scene-existence": f"{_HERE}.vision.scenes:EXISTENCE",
        "sinks": f"{_HERE}.attention.sinks:Sinks",
        "transcription": f"{_HERE}.speech.transcription:Transcription",
        "translation": f"{_HERE}.translation.translation:Translation",
        "vqa": f"{_HERE}.vision.vqa:Vqa",
        "word-times": f"{_HERE}.speech.word_times:WordTimes",
        "yes-no": f"{_HERE}.vision.yes_no:YesNo",
    },
)


def task_names() -> tuple[str, ...]:
    """Every name that `hw.evaluate` knows.

    Example:
        >>> "pope-adversarial" in task_names()
        True
    """
    return TASKS.names()


def describe_tasks() -> list[dict[str, Any]]:
    """Name, first line of its description and options of every task."""
    return [
        {
            "name": name,
            "about": (_class_of(name).__doc__ or "").strip().splitlines()[0],
            "options": [item.name for item in fields(_class_of(name))],
        }
        for name in task_names()
    ]


def find_task(name: str, **options: Any) -> Task:
    """The task called `name`, with its options.

    Options may be strings, as they come from a command line; they are turned into the type of the field; lists
    are written as JSON.

    Raises:
        InputError: there is no such task or option, or a value is of the wrong kind.

    Example:
        >>> find_task("pope-random", noise="1.8").noise
        1.8
    """
    found = TASKS.get(name)
    kind = _class_of(name)
    hints = get_type_hints(kind)
    own = {item.name: hints[item.name] for item in fields(kind)}
    values = read_options(repr(name), own, options, word="option")
    fixed = getattr(found, "keywords", {})
    missing = needed(kind, {**fixed, **values})
    if missing:
        raise InputError(
            f"The task {name!r} needs an option.",
            evidence=", ".join(missing),
            remedy=f"find_task({name!r}, {missing[0]}=...), or --set {missing[0]}=VALUE.",
        )
    return found(**values)


def _class_of(name: str) -> type[Task]:
    """The class behind a name; a variant of a task is a partial of its class."""
    found: Any = TASKS.get(name)
    return getattr(found, "func", found)
