"""Runs of a model on a few examples, one by one: statistics, small patterns and replies, which a report shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError, InputError, NotFitted
from headwise.evaluation.comparison.arms import parse_arms
from headwise.fixes.patching import patch
from headwise.fixes.spec.specs import spec_text
from headwise.layout import ROLES
from headwise.model.tokenizing import decoded
from headwise.probes.run_examples import ExampleRun, new_tokens, run_examples
from headwise.probes.trace.fields import merge_layouts, merge_records
from headwise.probes.trace.nonfinite import join
from headwise.probes.trace.trace import Trace
from headwise.reports.collect.heads import sink_keys, sinks_of
from headwise.reports.collect.patterns import PatternThumbnails, join_thumbnails, pattern_thumbnails
from headwise.reports.collect.windows import windows_of
from headwise.subject.generation import Generation, prepare_run
from headwise.subject.languages import in_languages
from headwise.subject.prepare import Prepared, prepare
from headwise.zoo.own_inputs import sample
from headwise.zoo.registry import PREFIX

if TYPE_CHECKING:
    from headwise.subject import Subject

MOST_MAPS = 2**30
"""Bytes of patterns of one example up to which they are formed; above, statistics alone are kept."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class RunOutputs:
    """The examples under one setting of the model."""

    trace: Trace
    """Statistics of all examples; the patterns are gone."""
    thumbnails: PatternThumbnails | None
    """The patterns, made small; None where they would have taken too much memory."""
    replies: tuple[str | None, ...]
    notes: tuple[str, ...] = ()
    last: tuple[str | None, ...] = ()
    """The token that was generated last and never read again; None where nothing was generated or it is not known."""


@dataclass(frozen=True, eq=False)
class ExampleRuns:
    """What a model does on a few examples, without and with a fix."""

    subject: Subject
    given: tuple[Mapping[str, Any], ...]
    prepared: tuple[Mapping[str, Any], ...]
    before: RunOutputs
    after: RunOutputs | None = None
    fix: str = ""
    spec: str = ""


def example_runs(
    subject: Subject,
    examples: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    *,
    generate: int = 0,
    fixes: Any = (),
    progress: Progress | None = None,
    keep: Mapping[str, Any] | None = None,
) -> ExampleRuns:
    """Run the examples one by one, first without and then with the fixes.

    Args:
        subject: the model with its processor.
        examples: keywords of `Subject.prepare`, one mapping per example, and `languages=(from, to)` for translation;
            None takes the zoo's own input.
        generate: tokens to generate, greedily; 0 runs one forward pass.
        fixes: a fix, its name, the path of a spec, or a list of these that act together.
        progress: told how many runs are done, and of how many.
        keep: options of `hw.capture` beside the statistics, for analyses that need more.

    Raises:
        InputError: there is nothing to run, an example is a batch, or more is to be generated than there is room for.
        FixError: a fix cannot be used on this model.
        NotFitted: constants of a fix are missing.
    """
    given = _examples(subject, examples, generate)
    asked = tuple(_asked(subject, example, generate) for example in given)
    listed = list(fixes) if isinstance(fixes, list | tuple) else [fixes]
    arm = parse_arms([listed], subject)[0] if listed else None
    spec = _spec(arm.fixes, subject) if arm else ""
    total = len(asked) * (2 if arm else 1)

    def on_progress(done: int) -> None:
        if progress is not None:
            progress(done, total)

    before = _run(subject, asked, generate, on_progress, keep or {})
    after = None
    if arm:
        with patch(subject, arm.fixes):
            after = _run(subject, asked, generate, lambda done: on_progress(len(asked) + done), keep or {})
    shown = windows_of(subject, given, asked, before.trace)
    given, prepared = tuple(one for one, _ in shown), tuple(inputs for _, inputs in shown)
    return ExampleRuns(subject, given, prepared, before, after, arm.label if arm else "", spec)


def prepare_example(subject: Subject, example: Mapping[str, Any]) -> Prepared:
    """The tensors of one example, and what was decided on the way.

    Args:
        subject: the model with its processor, which stays as it is.
        example: keywords of `Subject.prepare`; and `languages`, from and to, for a translation model that is told.
    """
    own, given = in_languages(subject, example)
    return prepare(own, **given)


def _asked(subject: Subject, example: Mapping[str, Any], generate: int) -> Generation:
    """The inputs of one example, and what `generate` is told beside them."""
    own, given = in_languages(subject, example)
    return prepare_run(own, generate, **given)


def _examples(subject: Subject, examples: Any, generate: int) -> tuple[Mapping[str, Any], ...]:
    if examples is None and subject.name.startswith(PREFIX):
        examples = sample(subject.name).example(generate)
    listed = [examples] if isinstance(examples, Mapping) else examples
    if not isinstance(listed, list | tuple) or not listed or not all(isinstance(e, Mapping) for e in listed):
        raise InputError(
            "There is nothing to run.",
            evidence=f"got {type(examples).__name__}" if examples is not None else "",
            remedy='Give examples=[{"text": "…"}, …], with the keywords of Subject.prepare.',
        )
    for example in listed:
        several = [name for name in ("text", "target", "audio") if _is_batch(name, example.get(name))]
        if several:
            raise InputError(
                "Every example is run by itself, and this one is a batch.",
                evidence=f"{several[0]} is a list of {len(example[several[0]])}",
                remedy=f"Give one mapping per example: [{{{several[0]!r}: …}}, {{{several[0]!r}: …}}].",
            )
    kinds = {
        frozenset(name for name in ("image", "audio") if example.get(name) is not None) for example in listed
    }
    if len(kinds) > 1:
        raise InputError(
            "The examples of a report are of one kind.",
            evidence="some have an image or a sound, others have none",
            remedy="Make a report of each kind.",
        )
    return tuple(listed)


