"""What `headwise report` does once its arguments are known to be good: load, compare, run, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import headwise as hw
from headwise.analyses.calls import analysis_calls, needs_of
from headwise.cli._run import load
from headwise.cli.request import Request
from headwise.cli.session import progress, progress_count, quiet_transformers
from headwise.errors import InputError
from headwise.evaluation.registry import find_task
from headwise.files import file_name
from headwise.reports.collect.build import build_content
from headwise.reports.collect.comparisons import changed_examples
from headwise.reports.collect.example_runs import example_runs
from headwise.reports.page.page import LIMIT, facts, write_page

if TYPE_CHECKING:
    from headwise.evaluation.results.comparison import Comparison
    from headwise.subject import Subject

SAMPLES = 3
"""Examples of a task that are shown where no input is given."""


@dataclass(frozen=True)
class FixComparison:
    """Fixes to show, and the task that says whether they help."""

    fixes: tuple[str, ...] = ()
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    number: int | None = None
    seed: int = 0

    def flags(self) -> list[str]:
        """As options of the command; files by their names."""
        flags = [part for fix in self.fixes for part in ("--fix", file_name(fix))]
        if self.task is not None:
            flags += ["--task", self.task]
            named = {name: file_name(str(value)) for name, value in self.options.items()}
            flags += [part for name, value in named.items() for part in ("--set", f"{name}={value}")]
            flags += ["-n", str(self.number)] if self.number is not None else []
            flags += ["--seed", str(self.seed)] if self.seed else []
        return flags


def write_report(
    request: Request,
    out: Path,
    *,
    generate: int = 0,
    fix_comparison: FixComparison | None = None,
    limit: int = LIMIT,
    judge_sinks: bool = False,
    analyses: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Load, compare the fixes, run the examples without and with the first, write the page.

    Returns:
        The answer of `headwise report --json`.

    Raises:
        InputError: with `judge_sinks`, when the input is too short to say whether heads have sinks.
    """
    fix_comparison = fix_comparison or FixComparison()
    command = _shell(request, out, generate, fix_comparison, limit, analyses or ())
    with quiet_transformers():
        subject, notes = load(request.model)
        comparison = _compared(subject, fix_comparison)
        examples = _examples(request, subject, fix_comparison, comparison, generate)
        fixes = comparison.arms[1].fixes if comparison else fix_comparison.fixes
        with progress_count("Running the examples") as advance:
            keep = needs_of(analysis_calls(analyses)) if analyses else {}
            runs = example_runs(
                subject, examples, generate=generate, fixes=list(fixes), progress=advance, keep=keep
            )
        if comparison is not None:
            runs = replace(runs, fix=comparison.arms[1].label)
        with progress("Writing the report"):
            source = [runs] if comparison is None else [runs, comparison]
            content = build_content(source, call="", command=command, analyses=analyses)
            content = replace(content, warnings=tuple(dict.fromkeys((*notes, *content.warnings))))
            if judge_sinks and content.sink_share is None:
                raise InputError(
                    "No key was seen by four rows, so no sink can be judged.", remedy="Give more text."
                )
            written = write_page(content, out, limit=limit)
    return {"path": str(written.path), "bytes": written.bytes, "files": written.files, **facts(content)}


def _compared(subject: Subject, fix_comparison: FixComparison) -> Comparison | None:
    if fix_comparison.task is None:
        return None
    task = find_task(fix_comparison.task, **fix_comparison.options)
    number, seed = fix_comparison.number, fix_comparison.seed
    with progress_count(f"Asking {task.title}") as advance:
        return hw.compare(subject, task, list(fix_comparison.fixes), n=number, seed=seed, progress=advance)


def _examples(
    request: Request,
    subject: Subject,
    fix_comparison: FixComparison,
    comparison: Comparison | None,
    generate: int,
) -> list[dict[str, Any]]:
    """The inputs that were given; else what the fix changed; else the zoo's own."""
    if not request.empty or comparison is None or fix_comparison.task is None:
        return request.examples(generate)
    task = find_task(fix_comparison.task, **fix_comparison.options)
    replies = bool(getattr(subject.config, "is_encoder_decoder", False)) and not generate
    return changed_examples(comparison, task, request.samples or SAMPLES, replies=replies)


def _shell(
    request: Request,
    out: Path,
    generate: int,
    fix_comparison: FixComparison,
    limit: int,
    analyses: Sequence[str],
) -> str:
    more = ["--generate", str(generate)] if generate else []
    more += ["--max-size", f"{limit / 1e6:g}"] if limit != LIMIT else []
    more += [part for name in analyses for part in ("--analysis", name)]
    return request.shell("report", *fix_comparison.flags(), *more, "--out", file_name(out))
