"""The linear layers that take head outputs, found by what they are fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.probes.attach.sites import Site
from headwise.probes.check.probe_inputs import first_that_fits
from headwise.probes.engine.instrumentation import attached, instrument
from headwise.probes.engine.session import Session
from headwise.probes.selection import EVERYTHING
from headwise.probes.trace.fields import merge_records
from headwise.probes.trace.options import CaptureOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Projection:
    """The linear layer that takes a site's head outputs side by side."""

    name: str
    """Qualified name of the layer."""
    weight: Float[Tensor, "head width model_width"]
    """W_O per head. Its bias belongs to no head."""

    def writes(
        self, z: Float[Tensor, "example query head width"]
    ) -> Float[Tensor, "example query head model_width"]:
        """Contribution of every head to the residual: z_h W_O[h], before a norm that the model may put behind it.

        Summed over heads, and with the layer's bias, this is the layer's output.
        """
        return torch.einsum("eqhw,hwd->eqhd", z.to(self.weight.dtype), self.weight)


def output_layers(
    model: PreTrainedModel, inputs: Mapping[str, Any] | None = None
) -> tuple[dict[Site, Projection], list[Site]]:
    """What `headwise.probes.projection.output_projections` gives.

    Raises:
        InputError: no input could be made up for the model.
    """
    fed: list[tuple[str, nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(_Fed(name, fed))
        for name, module in model.named_modules()
        if is_linear(module)
    ]
    instrumented = instrument(model)
    options = CaptureOptions(heads=EVERYTHING)
    session = Session(model, None, instrumented.language, options=options)
    try:
        with torch.no_grad(), attached(instrumented, session):
            first_that_fits(model, inputs, lambda candidate: model(**candidate))
    finally:
        for hook in hooks:
            hook.remove()
    runs = [
        run.results(every=False).records
        for tracker in session.trackers
        for run in tracker.runs
        if run.buffers
    ]
    projections, missing = {}, []
    for site, record in merge_records(runs).items():
        z = record.get("z")
        match = next((entry for entry in fed if z is not None and _same(entry[2], z)), None)
        if match is None or z is None:
            missing.append(site)
            continue
        name, module, _ = match
        projections[site] = Projection(name, weight_of(module).reshape(z.shape[2], z.shape[3], -1))
    return projections, missing


class _Fed:
    def __init__(self, name: str, fed: list[tuple[str, nn.Module, Tensor]]) -> None:
        self.name, self.fed = name, fed

    def __call__(self, module: nn.Module, args: tuple) -> None:
        if args and isinstance(args[0], Tensor):
            self.fed.append((self.name, module, args[0].detach()))


def _same(fed: Tensor, z: Tensor) -> bool:
    return (
        fed.numel() == z.numel()
        and fed.shape[-1] == z.shape[2] * z.shape[3]
        and torch.equal(fed.flatten(), z.flatten())
    )


def is_linear(module: nn.Module) -> bool:
    """True for a layer with a weight matrix."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def weight_of(module: Any) -> Float[Tensor, "fed given"]:
    """The weight of a linear layer, rows by what it is fed."""
    weight = module.weight.detach()
    return weight if type(module).__name__ == "Conv1D" else weight.T