def _is_batch(name: str, value: Any) -> bool:
    return isinstance(value, list) and (name == "audio" or not all(isinstance(item, int) for item in value))


def _spec(fixes: Sequence[Any], subject: Subject) -> str:
    """The fixes as a patch spec; empty where a fix cannot be written as one."""
    try:
        return spec_text(fixes, subject)
    except NotFitted:
        raise
    except FixError:
        return ""


def _run(
    subject: Subject,
    examples: Sequence[Generation],
    generate: int,
    on_progress: Callable[[int], None],
    keep: Mapping[str, Any],
) -> RunOutputs:
    longest = _longest(subject, [asked.inputs for asked in examples], generate)
    traces, parts, replies, notes, last = [], [], [], [], []
    options = {**keep, "maps": True, "map_limit": MOST_MAPS}
    runs = run_examples(subject, examples, generate=generate, capture=options, drop_large_maps=True)
    for number, run in enumerate(runs, start=1):
        notes += [note for note in run.prepared.notes if note not in notes]
        trace = run.trace
        thumbnails = pattern_thumbnails(trace, sink_keys(trace, sinks_of(trace)), longest=longest)
        if thumbnails is None and all(r is not None for r in parts):
            notes.append(
                f"Patterns were left out: those of one input take more than {MOST_MAPS / 2**30:.0f} GiB. "
                "Maps, tokens and tables are complete; give a shorter input to see patterns."
            )
        parts.append(thumbnails)
        traces.append(trace if keep.get("maps") else _without_maps(trace))
        replies += _replies(subject, run, trace, generate)
        last += _last(subject, run, trace, generate)
        on_progress(number)
    return RunOutputs(_joined(traces), join_thumbnails(parts), tuple(replies), tuple(notes), tuple(last))


def _written(trace: Trace, number: int) -> str | None:
    """What was generated in one window, by the layout of its decoder."""
    axis = trace.layout.axes.get("decoder")
    if axis is None or axis.tokens is None or axis.ids is None:
        return None
    rows = zip(axis.tokens[number], axis.roles[number].tolist(), strict=True)
    text = "".join(token for token, role in rows if role == ROLES.index("generated"))
    return text.replace("Ġ", " ").strip()


def _replies(subject: Subject, run: ExampleRun, trace: Trace, generate: int) -> list[str | None]:
    """The reply of each example of a trace: one, or one per window of a long recording."""
    if trace.examples > 1:
        return [_written(trace, number) for number in range(trace.examples)]
    if not generate or subject.tokenizer is None:
        return [None]
    ids = new_tokens(subject, run.prepared.inputs, run.output)[0]
    return [decoded(subject.tokenizer, ids, skip_special_tokens=True).strip()]


def _last(subject: Subject, run: ExampleRun, trace: Trace, generate: int) -> list[str | None]:
    """The token that the last row of each example of a trace wrote."""
    axis = trace.layout.axes.get("decoder", trace.layout.axes.get("text"))
    if not generate or subject.tokenizer is None or trace.examples > 1 or axis is None or axis.ids is None:
        return [None] * trace.examples
    read, out = axis.ids[0][axis.valid[0]].tolist(), run.output[0].tolist()
    # Whisper gives back neither what its decoder begins with nor the end
    for start in range(len(read)):
        if (kept := read[start:]) == out[: len(kept)]:
            behind = out[len(kept) :]
            return [subject.tokenizer.convert_ids_to_tokens(behind[0]) if behind else "(end)"]
    return [None]


_OPENING = 4
"""Tokens that a decoder begins with by itself: at most Whisper's start, language, task and time."""


def _longest(subject: Subject, prepared: Sequence[Mapping[str, Any]], generate: int) -> dict[str, int]:
    """Real positions of the longest example, per tower, and what will be generated behind it."""
    longest: dict[str, int] = {}
    for inputs in prepared:
        for tower, axis in subject.layout(inputs).axes.items():
            more = generate if tower in ("text", "decoder") else 0
            longest[tower] = max(longest.get(tower, 0), int(axis.valid.sum(1).max()) + more)
    if generate and subject.config.is_encoder_decoder and "decoder" not in longest:
        longest["decoder"] = _OPENING + generate
    return longest


def _without_maps(trace: Trace) -> Trace:
    records = {
        site: {n: t for n, t in record.items() if n != "maps"} for site, record in trace.records.items()
    }
    return Trace(records, trace.layout, trace.meta)


def _joined(traces: Sequence[Trace]) -> Trace:
    """One trace with the examples of all; its provenance is that of the first, with everything that was said."""
    if len(traces) == 1:
        return traces[0]
    meta = dict(traces[0].meta)
    meta["examples"] = sum(trace.examples for trace in traces)
    meta["seconds"] = sum(trace.meta.get("seconds", 0.0) for trace in traces)
    meta["nonfinite"] = join([trace.nonfinite for trace in traces])
    meta["warnings"] = list(dict.fromkeys(said for trace in traces for said in trace.warnings))
    return Trace(
        merge_records([dict(trace.records) for trace in traces]),
        merge_layouts([trace.layout for trace in traces]),
        meta,
    )
