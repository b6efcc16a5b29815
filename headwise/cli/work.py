"""What the commands do once their arguments are known to be good: load, prepare, run, write."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import headwise as hw
from headwise.cli.request import Request
from headwise.cli.session import progress, quiet_transformers
from headwise.errors import InputError
from headwise.reports.data import gather
from headwise.reports.page import write_page

if TYPE_CHECKING:
    from headwise.probes.doctor import DoctorReport
    from headwise.probes.trace import Trace
    from headwise.subject import Subject


def write_report(
    request: Request, out: Path, *, generate: int = 0, judge_sinks: bool = False
) -> dict[str, Any]:
    """Load, run once, write the report.

    Returns:
        The answer of `headwise report --json`.

    Raises:
        InputError: with `judge_sinks`, when the input is too short to say whether heads have sinks.
    """
    more = f"max_new_tokens={generate}, do_sample=False"
    use = f"    subject.model.generate(**inputs, {more})" if generate else "    subject.model(**inputs)"
    call = request.python("with hw.capture(subject) as trace:", use, f"hw.report(trace, {str(out)!r})")
    options = ("--generate", str(generate)) if generate else ()
    command = request.shell("report", *options, "--out", str(out))
    with quiet_transformers():
        subject, notes = load(request.model)
        trace = _run(subject, request, keep={}, generate=generate)
        with progress("Writing the report"):
            content = gather(trace, subject=subject, call=call, command=command)
            content = replace(content, warnings=(*notes, *content.warnings))
            if judge_sinks and content.sink_share is None:
                raise InputError(
                    "No key was seen by four rows, so no sink can be judged.", remedy="Give more text."
                )
            write_page(content, out)
    return {
        "path": str(out),
        "model": content.title,
        "verdict": content.verdict,
        "warnings": content.warnings,
        "heads_with_sink": content.sink_share,
        **{table.key: table.records() for table in content.tables},
        "provenance": dict(content.provenance),
        "call": call,
        "command": command,
    }


def write_trace(request: Request, out: Path, *, keep: Mapping[str, bool], generate: int) -> dict[str, Any]:
    """Load, run, save what was captured.

    Returns:
        The answer of `headwise trace --json`.
    """
    with quiet_transformers():
        subject, notes = load(request.model)
        trace = _run(subject, request, keep=keep, generate=generate)
        with progress("Writing the trace"):
            trace.save(out)
    return {
        "path": str(out),
        "bytes": out.stat().st_size,
        "model": trace.meta.get("model"),
        "examples": trace.examples,
        "sites": [str(site) for site in trace.sites],
        "unreached": trace.unreached,
        "warnings": (*notes, *trace.warnings),
    }


def examine(request: Request) -> DoctorReport:
    """Load and compare with eager attention, on the given inputs or on the doctor's own."""
    with quiet_transformers():
        subject, _ = load(request.model)
        inputs = None if request.empty else subject.prepare(**request.arguments())
        with progress("Comparing with eager attention"):
            return hw.doctor(subject, inputs)


def load(model: str) -> tuple[Subject, list[str]]:
    """The subject, and what was said while it was loaded (weights that are missing)."""
    with progress(f"Loading {model}"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        subject = hw.load(model)
    return subject, list(dict.fromkeys(str(warning.message) for warning in caught))


def _run(subject: Subject, request: Request, *, keep: Mapping[str, Any], generate: int) -> Trace:
    model: Any = subject.model
    inputs = subject.prepare(**request.arguments())
    if generate:
        check_generation(subject, inputs, generate)
    with (
        progress("Generating" if generate else "Running the model", total=generate or None) as advance,
        hw.capture(subject, **keep) as trace,
        torch.no_grad(),
    ):
        counter = model.register_forward_hook(lambda *_: advance())
        try:
            if generate:
                model.generate(**inputs, max_new_tokens=generate, do_sample=False)
            else:
                model(**inputs)
        finally:
            counter.remove()
    return trace


def check_generation(subject: Subject, inputs: Mapping[str, Any], generate: int) -> None:
    """Refuse to generate what the model cannot, or more than it has positions for."""
    if not subject.model.can_generate():
        name = type(subject.model).__name__
        raise InputError("This model generates nothing.", evidence=name, remedy="Leave --generate out.")
    prompt = inputs.get("decoder_input_ids", inputs.get("input_ids"))
    limit = getattr(subject.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if prompt is not None and limit is not None and prompt.shape[1] + generate > limit:
        raise InputError(
            f"The prompt and what is to be generated are longer than the model's {limit} positions.",
            evidence=f"{prompt.shape[1]} + {generate} tokens",
            remedy="Lower --generate, or shorten the text.",
        )
