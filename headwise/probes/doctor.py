"""`doctor`: does headwise tell the truth about this model, on this machine?"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.probes.attach.sites import Site
from headwise.probes.capture import capture, run_record
from headwise.probes.check.probe_inputs import first_that_fits
from headwise.probes.check.reference import Reference
from headwise.probes.check.self_check import require_numbers, trials_of
from headwise.probes.check.trial import first_output, of_coarsest, relative
from headwise.probes.engine.instrumentation import attached, instrument
from headwise.probes.trace.fields import STATISTICS
from headwise.probes.trace.trace import Trace
from headwise.subject import unwrap
from headwise.subject.info import model_info

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

    from headwise.subject import Subject

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference of probabilities, relative statistics and relative logits that counts as agreement."""


@dataclass(frozen=True)
class DoctorReport:
    """Findings of the doctor. `ok` is True when engine and eager attention agree everywhere they can be compared."""

    frame: pd.DataFrame
    """One row per site: tower, kind, layer, call, module, route, pattern_difference, streaming_difference, reached.

    `route` is "interface" or "softmax" (the fallback, whose pattern is the model's own softmax). Differences are
    the largest absolute ones of probabilities, and the largest relative ones of statistics.
    """
    logits_difference: float
    """Largest difference of logits between the engine and the model's eager attention, over the largest logit."""
    edit_effect: float
    """Largest change of a logit when the pattern of every language-tower head is edited; 0 means edits are lost, NaN
    that there is but one key."""
    tolerance: float
    unreached: list[str] = field(default_factory=list)
    fallback: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    trials: pd.DataFrame | None = None
    """One row per way of running the model that was tried out: trial, passed, difference, problem, note."""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when there is no problem. Modules out of reach are listed, but are no mismatch."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "ok": self.ok,
            "problems": self.problems,
            "logits_difference": self.logits_difference,
            "edit_effect": self.edit_effect,
            "tolerance": self.tolerance,
            "unreached": self.unreached,
            "fallback": self.fallback,
            "sites": _plain_rows(self.frame),
            "trials": [] if self.trials is None else _plain_rows(self.trials),
            "provenance": self.provenance,
        }

    def __repr__(self) -> str:
        state = "ok" if self.ok else f"{len(self.problems)} problems"
        return f"DoctorReport({state}, {len(self.frame)} sites, {len(self.unreached)} unreached)"


def doctor(
    subject: Subject | PreTrainedModel,
    inputs: Mapping[str, Tensor] | None = None,
    *,
    tolerance: float | None = None,
) -> DoctorReport:
    """Compares headwise with the model's own eager attention, site by site, on your model and inputs.

    Five forwards: plain, eager (recording what the model's own eager function returns), the engine with patterns,
    the engine with streaming statistics, with both; and one with an edit, to see that it reaches the logits. Only real
    rows count: what stands at padding differs between implementations. A padded batch, a decode step and a static
    cache are tried out on made-up tokens.

    Args:
        subject: a `Subject` or a bare transformers model.
        inputs: keyword arguments of the model's forward; a few made-up tokens when None.
        tolerance: largest difference that counts as agreement; by dtype when None (1e-4 in float32).

    Raises:
        UnsupportedModel: no attention of this model can be seen.
        InputError: no input could be made up for the model, the inputs do not fit it, or its own output is NaN.

    Example:
        >>> import headwise as hw
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> hw.doctor(model)
        DoctorReport(ok, 1 sites, 0 unreached)
    """
    model, _ = unwrap(subject)
    if instrument(model).sessions:
        raise InputError(
            "The model is captured or patched at the moment.",
            evidence=type(model).__name__,
            remedy="Call doctor outside the `with` block, or remove the patch first.",
        )
    limit = of_coarsest(model, _TOLERANCE, 1e-4) if tolerance is None else tolerance
    with torch.no_grad():
        forward_inputs, plain = first_that_fits(model, inputs, lambda some: _forward(model, some))
        require_numbers(model, forward_inputs, _real(plain, forward_inputs))
        trials = trials_of(model).trials
        reference, eager = _reference(model, forward_inputs)
        with capture(subject, stats=False, maps=True, check=False) as maps:
            engine = _forward(model, forward_inputs)
        with capture(subject, stats=True, check=False) as streamed:
            _forward(model, forward_inputs)
        with capture(subject, stats=True, maps=True, check=False) as dense:
            _forward(model, forward_inputs)
        effect = _edit_effect(model, forward_inputs, plain)
    engine, eager, plain = (_real(logits, forward_inputs) for logits in (engine, eager, plain))
    routes = set(maps.meta["fallback"])
    rows = [_row(site, maps, reference, streamed, dense, routes) for site in maps.sites]
    difference = relative(engine, eager)
    if all(pattern.shape[-1] == 1 for pattern in maps.maps.values()):  # the weight has nowhere to go
        effect = float("nan")
    problems = _problems(rows, limit, difference, effect, relative(engine, plain))
    problems += [f"{trial.name}: {trial.problem}." for trial in trials if trial.problem]
    import pandas as pd

    columns = ["trial", "passed", "difference", "problem", "note"]
    tried = [(one.name, one.passed, one.difference, one.problem, one.note) for one in trials]
    return DoctorReport(
        frame=pd.DataFrame(rows),
        logits_difference=difference,
        edit_effect=effect,
        tolerance=limit,
        unreached=[*maps.unreached],
        fallback=sorted(routes),
        problems=problems,
        trials=pd.DataFrame(tried, columns=columns),
        provenance={
            **model_info(subject).identity(),
            "attention": maps.meta["attention"],
            **run_record(),
        },
    )


