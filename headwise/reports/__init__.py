"""Reports: sources and runs of examples are collected (`collect`) as `content`, which is written as a `page`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.files import file_name

if TYPE_CHECKING:
    from headwise.analyses import Analysis, Result
    from headwise.evaluation.results.comparison import Comparison
    from headwise.probes.trace.trace import Trace
    from headwise.reports.collect.comparisons import changed_examples
    from headwise.reports.collect.example_runs import ExampleRuns
    from headwise.subject import Subject

__all__ = ["changed_examples", "report"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name == "changed_examples":
        from headwise.reports.collect.comparisons import changed_examples

        return changed_examples
    from headwise.plugins import unknown_attribute

    raise unknown_attribute(__name__, name, __all__)


def report(
    source: Subject
    | Trace
    | Result
    | Comparison
    | ExampleRuns
    | Sequence[Trace | Result | Comparison | ExampleRuns],
    path: str | Path,
    *,
    examples: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    generate: int = 0,
    fixes: Any = (),
    subject: Subject | None = None,
    analyses: Sequence[str | Analysis[Any]] | None = None,
    title: str | None = None,
    call: str | None = None,
    command: str | None = None,
    limit: int = 10_000_000,
) -> Path:
    """Write one self-contained HTML page that says what the heads did, where, and on which example.

    It opens without a network and without a server. Every head, map cell and example has its own address
    (`#head-text-12-07`).

    Args:
        source: a subject, which is run on the `examples`; a trace, on which the first analyses are run (sinks, sink
            rate, entropy, mass per role, distance); results; comparisons, which show before and after and the
            answers that changed; or a list of these. Of two traces the second is the model with a fix on. Patterns
            are shown where the trace holds them (`maps=True`), or the source is a subject.
        path: the file to write.
        examples: keywords of `Subject.prepare`, one mapping per example. A subject is run on them one by one (a model
            of the zoo has its own); beside a trace they bring the pictures and the sound of its examples.
        generate: with a subject, tokens to generate greedily after each example.
        fixes: with a subject, what to run the examples with a second time: the maps then show before, after and the
            difference.
        subject: beside a trace, the model: adds its parameters, and shows images as the model saw them.
        analyses: names of the analyses to run (`"sinks:epsilon=0.2"`), of plug-ins too, or the analyses themselves;
            the first five unless some are named. A subject is captured with what they need.
        title: the heading; without it, the name of the model.
        call: Python that makes this report; without it, the call that the trace recorded.
        command: the command line that makes this report.
        limit: bytes above which a folder is written instead, `index.html` and its data.

    Returns:
        The page that was written: `path`, or `index.html` in a folder of its name. It appears whole or not at all.

    Raises:
        InputError: when the folder of `path` does not exist, the source is something else, or there is nothing to run.
        CaptureError: when no analysis can be run on the trace.
        FixError: a fix cannot be used on this model.

    Example:
        >>> import tempfile
        >>> import headwise as hw
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)
        >>> subject = hw.wrap(GPT2LMHeadModel(config).eval())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = report(subject, Path(folder) / "report.html", examples=[{"text": [1, 2, 3, 4, 5]}])
        ...     page.stat().st_size < 1e6
        True
    """
    from headwise.analyses.calls import analysis_calls, needs_of
    from headwise.errors import InputError
    from headwise.reports.collect.build import build_content
    from headwise.reports.collect.example_runs import example_runs
    from headwise.reports.page.page import write_page
    from headwise.subject import Subject

    several = list(source) if isinstance(source, list | tuple) else [source]
    subjects = [item for item in several if isinstance(item, Subject)]
    if len(subjects) > 1:
        raise InputError(
            "A report shows one model.", evidence=f"{len(subjects)} subjects", remedy="Make two reports."
        )
    if not subjects and (generate or fixes):
        raise InputError(
            "Only a subject can be run.", evidence="generate= or fixes= beside what was captured already",
            remedy="Give the subject as source, or capture under hw.patch and give both traces.",
        )  # fmt: skip
    if subjects:
        keep = needs_of(analysis_calls(analyses)) if analyses is not None else {}
        runs = example_runs(subjects[0], examples, generate=generate, fixes=fixes, keep=keep)
        several = [runs if item is subjects[0] else item for item in several]
        call = call or _call(subjects[0].name, path, examples, generate, fixes, analyses)
    listed = [examples] if isinstance(examples, Mapping) else examples
    content = build_content(
        several if len(several) != 1 else several[0],
        subject=subject,
        examples=listed,
        title=title,
        call=call,
        command=command,
        analyses=analyses,
    )
    return write_page(content, path, limit=limit).path


def _call(name: str, path: str | Path, examples: Any, generate: int, fixes: Any, analyses: Any) -> str:
    """Python that makes a report of a model on examples; what cannot be written down is an ellipsis."""
    given = {
        "examples": examples,
        "generate": generate or None,
        "fixes": _named(fixes) or None,
        "analyses": analyses,
    }
    shown = [f"{key}={_written(value)}" for key, value in given.items() if value is not None]
    load = ["import headwise as hw", "", f"subject = hw.load({file_name(name)!r})"]
    return "\n".join([*load, f"hw.report({', '.join(['subject', repr(file_name(path)), *shown])})"])


def _written(value: Any) -> str:
    """A value as Python, where it is made of plain things or of fixes that say themselves; an ellipsis for others."""
    if isinstance(value, Mapping):
        items = {key: _named(item) if key in ("image", "audio") else item for key, item in value.items()}
        return f"{{{', '.join(f'{key!r}: {_written(item)}' for key, item in items.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return repr(value) if isinstance(value, str | int | float | bool | None) else "..."


def _named(value: Any) -> Any:
    """Files by their names, not by where they lie."""
    if isinstance(value, list | tuple):
        return [_named(item) for item in value]
    return file_name(value) if isinstance(value, str | os.PathLike) else value
