"""What the commands that ask a model share: options of a task, thresholds, files to write."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwise.errors import InputError

if TYPE_CHECKING:
    from headwise.evaluation.task import Task

Subject = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder, a hub name, or a model of the zoo (zoo:vlm).")
]
TaskName = Annotated[
    str, typer.Option("--task", metavar="NAME", help="The task; `headwise tasks` lists them.")
]
TaskOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="OPTION=VALUE", help="An option of the task, such as data=FILE; repeat it."
    ),
]
Number = Annotated[
    int | None,
    typer.Option("-n", min=1, help="Examples; all of a file, or the task's own number, without it."),
]
Seed = Annotated[int, typer.Option(min=0, help="Chooses the examples.")]
Out = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="File to write: .json, .parquet or .csv for the numbers, .html, .svg or .png for the figure; repeat it.",
    ),
]
SaveBest = Annotated[
    Path | None,
    typer.Option(
        metavar="SPEC",
        help="Write what is best as a spec, if it is better with p < 0.05; `headwise patch` reads it.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples that are run together.")]
Calibrate = Annotated[
    int, typer.Option(min=1, metavar="N", help="Examples of the validation split to fit or choose on.")
]
Guard = Annotated[
    bool,
    typer.Option(
        "--guard/--no-guard",
        help="Call nothing the best that clearly costs recall, length, or replies that can be read.",
    ),
]
SmallestEffect = Annotated[
    float | None,
    typer.Option(
        metavar="VALUE", help="A smaller difference in the metric that decides is not called clear."
    ),
]
Bound = tuple[str, str, float]
"""Flag, metric, value."""


def options_of(given: Sequence[str] | None) -> dict[str, Any]:
    """The options of a task, from OPTION=VALUE.

    Raises:
        InputError: one has another form, or is set twice.
    """
    return pairs_of(given, "--set", "OPTION=VALUE")


def bounds_of(given: Sequence[str] | None, flag: str) -> list[Bound]:
    """Thresholds, from METRIC=VALUE.

    Raises:
        InputError: one has another form, or a value that is not finite.
    """
    bounds = []
    for text in given or []:
        metric, value = pair_of(text, flag, "METRIC=VALUE")
        try:
            number = float(value)
        except ValueError:
            number = nan
        if not isfinite(number):
            raise InputError(f"{flag} needs a number.", evidence=text, remedy="Write METRIC=0.5.")
        bounds.append((flag, metric, number))
    return bounds


def check_bounds(bounds: Sequence[Bound], task: Task, *, directed: bool = False) -> None:
    """Refuse a threshold on a metric that the task does not have.

    Args:
        bounds: the thresholds.
        task: the task.
        directed: refuse metrics that are neither better when more nor when less, too.

    Raises:
        InputError: the task has no such metric.
    """
    known = {metric.name for metric in task.metrics if metric.higher_is_better is not None or not directed}
    for flag, metric, _ in bounds:
        if metric not in known:
            raise InputError(
                f"{task.title} has no metric {metric!r}{' that can gain' if directed else ''}.",
                evidence=f"{flag}; it has: {', '.join(sorted(known))}",
                remedy="Use one of these.",
            )


def pairs_of(given: Sequence[str] | None, flag: str, form: str) -> dict[str, str]:
    """Several NAME=VALUE as a mapping.

    Raises:
        InputError: one has another form, or a name stands twice.
    """
    pairs = [pair_of(text, flag, form) for text in given or []]
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InputError("An option is set twice.", evidence=name, remedy=f"Give each {flag} once.")
    return dict(pairs)


def pair_of(text: str, flag: str, form: str) -> tuple[str, str]:
    """Both sides of NAME=VALUE.

    Raises:
        InputError: a side is missing.
    """
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise InputError(f"This is no option of {flag}.", evidence=repr(text), remedy=f"Write {form}.")
    return name, value


def check_out(path: Path, *, what: str, suffixes: Sequence[str] = ()) -> None:
    """Refuse a file that could not be written, before anything is run.

    Args:
        path: the file.
        what: what would be written, with its article.
        suffixes: those that it can have; those of tables and figures when none is named.

    Raises:
        InputError: the folder is missing or cannot be written to, the suffix names no known form, or what draws
            pictures is not installed.
    """
    from headwise.cli.request import check_output
    from headwise.evaluation.results.io import DRAWN_SUFFIXES
    from headwise.figures.images import kaleido_for
    from headwise.files import check_suffix, suffix_of

    check_output(path)
    check_suffix(path, suffixes or DRAWN_SUFFIXES, what=what)
    if (suffix := suffix_of(path)) in (".svg", ".png"):
        kaleido_for(suffix[1:])


def check_outputs(out: Sequence[Path] | None, save_best: Path | None, *, what: str) -> list[Path]:
    """The files of --out, after refusing what could not be written there or in --save-best.

    Raises:
        InputError: a file cannot be written, or two things would go into one.
    """
    paths = list(out or [])
    for path in paths:
        check_out(path, what=what)
    if save_best is not None:
        check_out(save_best, what="a spec", suffixes=(".json",))
    check_apart(*paths, *([] if save_best is None else [save_best]))
    return paths


def check_apart(*paths: Path) -> None:
    """Refuse to write two things into one file.

    Raises:
        InputError: two of the paths lead to the same place.
    """
    places = [path.resolve() for path in paths]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(
                "Two things would be written to one file.",
                evidence=str(paths[number]),
                remedy="Give each a path of its own.",
            )
