"""Laws of every analysis: padding, batching, caching, grouped heads and kernels must not change its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from headwise.analyses.calls import AnalysisCall, analysis_call, needs_of
from headwise.analyses.record import Analysis
from headwise.errors import InputError
from headwise.fixes.edits.scale_heads import ScaleHeads
from headwise.fixes.patching import patch
from headwise.probes.capture import capture
from headwise.testing.checks import TOLERANCE, Check, run_checks
from headwise.testing.inputs import PADDED, alone, decode, equal_length_pair, example_of, forward, together
from headwise.testing.models import TINY_MODELS, known_models, shared_model, ungrouped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.probes.trace.trace import Trace
    from headwise.results.result import Result

_Run = Callable[["PreTrainedModel"], Any]
CHANGE = ScaleHeads(heads=((0, 1), (1, 3)), factor=0.3)
"""What happens between the two traces that an analysis of a pair is given."""


@dataclass(frozen=True)
class _Trial:
    """An analysis on a tiny model."""

    model: str
    call: AnalysisCall

    def tiny_model(self, attention: str | None = None) -> PreTrainedModel:
        return shared_model(self.model, attention)

    def result(self, model: PreTrainedModel, runs: Iterable[_Run]) -> Result:
        """The result over everything that `runs` do with a model."""
        runs = list(runs)
        traces = [self._trace(model, runs)]
        if self.call.analysis.inputs == "pair":
            with patch(model, CHANGE):
                traces.append(self._trace(model, runs))
        return self.call(*traces)

    def apart(self, model: PreTrainedModel, runs: Sequence[_Run]) -> Result:
        """The same, each run in a capture of its own, as far as the analysis says how such results become one."""
        record, first = self.call.analysis, self.result(model, runs[:1])
        if "example" not in first.keys and record.merge is None:
            return self.result(model, runs)
        frames = [first.frame, *(self.result(model, [run]).frame for run in runs[1:])]
        if "example" in first.keys:
            frames = [frame.assign(example=frame["example"] + n) for n, frame in enumerate(frames)]
        frame = pd.concat(frames, ignore_index=True)
        return replace(first, frame=frame if record.merge is None else record.merge(frame))

    def _trace(self, model: PreTrainedModel, runs: Iterable[_Run]) -> Trace:
        options: dict[str, Any] = needs_of([self.call])
        with capture(model, **options) as trace:
            for run in runs:
                run(model)
        return trace


def analysis_checks(
    analysis: str | Analysis[Any], *, models: Sequence[str] | None = None
) -> tuple[Check, ...]:
    """The checks of an analysis of a trace or of a pair, each on every tiny model that it can be used on.

    What must be captured for it is read from its record. An analysis of a pair is given traces without and with two
    heads scaled.

    Args:
        analysis: its registered name, with parameters where they are named (`"sinks:epsilon=0.2"`), or the analysis
            itself.
        models: names of `TINY_MODELS`; when None, those that see images for an analysis of images, else all others.

    Raises:
        InputError: it is no analysis, or takes a model with data, which it runs itself: these laws say nothing of it;
            a model is unknown.

    Example:
        >>> for check in analysis_checks("entropy", models=("llama",)):
        ...     check()
    """
    call = analysis_call(analysis)
    record = call.analysis
    if record.inputs == "subject":
        raise InputError(
            f"{record.name} runs the model itself.",
            evidence='inputs="subject"',
            remedy="Check what it finds on headwise.testing.known_circuit().",
        )
    if models is None:
        models = [
            name
            for name, tiny in TINY_MODELS.items()
            if tiny.has_vision == record.sees and (tiny.causal or not record.writes)
        ]
    return tuple(
        Check(record.name, law, trial.model, partial(run, trial))
        for trial in (_Trial(model, call) for model in known_models(models))
        for law, run in _laws_of(trial)
    )


def check_analysis(analysis: str | Analysis[Any], *, models: Sequence[str] | None = None) -> None:
    """Run all checks of an analysis, see `analysis_checks`.

    Raises:
        AssertionError: laws are broken; the message names every one.
        InputError: see `analysis_checks`.

    Example:
        >>> check_analysis("distance", models=["gpt2"])
    """
    run_checks(analysis_checks(analysis, models=models))


def assert_same_result(result: Result, other: Result) -> None:
    """Both results hold the same numbers, in any order of rows."""
    assert_same_frame(result.frame, other.frame, list(result.keys))


def assert_same_frame(frame: pd.DataFrame, other: pd.DataFrame, keys: Sequence[str] | None = None) -> None:
    """Both tables hold the same numbers, in any order of rows; what is not a float is a key when none are given."""
    if keys is None:
        keys = [str(column) for column in frame if frame[column].dtype.kind != "f"]
    tables = [table.sort_values(list(keys)).reset_index(drop=True) for table in (frame, other)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, **TOLERANCE)


def _laws_of(trial: _Trial) -> Iterator[tuple[str, Callable[[_Trial], None]]]:
    tiny = TINY_MODELS[trial.model]
    yield "left_padding", partial(_ignores_padding, side="left")
    yield "right_padding", partial(_ignores_padding, side="right")
    yield "batching", _ignores_batching
    if tiny.grouped:
        yield "grouped_heads", _counts_grouped_heads_as_heads
    if tiny.causal:
        yield "decoding", _ignores_the_cache
    yield "kernel", _ignores_the_kernel


def _ignores_padding(trial: _Trial, *, side: str) -> None:
    model, texts = trial.tiny_model(), [alone(example, trial.model) for example in (0, 1)]
    batch = trial.result(model, [partial(_forward, inputs=together(side, trial.model))])
    single = trial.apart(model, [partial(_forward, inputs=text) for text in texts])
    assert_same_result(_without_padding(batch, PADDED if side == "left" else 0), single)


def _ignores_batching(trial: _Trial) -> None:
    model, inputs = trial.tiny_model(), equal_length_pair(trial.model)
    batch = trial.result(model, [partial(_forward, inputs=inputs)])
    single = trial.apart(model, [partial(_forward, inputs=example_of(inputs, i)) for i in (0, 1)])
    assert_same_result(batch, single)


def _counts_grouped_heads_as_heads(trial: _Trial) -> None:
    model, run = trial.tiny_model(), partial(_forward, inputs=alone(0, trial.model))
    assert_same_result(trial.result(model, [run]), trial.result(ungrouped(model), [run]))


def _ignores_the_cache(trial: _Trial) -> None:
    model, inputs = trial.tiny_model(), equal_length_pair(trial.model)
    given = {
        "prefix_allowed_tokens_fn": lambda _, ids: [5 + len(ids)]
    }  # the same reply in both traces of a pair
    runs = [partial(decode, inputs=inputs, use_cache=use, **given) for use in (True, False)]
    assert_same_result(*(trial.result(model, [run]) for run in runs))


def _ignores_the_kernel(trial: _Trial) -> None:
    run = partial(_forward, inputs=together("left", trial.model))
    assert_same_result(*(trial.result(trial.tiny_model(kernel), [run]) for kernel in (None, "eager")))


def _forward(model: PreTrainedModel, inputs: Any) -> Any:
    return forward(model, inputs)


def _without_padding(result: Result, shift: int) -> Result:
    """The result with the positions of the second example counted from its first real one."""
    if "position" not in result.frame:
        return result
    frame = result.frame
    text = frame["tower"] != "vision"  # images are no longer for the words before them
    moved = shift * ((frame["example"] == 1) & text)
    return replace(result, frame=frame.assign(position=frame["position"] - moved))