class _Move:
    """An edit that every row of every head feels: half of its weight goes to the first key that it sees.

    Rows still sum to what they did, so that no norm behind attention can hide the edit.
    """

    def __init__(self, tower: str, kind: str) -> None:
        self.tower, self.kind = tower, kind

    def edit(self, pattern: Tensor, site: Site, context: Any) -> Tensor:
        first = pattern.gt(0).byte().argmax(-1, keepdim=True)
        half = pattern * 0.5
        return half.scatter_add(-1, first, half.sum(-1, keepdim=True))


def _plain_rows(frame: pd.DataFrame) -> list[Any]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _forward(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return first_output(model(**inputs))


def _reference(
    model: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> tuple[dict[Site, list[Tensor | None]], Tensor]:
    instrumented = instrument(model)
    session = Reference(model, None, instrumented.language)
    with attached(instrumented, session):
        output = _forward(model, inputs)
    return session.patterns, output


def _edit_effect(model: PreTrainedModel, inputs: Mapping[str, Tensor], plain: Tensor) -> float:
    from headwise.probes.engine.session import Session

    instrumented = instrument(model)
    entry = next(entry for entry in instrumented.modules.values() if entry.tower == instrumented.language)
    session = Session(model, None, instrumented.language, fixes=(_Move(instrumented.language, entry.kind),))
    session.thread = threading.get_ident()  # what other threads do with the model meanwhile stays as it is
    with attached(instrumented, session):
        edited = _forward(model, inputs)
    return float((edited.float() - plain.float()).abs().max())


def _row(
    site: Site,
    maps: Trace,
    reference: Mapping[Site, list[Tensor | None]],
    streamed: Trace,
    dense: Trace,
    routes: set[str],
) -> dict[str, Any]:
    own = (reference.get(site) or [None])[0]
    pattern = maps.maps[site]
    difference = float("nan")
    if own is not None:
        difference = float("inf")
        if own.shape == pattern.shape:  # padded rows of a capture are NaN
            each = (pattern - own).abs().where(~pattern.isnan(), 0.0)
            difference = float(each.nan_to_num(nan=float("inf")).max())
    return {
        "tower": site.tower,
        "kind": site.kind,
        "layer": site.layer,
        "call": site.call,
        "module": site.module,
        "route": "softmax" if site.module in routes else "interface",
        "pattern_difference": difference,
        "streaming_difference": _statistics_apart(streamed, dense, site),
        "reached": True,
    }


def _statistics_apart(streamed: Trace, dense: Trace, site: Site) -> float:
    worst = 0.0
    for name in STATISTICS:
        one, other = streamed.records[site][name], dense.records[site][name]
        if not torch.equal(one.isnan(), other.isnan()):
            return float("inf")
        difference = (one - other).abs() / other.abs().clamp_min(1.0)
        worst = max(worst, float(difference.nan_to_num().max()) if difference.numel() else 0.0)
    return worst


def _real(logits: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """The rows of logits that do not stand at padding."""
    for name in ("decoder_attention_mask", "attention_mask"):
        mask = inputs.get(name)
        if (
            isinstance(mask, Tensor)
            and mask.dim() == 2
            and logits.dim() > 2
            and logits.shape[:2] == mask.shape
        ):
            return logits[mask.bool().to(logits.device)]
    return logits


def _problems(
    rows: list[dict[str, Any]], limit: float, difference: float, effect: float, from_plain: float
) -> list[str]:
    problems = []
    for row in rows:
        where = f"{row['tower']} {row['kind']} layer {row['layer']} call {row['call']} ({row['module']})"
        if row["pattern_difference"] > limit:
            problems.append(f"{where}: patterns differ from eager by {row['pattern_difference']:.2g}.")
        if row["streaming_difference"] > max(limit, 1e-4):
            problems.append(f"{where}: streaming statistics differ by {row['streaming_difference']:.2g}.")
    if not difference <= limit:
        problems.append(f"Logits differ from eager attention by {difference:.2g} of the largest logit.")
    if not from_plain <= limit:
        problems.append(
            f"Logits differ from the model's own attention by {from_plain:.2g} of the largest logit."
        )
    if effect == 0.0:
        problems.append("An edit of every pattern did not reach the logits.")
    return problems
