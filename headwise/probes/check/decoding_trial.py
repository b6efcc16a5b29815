"""The trial of cached decoding: a prompt and one step of `generate`, against one forward on the same ids.

Made before the first `generate` of a model that was checked (`require_generate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import HeadwiseError, UnsupportedModel
from headwise.model.loading import quiet
from headwise.probes.attach.sites import Site
from headwise.probes.check.probe_inputs import first_that_runs
from headwise.probes.check.reference import Comparison
from headwise.probes.check.releases import verified_range
from headwise.probes.check.results import keep_check, known_check
from headwise.probes.check.trial import (
    Inputs,
    Trial,
    first_line,
    first_output,
    relative,
    tolerance,
    undisturbed,
)
from headwise.probes.engine.session import Session
from headwise.probes.generation.generate_call import GenerateCall
from headwise.probes.trace.fields import Record
from headwise.probes.trace.options import CaptureOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


NestedForward = Callable[[Session], AbstractContextManager[None]]
"""Runs the model within the block for one session alone: nobody else records it."""

_ROW_STATISTICS = ("entropy", "maximum", "distance")


def try_decoding(model: PreTrainedModel, language: str, nested: NestedForward, *, static: bool) -> Trial:
    """Decodes two tokens that are fixed beforehand, so that one forward has the same ids.

    Args:
        model: one that something is attached to, and whose forward trial has passed.
        language: its language tower.
        nested: in which the trial runs.
        static: with a static cache.
    """
    name = "static cache" if static else "decode step"
    with nested(Session(model, None, language)):
        tried = first_that_runs(model)
    if isinstance(tried, str):
        return Trial(name, note=tried)
    if not (hasattr(model, "generate") and model.can_generate()):
        return Trial(name, note="the model does not generate")
    whole, session = (Comparison(model, None, language, options=CaptureOptions()) for _ in range(2))
    decoding = _Decoding(model, tried[0], static=static)
    plain = Session(model, None, language)
    limit = tolerance(model)
    try:
        with nested(whole):
            expected = decoding.forward()
        with nested(session):
            logits = decoding.run()
    except HeadwiseError as error:
        return Trial(name, problem=f"{error.fact} ({error.evidence})" if error.evidence else error.fact)
    except Exception as error:
        try:
            with nested(plain):
                decoding.run()
        except Exception as own:
            return Trial(name, note=f"the model does not do it: {first_line(own)}")
        return Trial(name, problem=f"the model runs alone, but not with headwise: {first_line(error)}")
    apart = 0.0 if expected is None else relative(logits, expected)
    problem = session.problem(limit) or _joined(session, whole, decoding.length)
    if not problem and not apart <= limit:
        with nested(plain):
            own = relative(logits, decoding.run())
        if own <= limit:
            what = f"the model's own step differs from one forward by {apart:.2g} of the largest logit"
            return Trial(name, own, note=what)
        problem = f"the logits of a step differ by {own:.2g} of the largest"
    return Trial(name, apart, problem or _same_row(session, whole, decoding.length, limit))


class _Decoding:
    """One forward on some ids, and `generate` from a prompt that is led to the same ids."""

    def __init__(self, model: PreTrainedModel, inputs: Inputs, *, static: bool) -> None:
        self.model, self.static = model, static
        self.name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
        self.inputs, self.ids = inputs, inputs[self.name]
        self.others: dict[str, Any] = {name: value for name, value in inputs.items() if name != self.name}
        self.length = self.ids.shape[1] - 1
        """Positions that `generate` feeds: it never reads the last token."""

    def forward(self) -> Tensor | None:
        """(2, vocabulary): the logits of the last row of the prompt and of the step; None where rows are no tokens."""
        encoder_outputs: list[Any] = []
        encoder = self.model.get_encoder() if self.name == "decoder_input_ids" else None
        hooks = []
        if encoder is not None:
            hooks.append(encoder.register_forward_hook(lambda *call: encoder_outputs.append(call[2])))
        try:
            logits = first_output(self.model(**self.inputs))
        finally:
            for hook in hooks:
                hook.remove()
        if encoder_outputs:  # an encoder runs once
            self.others = {"encoder_outputs": encoder_outputs[-1]}
        end = logits.shape[1] - self.ids.shape[1] + self.length if logits.dim() == 3 else 0
        return logits[0, end - 2 : end] if end >= 2 else None

    def run(self) -> Tensor:
        """(2, vocabulary): the logits of the same rows."""
        from transformers import GenerationMixin, LogitsProcessorList

        generate: Any = GenerationMixin.generate  # type: ignore[attr-defined]
        prompt = self.ids[:, : self.length - 1]
        masks = {} if self.name == "decoder_input_ids" else {"attention_mask": torch.ones_like(prompt)}
        caches = {"cache_implementation": "static"} if self.static else {}
        before = dict(vars(self.model))
        try:
            with quiet():
                # without what a class puts around it (Whisper), and without anyone who watches it
                output = generate(
                    self.model,
                    **{**self.others, **masks, **caches, self.name: prompt},
                    logits_processor=LogitsProcessorList([self._lead]),
                    max_new_tokens=2,
                    num_beams=1,
                    num_return_sequences=1,
                    do_sample=False,
                    use_cache=True,
                    disable_compile=True,
                    output_logits=True,
                    return_dict_in_generate=True,
                    pad_token_id=0,
                )
        finally:
            for name, value in dict(vars(self.model)).items():  # generate leaves notes of a static cache
                if name not in before:
                    del self.model.__dict__[name]
                elif before[name] is not value:
                    self.model.__dict__[name] = before[name]
        return torch.cat(output.logits)[-2:]

    def _lead(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Scores that leave one token: the next of the fixed ones."""
        position = min(ids.shape[1], self.ids.shape[1] - 1)
        return torch.full_like(scores, -math.inf).index_fill(1, self.ids[0, position : position + 1], 0.0)


