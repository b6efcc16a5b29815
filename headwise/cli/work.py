"""What the commands do once their arguments are known to be good: load, prepare, run, write."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import headwise as hw
from headwise.cli.request import Request
from headwise.cli.session import progress, quiet_transformers
from headwise.probes.selection import Selection
from headwise.reports.look import check_generation

if TYPE_CHECKING:
    from headwise.probes.doctor import DoctorReport
    from headwise.probes.trace import Trace
    from headwise.subject import Subject


def write_trace(request: Request, out: Path, *, keep: Mapping[str, Any], generate: int) -> dict[str, Any]:
    """Load, run, save what was captured.

    Returns:
        The answer of `headwise trace --json`.
    """
    for option, choice in keep.items():
        Selection.of(choice, option)  # refused before anything is loaded
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
