"""`capture`: record what every attention head does while a model runs."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import torch

from headwise._version import __version__
from headwise.errors import CaptureError, InputError
from headwise.functional.contribution import compact
from headwise.layout import TokenLayout, with_tokens
from headwise.probes.attach.sites import Site
from headwise.probes.check.output_layers import output_layers
from headwise.probes.check.results import Check, known_check
from headwise.probes.check.self_check import self_check, unsupported
from headwise.probes.check.trial import undisturbed
from headwise.probes.engine.instrumentation import instrument
from headwise.probes.engine.session import Session
from headwise.probes.fix_text import fix_text
from headwise.probes.generation.given import given_to_all
from headwise.probes.generation.runs import remarks_on
from headwise.probes.kernels.details import Details
from headwise.probes.selection import Selection, SiteChoice
from headwise.probes.trace import nonfinite
from headwise.probes.trace.fields import Record, example_count, merge_layouts, merge_records
from headwise.probes.trace.options import CaptureOptions, row_positions
from headwise.probes.trace.trace import Trace
from headwise.subject import Subject, unwrap
from headwise.subject.info import identity_of
from headwise.subject.positions import prompt_warnings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def capture(
    subject: Subject | PreTrainedModel,
    stats: SiteChoice = True,
    maps: SiteChoice = False,
    rows: Sequence[int] | None = None,
    qkv: SiteChoice = False,
    heads: SiteChoice = False,
    residual: SiteChoice = False,
    *,
    norms: SiteChoice = False,
    sites: SiteChoice = True,
    gradients: bool = False,
    check: bool = True,
    map_limit: int = 4 * 2**30,
    beams: Literal["returned", "all"] = "returned",
    ids: Sequence[str] | None = None,
    near: int | bool = 0,
    top: Sequence[int] | bool = (),
    later: tuple[int, int] | bool | None = None,
) -> Iterator[Trace]:
    """Records attention while the model runs inside the `with` block, in any way: forward, generate, a pipeline.

    The model's outputs stay what they are: bit for bit when only rows, heads, qkv or residual are kept; those of its
    eager attention with `maps`; within float32 rounding with `stats`, whose attention runs in tiles of its own. On
    leaving the block, also through an exception, the model is exactly as before. What other threads do with the
    model is not recorded, and what is cropped from the cache is forgotten.

    `stats`, `maps`, `qkv`, `heads`, `residual` and `norms` each take True, or name the sites and heads to keep:

    - words as sites print them: `"cross"`, `"decoder cross 1-3"`, `"text self 0"`, `"L2H3"`;
    - a mapping with any of `tower`, `kind`, `layers` and `heads`, which are pairs (layer, head):
      `{"tower": "decoder", "layers": [1, 2]}`;
    - a `Site` of another trace;
    - a list of these, any of which may hold.

    What is not asked for costs nothing: sites that keep nothing run the model's own kernel. Heads keep their numbers,
    see `Trace.head_numbers`.

    Args:
        subject: a `Subject` or a bare transformers model.
        stats: streaming statistics of every head, in memory that grows with the length, not its square.
        maps: every attention pattern, (example, head, query, key) per site.
        rows: only these rows of the patterns, by absolute position; -1 is the last position of the prompt. Sites
            that `maps` names keep all rows.
        qkv: queries, keys and values as they enter attention.
        heads: per-head outputs z before W_O, (example, query, head, width).
        residual: the residual stream entering each layer, (example, query, width), and that behind the last layer of
            a tower (`Trace.final_residual`). It belongs to the layer: the kind and the heads that are named do not
            matter.
        norms: of every key, the norm of its value, and behind W_O where a linear layer is fed the head outputs as they
            are: `value_norm` and `write_norm`, (example, head, key). Of values that a sliding cache drops, too.
        sites: nothing is kept of other sites and heads than these.
        gradients: keep the autograd graph, so that after `backward()` `trace.map_gradients` (with `maps`) and
            `trace.attribution` have values. Keeps activations alive as long as the trace.
        check: before the first capture of this model, compare its logits with and without the engine on a few
            tokens, and name attention modules that ran unseen.
        map_limit: refuse to keep more bytes of patterns than this.
        beams: of a beam search, keep the sequences that `generate` returns as examples, or as many of all its beams;
            `trace.returned` says which examples were returned.
        ids: names of the examples, in the order in which the model reads them; tables then carry them in a column `id`,
            so that they join with the per-example table of an evaluation.
        near: beside the statistics, the weights of every row on its own position and the `near - 1` before it, in
            self-attention; True for 10.
        top: beside them, the sums of the k largest weights of every row, for these k; True for 1, 5 and 10.
        later: beside them, what every key receives from rows between so many and so many positions later, in
            self-attention; True for 10 to 100.

    Yields:
        The `Trace`, filled when the block ends.

    Raises:
        UnsupportedModel: attention cannot be observed.
        InputError: there is nothing to capture, or the model has no such site or head.
        CaptureError: the block ended and nothing was recorded, or patterns would exceed `map_limit`.

    Example:
        >>> import headwise as hw
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> with hw.capture(model, maps=True) as trace, torch.no_grad():
        ...     _ = model(input_ids=torch.tensor([[3, 1, 2]]))
        >>> trace.maps[trace.site(0)].shape
        torch.Size([1, 2, 3, 3])
    """
    model, processor = unwrap(subject)
    names = _ids(ids)
    if beams not in ("returned", "all"):
        raise InputError(
            "beams says which beams of a search are kept.",
            evidence=f"got {beams!r}",
            remedy='Use "returned" or "all".',
        )
    options = CaptureOptions(
        Selection.of(stats, "stats"),
        Selection.of(maps, "maps"),
        row_positions(rows),
        Selection.of(qkv, "qkv"),
        Selection.of(heads, "heads"),
        Selection.of(residual, "residual"),
        Selection.of(norms, "norms"),
        gradients,
        map_limit,
        Selection.of(sites, "sites"),
        Details.of(near, top, later),
    )
    instrumented = instrument(model)
    options.check(instrumented.modules.values())
    if check:
        self_check(model)
    projections, reason = _projections(model) if options.norms else ({}, "")
    session = Session(model, processor, instrumented.language, options=options, projections=projections)
    trace = Trace()
    started = time.perf_counter()
    instrumented = instrumented.add(session)
    try:
        yield trace
    finally:
        instrumented.remove(session)
    records, layout, returned, counts = _collect(
        session, processor, instrumented.language, every=beams == "all"
    )
    unreached = dict(instrumented.installed.unreached)
    if not any(records.values()):
        if unreached:
            raise unsupported(model, unreached)
        if session.ran:
            raise CaptureError(
                "Nothing was captured: no attention of the model met what was asked for.",
                evidence=f"{type(model).__name__}, {options.call}",
                remedy="Check that rows lie within the input; negative ones count from the end of the prompt.",
            )
        raise CaptureError(
            "Nothing was captured: the model did not run inside the `with` block on this thread.",
            evidence=type(model).__name__,
            remedy="Run the captured model itself (forward, generate or a pipeline) inside the block.",
        )
    warnings = list(subject.warnings) if isinstance(subject, Subject) else []
    warnings += (known_check(model, instrumented.implementation) or Check()).warnings if check else ()
    warnings += [f"{name} ran out of sight: {reason}." for name, reason in unreached.items()]
    warnings += prompt_warnings(model, layout, unplaced=session.unplaced)
    warnings += session.remarks + _unprojected(records, reason)
    if instrumented.fallback() and (heads or qkv or norms):
        warnings.append(
            f"{len(instrumented.fallback())} attention modules were seen through their softmax alone: "
            "their queries, keys, values and outputs are not recorded."
        )
    absent_numbers = nonfinite.absent(counts)
    patched = list(map(fix_text, session.acting_fixes))
    warnings += nonfinite.describe(absent_numbers, len(records), patched=bool(patched))
    warnings += nonfinite.describe_logits(session.largest_logits)
    meta: dict[str, Any] = {
        **identity_of(subject, instrumented.modules.values()),
        "attention": list(instrumented.implementations()),
        **run_record(),
        "call": options.call,
        "partial": options.partial,
        "patched": patched,
        "given": session.given,
        "examples": _examples(records, layout, instrumented.language),
        "returned": returned,
        "warnings": warnings,
        "nonfinite": nonfinite.as_meta(absent_numbers),
        "unreached": list(unreached),
        "fallback": instrumented.fallback(),
        "seconds": round(time.perf_counter() - started, 4),
    }
    trace._fill(records, layout, meta | ({"ids": names} if names else {}))
    if names and len(names) != trace.examples:
        raise InputError(
            "There are not as many ids as examples.",
            evidence=f"{len(names)} ids, {trace.examples} examples were captured",
            remedy="Give one id for every example that the model reads inside the block, in that order.",
        )


def _projections(model: PreTrainedModel) -> tuple[dict[Site, torch.Tensor], str]:
    """W_O of the sites that made-up inputs reach, and why there are none."""
    if instrument(model).sessions:
        return {}, "it was not looked for beside what is attached already"
    try:
        with undisturbed(model):
            found, _ = output_layers(model)
    except InputError as error:
        return {}, str(error)
    return {
        site: compact(projection.weight) for site, projection in found.items()
    }, "nothing linear was seen to take z"


def _unprojected(records: Mapping[Site, Record], reason: str) -> list[str]:
    sites = [
        site for site, record in records.items() if "value_norm" in record and "write_norm" not in record
    ]
    return [
        f"W_O of {len(sites)} sites, first {site}, is not known ({reason}): norms there are those of values alone."
        for site in sites[:1]
    ]


def run_record() -> dict[str, Any]:
    """Versions, seed and time of a run."""
    import transformers

    return {
        "versions": {
            "headwise": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "seed": torch.initial_seed(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _examples(records: Mapping[Site, Record], layout: TokenLayout, language: str) -> int:
    """Examples of the language tower; a vision tower may see several images or windows of each."""
    counts = {site.tower: count for site, record in records.items() if (count := example_count(record))}
    if language not in counts and language in layout.axes:
        return len(layout.axes[language].roles)
    return counts.get(language, min(counts.values(), default=0))


def _collect(
    session: Session, processor: Any, language: str, *, every: bool
) -> tuple[dict[Site, Record], TokenLayout, list[int], nonfinite.Counts]:
    """Records and layout of all runs, which examples were returned, and the numbers that are not there."""
    runs = [run for tracker in session.trackers for run in tracker.runs if run.buffers and run.is_example]
    results = [run.results(every=every) for run in runs]
    returned: list[int] = []
    counts: nonfinite.Counts = {}
    start = 0
    for result in results:
        examples = _examples(result.records, result.layout, language)
        of_run = range(examples) if result.returned is None else result.returned
        returned += [start + example for example in of_run]
        start += examples
        for (site, what), count in result.counts.items():
            nonfinite.add(counts, site, {what: count})
    session.ran = any(tracker.runs for tracker in session.trackers)
    session.remarks = remarks_on(runs)
    session.given = given_to_all(
        (run.given, _examples(result.records, result.layout, language))
        for run, result in zip(runs, results, strict=True)
    )
    for tracker in session.trackers:  # what was recorded belongs to the trace alone
        tracker.runs, tracker.run = [], None
    session.trackers.clear()
    if not results:
        return {}, TokenLayout({}), [], {}
    records = merge_records([result.records for result in results])
    layout = with_tokens(merge_layouts([result.layout for result in results]), processor)
    return records, layout, returned, counts


def _ids(ids: Sequence[str] | None) -> list[str]:
    """Names of examples, as text.

    Raises:
        InputError: they are no list, or two are the same.
    """
    if ids is None:
        return []
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputError(
            "ids must be a list of names.", evidence=f"got {ids!r}", remedy='For example ids=["a", "b"].'
        )
    given = list(ids)
    unnamed = [
        name
        for name in given
        if not isinstance(name, (str, Integral)) or isinstance(name, bool) or name == ""
    ]
    if unnamed:
        raise InputError(
            "An id is neither a text nor a whole number.",
            evidence=f"got {unnamed[0]!r}",
            remedy='For example ids=["a", "b"].',
        )
    names = [str(name) for name in given]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InputError("Two examples have the same id.", evidence=repr(double), remedy="Give each its own.")
    return names