def _rows_of(session: Comparison) -> dict[Site, Record]:
    """The records of self-attention in the language tower."""
    return {
        site: buffer.compute()
        for run in session.runs
        for site, buffer in run.buffers.items()
        if (site.tower, site.kind) == (session.language, "self")
    }


def _joined(session: Comparison, whole: Comparison, length: int) -> str:
    """Problem of the rows of prompt and step: they belong to one example, each at its position."""
    runs = [run for run in session.runs if any(site.tower == session.language for site in run.buffers)]
    if len(runs) != 1:
        return f"a step does not join its prompt: the capture holds {len(runs)} examples, not 1"
    expected = _rows_of(whole)
    for site, record in _rows_of(session).items():
        at, last = record["positions"].tolist(), length - 1
        if at[-length:] != list(range(at[0], at[0] + length)):
            return f"a step does not join its prompt: {site} has rows {at} of {length} positions"
        if "n_keys" in expected.get(site, {}):
            here, there = (float(each["n_keys"][0, last]) for each in (record, expected[site]))
            if here < min(there, length):  # a row of one forward may look ahead, where a model lets it
                return f"a step sees {here:.0f} keys in {site}, where one forward sees {there:.0f}"
    return ""


def _same_row(session: Comparison, whole: Comparison, length: int, limit: float) -> str:
    """Problem of the statistics of the step: they are those of the same row of one forward."""
    expected, last = _rows_of(whole), length - 1
    for site, record in _rows_of(session).items():
        for name in _ROW_STATISTICS:
            if name in expected.get(site, {}):
                apart = relative(record[name][0, :, last], expected[site][name][0, :, last])
                if not apart <= limit:
                    return f"the {name} of a step's row differs by {apart:.2g} from one forward in {site}"
    return ""


def require_generate(
    model: PreTrainedModel,
    implementation: str | None,
    language: str,
    nested: NestedForward,
    call: GenerateCall,
) -> None:
    """Tries decoding out before the first `generate` of a model that was checked, with the cache that it asks for.

    Raises:
        UnsupportedModel: a decode step does not join its prompt.
    """
    check = known_check(model, implementation)
    if check is None or not check.trials:
        return
    static = _wants_static(call)
    for name in ("decode step", "static cache") if static else ("decode step",):
        if not any(trial.name == name for trial in check.trials):
            with undisturbed(model):
                trial = try_decoding(model, language, nested, static=name == "static cache")
            check = replace(check, trials=(*check.trials, trial))
            keep_check(model, implementation, check)
        problem = check.problem(name)
        if problem:
            raise UnsupportedModel(
                "headwise cannot follow a generation of this model.",
                evidence=f"{name}: {problem}",
                remedy=f"Capture or patch forwards, or use a verified release of transformers ({verified_range()}).",
            )


def _wants_static(call: GenerateCall) -> bool:
    from transformers import StaticCache

    name = call.option("cache_implementation")
    return (isinstance(name, str) and "static" in name) or any(
        isinstance(getattr(value, "self_attention_cache", value), StaticCache)
        for value in call.arguments.values()
    )
