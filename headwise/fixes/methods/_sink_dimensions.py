"""Which residual dimensions mark the sinks of a model."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Literal

import torch

from headwise.errors import InputError, NotFitted
from headwise.functional.redistribution import SHARE_OF_BOUND, standing_out
from headwise.layout import ROLES
from headwise.subject.calibration import Calibration, as_calibration

if TYPE_CHECKING:
    from headwise.subject import Subject

LEAST_PROMPTS, MOST_PROMPTS, MOST_DIMENSIONS = 8, 64, 4


def find_sink_dimensions(
    subject: Subject,
    data: Calibration,
    *,
    layers: tuple[int, ...] | None = None,
    tau: float | Literal["auto"] = "auto",
) -> tuple[tuple[int, ...], str]:
    """Dimensions in which the first token stands out, and how they were found.

    Of every prompt and layer (2 to the last but one) the residual x of <bos> is taken, or of the token with the
    largest norm where there is no <bos>. A dimension marks sinks when |x[d]| / rms(x) reaches `tau` ("auto": 0.3125
    times the root of the width) in at least half of these; at most four, those with the largest mean. Ours: the paper
    gives dimensions of its models only.

    Returns:
        The dimensions, smallest first, none when the model has none; and a sentence that says so.

    Raises:
        InputError: fewer than eight prompts.
        NotFitted: there is no layer to look in.
    """
    from headwise.probes.run_examples import run_examples
    from headwise.subject.generation import Generation

    data = as_calibration(data)
    prompts = data.prompts[:MOST_PROMPTS]
    if len(prompts) < LEAST_PROMPTS:
        raise InputError(
            f"Sink dimensions are looked for in {LEAST_PROMPTS} prompts or more.",
            evidence=f"{len(prompts)} from {data.name}",
            remedy="Give more prompts.",
        )
    shares = []
    inputs = (Generation(subject.prepare(**prompt)) for prompt in prompts)
    options = {"stats": False, "residual": True, "check": False}
    for run in run_examples(subject, inputs, capture=options):
        trace = run.trace
        sites = [site for site in trace.residual if site.tower == "text" and site.kind == "self"]
        depth = max(site.layer for site in sites) + 1
        wanted = layers if layers is not None else range(2, depth - 1)
        bos = trace.layout.axes["text"].roles[0] == ROLES.index("bos")
        for site in sites:
            if site.layer in wanted:
                x = trace.residual[site][0].float()
                place = int(bos.int().argmax()) if bool(bos.any()) else int(x.norm(dim=-1).argmax())
                shares.append((x[place].abs() / x[place].square().mean().sqrt()).cpu())
    if not shares:
        raise NotFitted(
            "There is no layer to look for sink dimensions in.",
            evidence="VAR leaves the first two layers and the last one alone",
            remedy="Name layers=.",
        )
    ratio = torch.stack(shares)
    least = SHARE_OF_BOUND * sqrt(ratio.shape[-1]) if tau == "auto" else float(tau)
    found = standing_out(ratio, least, most=MOST_DIMENSIONS)
    if not found:
        mean = ratio.mean(0)
        best = int(mean.argmax())
        reached = f"the largest, {best}, has {mean[best]:.3g} times the rms, a sink {least:.3g}"
        return (), f"fit: no dimension marks sinks in this model ({reached}), so VAR changes nothing"
    return found, f"fit: the first token stands out, {len(prompts)} prompts of {data.name}"
