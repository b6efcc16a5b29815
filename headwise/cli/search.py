"""`headwise search`: the strength of a fix, chosen on validation examples and judged once on test examples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from headwise.cli.compare import table_lines
from headwise.cli.options import Debug, Json
from headwise.cli.session import progress_count, session
from headwise.cli.task_options import (
    BatchSize,
    Calibrate,
    Guard,
    Number,
    Out,
    SaveBest,
    Seed,
    SmallestEffect,
    Subject,
    TaskName,
    TaskOptions,
    check_outputs,
    options_of,
    pairs_of,
)
from headwise.errors import InputError
from headwise.text import visible

if TYPE_CHECKING:
    from headwise.evaluation.results.search import Search


def search(
    model: Subject,
    fix: Annotated[
        str, typer.Option("--fix", metavar="FIX", help="The fix, with options if need be: VAR:rho=0.5.")
    ],
    task: TaskName,
    options: TaskOptions = None,
    trials: Annotated[
        int, typer.Option(min=2, help="Settings to try, the first of which is no change.")
    ] = 20,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH",
            help="A parameter and its range; what the fix names without it; repeat it.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to choose by; the task's first metric without it."),
    ] = None,
    number: Number = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    calibrate: Calibrate = 200,
    guard: Guard = True,
    smallest_effect: SmallestEffect = None,
    out: Out = None,
    save_best: SaveBest = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Search the strength of a fix on validation examples, and judge the best once on test examples."""
    with session(debug=debug):
        bounds = _space(space)
        paths = check_outputs(out, save_best, what="a search")
        from headwise.evaluation.comparison.arms import parse_arms
        from headwise.evaluation.registry import find_task
        from headwise.evaluation.statistics.multiple import check_smallest_effect
        from headwise.optional import extra

        check_smallest_effect(smallest_effect)
        asked = find_task(task, **options_of(options))
        parse_arms(fix)
        extra("optuna", "Strengths are searched", group="search")
        import headwise as hw
        from headwise.cli.session import quiet_transformers

        with quiet_transformers():
            subject = hw.load(model)
            with progress_count(f"Trying settings on {asked.title}") as show:
                found = hw.search(
                    subject,
                    asked,
                    fix,
                    trials=trials,
                    n=number,
                    seed=seed,
                    space=bounds,
                    metric=metric,
                    batch_size=batch_size,
                    calibrate=calibrate,
                    guard=guard,
                    smallest_effect=smallest_effect,
                    progress=show,
                )
        for path in paths:
            found.save(path)
        better = _is_better(found)
        if save_best is not None and better:
            from headwise.fixes.spec.specs import save_spec

            save_spec(save_best, found.fix, subject)
            paths = [*paths, save_best]
    if as_json:
        typer.echo(json.dumps({**found.to_dict(), "better": better}, indent=1, allow_nan=False))
        return
    notes = found.manifest["notes"].get("warnings", ())
    judged = map("warning: {}".format, notes) if found.comparison is None else table_lines(found.comparison)
    lines = [*judged, "", found.summary]
    if save_best is not None and not better:
        lines.append(
            "no spec was written: the best setting is not better than none with p < 0.05 on test examples"
        )
    for line in (*lines, *(f"wrote {path}" for path in paths)):
        typer.echo(visible(line, limit=2000))


def _space(given: list[str] | None) -> dict[str, tuple[float, float]] | None:
    """The ranges, from NAME=LOW:HIGH."""
    if not given:
        return None
    found = {}
    for name, span in pairs_of(given, "--space", "NAME=LOW:HIGH").items():
        ends = span.split(":")
        try:
            low, high = (float(end) if "." in end or "e" in end else int(end) for end in ends)
        except ValueError as error:
            raise InputError(
                "--space needs two numbers.",
                evidence=f"{name}={span}",
                remedy="Write NAME=LOW:HIGH, such as p=0.1:0.9.",
            ) from error
        found[name] = (low, high)
    return found


def _is_better(found: Search) -> bool:
    """True when the judgement on the test examples is clear, and for the better."""
    if found.comparison is None:
        return False
    arm = found.comparison.arms[1]
    change = arm.differences[found.metric]
    return change.gain > 0 and change.clear and not found.comparison.costs(arm, found.metric)
