"""`headwise eval`: score a model on a task."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from headwise.cli.options import Debug, Json
from headwise.cli.session import FAILED, progress_count, session
from headwise.cli.task_options import (
    BatchSize,
    Number,
    Out,
    Seed,
    Subject,
    TaskName,
    TaskOptions,
    bounds_of,
    check_bounds,
    check_outputs,
    options_of,
)
from headwise.text import shortened, visible


def evaluate(
    model: Subject,
    task: TaskName,
    options: TaskOptions = None,
    number: Number = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    out: Out = None,
    at_least: Annotated[
        list[str] | None,
        typer.Option(
            "--min", metavar="METRIC=VALUE", help="Exit with status 1 if a metric is below; repeat it."
        ),
    ] = None,
    at_most: Annotated[
        list[str] | None,
        typer.Option(
            "--max", metavar="METRIC=VALUE", help="Exit with status 1 if a metric is above; repeat it."
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a model on a task, with a 95 % interval for every metric."""
    with session(debug=debug):
        bounds = [*bounds_of(at_least, "--min"), *bounds_of(at_most, "--max")]
        paths = check_outputs(out, None, what="an evaluation")
        from headwise.evaluation.registry import find_task
        from headwise.evaluation.statistics.estimate import number_text, span

        asked = find_task(task, **options_of(options))
        check_bounds(bounds, asked)
        import headwise as hw
        from headwise.cli.session import quiet_transformers

        with quiet_transformers():
            subject = hw.load(model)
            with progress_count(f"Asking {asked.title}") as show:
                found = hw.evaluate(subject, asked, n=number, seed=seed, batch_size=batch_size, progress=show)
        for path in paths:
            found.save(path)
    failures = [text for bound in bounds if (text := _failure(found.estimates[bound[1]].value, *bound))]
    lines = [
        f"{item.metric:<18} {number_text(item.value, '.4f'):>9}   {span(item, '.4f')}   {item.unit}, {item.method}"
        for item in found.estimates.values()
    ]
    head = f"{asked.title}, n = {len(found.frame)}, seed {seed}: value and 95 % interval"
    lines = [
        head,
        *lines,
        *found.empty,
        *(f"warning: {shortened(text)}" for text in found.warnings),
        *(f"wrote {path}" for path in paths),
        *(f"failed: {text}" for text in failures),
    ]
    if as_json:
        answer = {
            "task": found.task,
            "estimates": [item.to_dict() for item in found.estimates.values()],
            "manifest": dict(found.manifest),
            "failures": failures,
        }
        typer.echo(json.dumps(answer, indent=1, allow_nan=False))
    else:
        typer.echo("\n".join(visible(line) for line in lines))
    raise typer.Exit(FAILED if failures else 0)


def list_tasks(as_json: Json = False) -> None:
    """List the tasks, what each asks, and its options."""
    with session(debug=False):
        from headwise.evaluation.registry import describe_tasks

        tasks = describe_tasks()
    if as_json:
        typer.echo(json.dumps(tasks, indent=1))
        return
    for task in tasks:
        typer.echo(f"{task['name']:<18} {shortened(task['about'])}")
        typer.echo(f"{'':<18} options: {', '.join(task['options'])}")


def _failure(value: float, flag: str, metric: str, bound: float) -> str:
    from headwise.evaluation.statistics.estimate import number_text

    if flag == "--min" and not value >= bound:
        return f"{metric} is {number_text(value, '.4f')}, below {bound:g}"
    if flag == "--max" and not value <= bound:
        return f"{metric} is {number_text(value, '.4f')}, above {bound:g}"
    return ""
