"""Trials of forwards: one example, and a batch with padding on both sides."""

from __future__ import annotations

import torch
from torch import Tensor

from headwise.errors import HeadwiseError
from headwise.probes.check.probe_inputs import padded_batch
from headwise.probes.check.reference import Comparison
from headwise.probes.check.trial import Inputs, Trial, first_line, first_output, relative, tolerance
from headwise.probes.engine.instrumentation import Instrumentation, attached
from headwise.probes.trace.options import CaptureOptions


def try_forward(instrumented: Instrumentation, inputs: Inputs, plain: Tensor) -> tuple[Trial, Comparison]:
    """One forward; `plain` is what the model gives without the engine. With what the engine saw of it."""
    return _forward("forward", instrumented, inputs, plain, torch.ones(len(plain), 1, dtype=torch.bool))


def try_padded_batch(instrumented: Instrumentation, inputs: Inputs) -> Trial:
    """A batch of three: an example without padding, one padded on the left, one on the right."""
    name, model = "padded batch", instrumented.model
    batch = padded_batch(model, inputs)
    if batch is None:
        return Trial(name, note="the model takes no mask")
    try:
        plain = first_output(model(**batch))
    except Exception as error:
        return Trial(name, note=f"the model does not run on it: {first_line(error)}")
    if len(plain) != len(batch["attention_mask"]):
        return Trial(name, note="its output is not one per example")
    real = batch["attention_mask"].bool()
    if plain.shape[1] != real.shape[1]:  # what is pooled, or a decoder's rows, are those of examples
        real = torch.ones(len(plain), 1, dtype=torch.bool, device=plain.device)
        real[1] = False  # a model that pools its first position pools padding
    trial, session = _forward(name, instrumented, batch, plain, real)
    if trial.problem:
        return trial
    masks = [axis.valid.cpu() for run in session.runs for axis in run.layout().axes.values()]
    expected = batch["attention_mask"].bool().cpu()
    known = [mask for mask in masks if mask.shape == expected.shape]
    if known and not any(torch.equal(mask, expected) for mask in known):
        return Trial(name, trial.difference, "headwise does not see which positions are padding")
    return trial


def _forward(
    name: str, instrumented: Instrumentation, inputs: Inputs, plain: Tensor, real: Tensor
) -> tuple[Trial, Comparison]:
    model = instrumented.model
    session = Comparison(model, None, instrumented.language, options=CaptureOptions())
    torch.manual_seed(0)
    try:
        with attached(instrumented, session):
            engine = first_output(model(**inputs))
    except HeadwiseError:
        raise
    except Exception as error:
        problem = f"the model runs alone, but not with headwise: {first_line(error)}"
        return Trial(name, problem=problem), session
    rows = real.to(plain.device).expand(plain.shape[:2]) if plain.dim() > 1 else real[:, 0].to(plain.device)
    if bool(plain[rows].isnan().any()):
        return Trial(name, note="the model's own output is NaN on it"), session
    if engine.shape != plain.shape:
        problem = f"its output has shape {tuple(engine.shape)}, alone {tuple(plain.shape)}"
        return Trial(name, problem=problem), session
    difference = relative(engine[rows], plain[rows])
    problem = session.problem(tolerance(model))
    if not problem and not difference <= tolerance(model):
        problem = f"largest difference {difference:.2g} of the largest logit on a few tokens"
    return Trial(name, difference, problem), session
