"""Inputs on which every layer that a fix acts on runs, and the W_O that is found there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import FixError, HeadwiseError, InputError
from headwise.model.device import input_device
from headwise.probes.attach.sites import Site
from headwise.probes.check.probe_inputs import probe_inputs
from headwise.probes.check.trial import first_output
from headwise.probes.engine.instrumentation import instrument
from headwise.probes.fix_plan import plan_fix
from headwise.probes.projection import Projection, output_projections

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject

_COMPLAINTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What models and processors raise on an input that is not theirs."""


@dataclass(frozen=True)
class Reading:
    """One input that a model runs on, and what was found there."""

    inputs: Mapping[str, Any]
    found: Mapping[Site, Projection]
    """W_O of every site where there is one."""
    missing: tuple[Site, ...]
    """Sites of the fixes where no W_O was found."""

    def run(self, model: PreTrainedModel) -> Tensor:
        """The model's logits (or its first output) on this input; the random state is kept."""
        device = input_device(model)
        devices = [device] if device.type == "cuda" else []
        plainly = torch.autocast(device.type, enabled=False)
        with torch.random.fork_rng(devices=devices), torch.no_grad(), plainly:
            torch.manual_seed(0)
            return first_output(model(**self.inputs)).detach()


def readings(subject: Subject, fixes: tuple[Any, ...], inputs: Mapping[str, Any] | None) -> list[Reading]:
    """Inputs that together run every layer that the fixes act on: `inputs`, or made-up ones when None.

    Raises:
        FixError: a layer ran on none of them.
        InputError: the model runs on none of them.
    """
    model = subject.model
    instrumented = instrument(model)
    plans = tuple(map(plan_fix, fixes))
    needed = {
        entry.name
        for entry in instrumented.modules.values()
        for layer in entry.layers
        if any(plan.touches(Site(entry.tower, entry.kind, layer), instrumented.language) for plan in plans)
    }
    chosen: list[Reading] = []
    tried, complaint = False, None
    for given in _made_up(subject) if inputs is None else [inputs]:
        try:
            found, missing = output_projections(subject, given)
        except InputError as error:
            complaint = complaint or error
            continue
        tried = True
        ran = {site.module for site in (*found, *missing)}
        if needed & ran:
            acted_on = [
                site for site in missing if any(plan.touches(site, instrumented.language) for plan in plans)
            ]
            chosen.append(Reading(given, found, tuple(acted_on)))
            needed -= ran
        if not needed:
            return chosen
    if complaint is not None and not tried:
        raise complaint if inputs is not None else _none_fits(complaint.evidence)
    raise FixError(
        f"Not every layer that the fix acts on ran: {min(needed)} did not.",
        evidence=f"{type(model).__name__} on {'the inputs given' if inputs is not None else 'made-up inputs'}",
        remedy="Pass inputs that run it: inputs=subject.prepare(text=..., image=...).",
    )


def _made_up(subject: Subject) -> Iterator[Mapping[str, Any]]:
    try:
        yield from probe_inputs(subject.model)
    except _COMPLAINTS as error:  # an unusual configuration
        reason = (str(error).splitlines() or [""])[0][:160]
        raise _none_fits(f"{type(subject.model).__name__}: {reason}") from error
    if subject.processor is not None:
        from PIL import Image

        try:
            yield subject.prepare(text="a", image=Image.linear_gradient("L").convert("RGB"))
        except (HeadwiseError, *_COMPLAINTS):  # it takes no picture
            return


def _none_fits(reason: str) -> InputError:
    return InputError(
        "No input could be made up for this model.",
        evidence=reason,
        remedy="Pass inputs=subject.prepare(text=..., image=...).",
    )
