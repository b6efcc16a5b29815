"""`headwise compare`: a task without a fix and with each of several."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from math import isnan
from typing import TYPE_CHECKING, Annotated

import typer

from headwise.cli.options import Debug, Json
from headwise.cli.session import FAILED, progress_count, session
from headwise.cli.task_options import (
    BatchSize,
    Bound,
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
    bounds_of,
    check_bounds,
    check_outputs,
    options_of,
)
from headwise.text import visible

if TYPE_CHECKING:
    from headwise.evaluation.results.arm import Arm
    from headwise.evaluation.results.comparison import Comparison

_WIDTH = 24
"""Characters of a label."""


def compare(
    model: Subject,
    task: TaskName,
    fixes: Annotated[
        list[str],
        typer.Option(
            "--fix",
            metavar="FIX",
            help="An arm: VAR, VHR:alpha=1.5, VAR+VHR for both together, or a spec.json; repeat it.",
        ),
    ],
    options: TaskOptions = None,
    number: Number = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    calibrate: Calibrate = 200,
    guard: Guard = True,
    smallest_effect: SmallestEffect = None,
    out: Out = None,
    save_best: SaveBest = None,
    min_gain: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="Exit with status 1 if no arm gains that much; repeat it."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a model without a fix and with each of several, on the same examples, with paired intervals."""
    with session(debug=debug):
        bounds = bounds_of(min_gain, "--min-gain")
        paths = check_outputs(out, save_best, what="a comparison")
        from headwise.evaluation.comparison.arms import parse_arms
        from headwise.evaluation.registry import find_task
        from headwise.evaluation.statistics.multiple import check_smallest_effect

        check_smallest_effect(smallest_effect)
        asked = find_task(task, **options_of(options))
        check_bounds(bounds, asked, directed=True)
        parse_arms(fixes)
        import headwise as hw
        from headwise.cli.session import quiet_transformers

        with quiet_transformers():
            subject = hw.load(model)
            with progress_count(f"Asking {asked.title}") as show:
                found = hw.compare(
                    subject,
                    asked,
                    fixes,
                    n=number,
                    seed=seed,
                    batch_size=batch_size,
                    calibrate=calibrate,
                    guard=guard,
                    smallest_effect=smallest_effect,
                    progress=show,
                )
        for path in paths:
            found.save(path)
        best = found.best
        if save_best is not None and best is not None:
            from headwise.fixes.spec.specs import save_spec

            save_spec(save_best, best.fixes, subject)
            paths = [*paths, save_best]
    failures = [text for bound in bounds if (text := _failure(found, bound))]
    if as_json:
        answer = {
            **found.to_dict(),
            "summary": found.summary,
            "best": best.label if best else None,
            "failures": failures,
        }
        typer.echo(json.dumps(answer, indent=1, allow_nan=False))
    else:
        typer.echo("\n".join(visible(line, limit=2000) for line in table_lines(found)))
        if save_best is not None and best is None:
            costly = any(found.costs(arm) for arm in found.arms[1:])
            also = " and keeps what is guarded (--no-guard)" if costly else ""
            typer.echo(f"no spec was written: no arm is better than none with p < 0.05{also}")
        for line in (*(f"wrote {path}" for path in paths), *(f"failed: {text}" for text in failures)):
            typer.echo(visible(line))
    raise typer.Exit(FAILED if failures else 0)


def table_lines(comparison: Comparison) -> Iterator[str]:
    """The comparison as lines of at most 100 characters: a block per metric, then the cost, then the finding."""
    from headwise.evaluation.results.arm import cut, effect_note
    from headwise.evaluation.statistics.multiple import of_finding
    from headwise.figures.labels import counted

    manifest, arms = comparison.manifest, list(comparison.arms)
    width = min(_WIDTH, max(len(arm.label) for arm in arms))
    names = list(arms[0].estimates)
    told = of_finding(names)
    yield f"{comparison.task}, n = {comparison.n}, seed {manifest['seed']}; 95 % intervals"
    yield "difference to none, p of the paired permutation test by Holm's rule:"
    others = f"; of others over all {len(names) * (len(arms) - 1)} tests" if len(told) < len(names) else ""
    yield f"of {', '.join(told)} over these and {counted(len(arms) - 1, 'arm')}{others}"
    ways = [item.method for arm in arms[1:] for item in arm.differences.values() if item.p < 1]
    if ways:
        how = dict.fromkeys(re.split("[,;]", way)[0] for way in ways)
        yield f"intervals of differences: {', '.join(how)}"
    if note := effect_note(arms[1]):
        yield note
    if manifest["fitted"]["on"]:
        yield f"fitted on {manifest['fitted']['on']}"
        for label, fixes in manifest["fitted"]["fixes"].items():
            yield f"  {label}: {'; '.join(fix['parameters'].get('source') or fix['fix'] for fix in fixes)}"
    for name, number in arms[0].estimates.items():
        better = {True: ", more is better", False: ", less is better", None: ""}[number.higher_is_better]
        yield ""
        yield f"{name} ({number.unit}{better}; {_method(arms, name)})"
        for arm in arms:
            yield f"  {cut(arm.label, width):<{width}} {_numbers(arm, name)}"
    yield ""
    yield "cost per token, as a ratio to none (one run, noisy), and examples that change"
    for arm in arms:
        name = f"{cut(arm.label, width):<{width}}"
        yield f"  {name}   time {arm.cost.wall:5.2f}   CPU {arm.cost.cpu:5.2f}{_effect(arm, comparison.n)}"
    yield from (f"warning: {said}" for said in manifest.get("notes", {}).get("warnings", ()))
    yield ""
    yield comparison.summary


def _method(arms: Sequence[Arm], metric: str) -> str:
    """How the intervals of a metric were found, without the number of resamples."""
    return " or ".join(dict.fromkeys(re.split("[,;]", arm.estimates[metric].method)[0] for arm in arms))


def _numbers(arm: Arm, metric: str) -> str:
    from headwise.evaluation.results.arm import no_p, p_text
    from headwise.evaluation.statistics.estimate import number_text, span

    number, change = arm.estimates[metric], arm.differences.get(metric)
    text = f"{number_text(number.value, '.4f'):>9} {span(number, '.4f')}"
    if change is None:
        return text
    p = no_p(change) if isnan(change.p_holm) else f"p {p_text(change.p_holm)}"
    return f"{text:<28} {number_text(change.value, '+.4f'):>9} {span(change, '+.4f')}  {p}"


def _effect(arm: Arm, n: int) -> str:
    if not arm.differences:
        return ""
    flips = "" if arm.repaired is None else f": {arm.repaired} repaired, {arm.broken} broken"
    future = "; reads the future" if arm.leaks_future else ""
    return f"   {arm.changed} of {n} change{flips}{future}"


def _failure(comparison: Comparison, bound: Bound) -> str:
    """Why no arm gains as much as was asked for; empty when one does."""
    from headwise.evaluation.statistics.estimate import number_text

    _, metric, least = bound
    effect = max(arm.differences[metric].smallest_effect for arm in comparison.arms[1:])
    least = max(least, effect) if least > 0 else least
    gains = [(arm, arm.differences[metric].gain) for arm in comparison.arms[1:]]
    if any(gain >= least and not comparison.costs(arm, metric) for arm, gain in gains):
        return ""
    each = ", ".join(
        f"{arm.label} {number_text(gain, '+.4f')}{_costs(comparison.costs(arm, metric))}"
        for arm, gain in gains
    )
    return f"no arm gains {least:g} in {metric}: {each}"


def _costs(lost: list[str]) -> str:
    return f" (but {'; '.join(lost)})" if lost else ""
