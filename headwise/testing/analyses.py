"""Laws of every analysis: padding, batching, caching, grouped heads and kernels must not change its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from headwise import analyses
from headwise.probes.capture import capture
from headwise.testing.checks import TOLERANCE, Check, run_checks
from headwise.testing.inputs import PADDED, alone, decode, equal_length_pair, example_of, forward, together
from headwise.testing.models import TINY_MODELS, ungrouped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.analyses.result import Result
    from headwise.probes.trace.trace import Trace

_Run = Callable[["PreTrainedModel"], Any]


@dataclass(frozen=True)
class _Trial:
    """An analysis on a tiny model."""

    model: str
    analysis: Callable[[Trace], Result]
    options: Mapping[str, Any]

    def build(self, attention: str | None = None) -> PreTrainedModel:
        return TINY_MODELS[self.model].build(attention)

    def frame(self, model: PreTrainedModel, runs: Iterable[_Run]) -> pd.DataFrame:
        """The table over everything that `runs` do with a model."""
        with capture(model, **self.options) as trace:
            for run in runs:
                run(model)
        return self.analysis(trace).frame


def analysis_checks(
    analysis: str | Callable[[Trace], Result],
    *,
    options: Mapping[str, Any] | None = None,
    models: Sequence[str] | None = None,
) -> tuple[Check, ...]:
    """The checks of an analysis, each on every tiny model that it can be used on.

    Args:
        analysis: its registered name, or a function that takes a trace and returns a `Result`.
        options: of the `capture` that it needs.
        models: names of `TINY_MODELS`; all that see no images when None.

    Example:
        >>> for check in analysis_checks("entropy", models=("llama",)):
        ...     check()
    """
    function = analyses.get(analysis) if isinstance(analysis, str) else analysis
    name = analysis if isinstance(analysis, str) else analysis.__name__
    if models is None:
        models = [model for model, tiny in TINY_MODELS.items() if not tiny.has_vision]
    trials = [_Trial(model, function, options or {}) for model in models]
    return tuple(
        Check(name, law, trial.model, partial(run, trial)) for trial in trials for law, run in _laws_of(trial)
    )


def check_analysis(analysis: str | Callable[[Trace], Result], **options: Any) -> None:
    """Run all checks of an analysis; `options` are those of `analysis_checks`.

    Raises:
        AssertionError: laws are broken; the message names every one.

    Example:
        >>> check_analysis("distance", models=["gpt2"])
    """
    run_checks(analysis_checks(analysis, **options))


def assert_same_frame(frame: pd.DataFrame, other: pd.DataFrame) -> None:
    """Both frames hold the same numbers, in any order of rows."""
    tables = []
    for table in (frame, other):
        keys = [str(column) for column in table if table[column].dtype.kind != "f"]
        tables.append(table.sort_values(keys).reset_index(drop=True))
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
    model, texts = trial.build(), [alone(example, trial.model) for example in (0, 1)]
    batch = trial.frame(model, [partial(_forward, inputs=together(side, trial.model))])
    single = trial.frame(model, [partial(_forward, inputs=text) for text in texts])
    assert_same_frame(_without_padding(batch, PADDED if side == "left" else 0), single)


def _ignores_batching(trial: _Trial) -> None:
    model, inputs = trial.build(), equal_length_pair(trial.model)
    batch = trial.frame(model, [partial(_forward, inputs=inputs)])
    single = trial.frame(model, [partial(_forward, inputs=example_of(inputs, i)) for i in (0, 1)])
    assert_same_frame(batch, single)


def _counts_grouped_heads_as_heads(trial: _Trial) -> None:
    model, run = trial.build(), partial(_forward, inputs=alone(0, trial.model))
    assert_same_frame(trial.frame(model, [run]), trial.frame(ungrouped(model), [run]))


def _ignores_the_cache(trial: _Trial) -> None:
    model, inputs = trial.build(), equal_length_pair(trial.model)
    frames = [trial.frame(model, [partial(decode, inputs=inputs, use_cache=use)]) for use in (True, False)]
    assert_same_frame(*frames)


def _ignores_the_kernel(trial: _Trial) -> None:
    run = partial(_forward, inputs=together("left", trial.model))
    assert_same_frame(*(trial.frame(trial.build(kernel), [run]) for kernel in (None, "eager")))


def _forward(model: PreTrainedModel, inputs: Any) -> Any:
    return forward(model, inputs)


def _without_padding(frame: pd.DataFrame, shift: int) -> pd.DataFrame:
    """The frame with the positions of the second example counted from its first real one."""
    if "position" not in frame:
        return frame
    return frame.assign(position=frame["position"] - shift * (frame["example"] == 1))
