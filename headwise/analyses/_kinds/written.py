"""What every head would write of a token, if it looked at nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.fixes.edits.replace import Replace
from headwise.fixes.patching import patch
from headwise.layout.roles import Vocabulary
from headwise.probes.capture import capture
from headwise.probes.projection import output_projections
from headwise.probes.run_examples import run_model
from headwise.subject.info import model_info

if TYPE_CHECKING:
    from headwise.probes.attach.sites import Site
    from headwise.subject import Subject


def written_tokens(
    subject: Subject, tokens: Sequence[int]
) -> Iterator[tuple[Site, Float[Tensor, "head token width"]]]:
    """For every site of a decoder, what its heads add to the residual for each token: its value through W_O.

    The value is made of the residual behind layer 0, where a token has been read and little else; the first two layers
    read what they always do. Sites without values or W_O are left out.
    """
    opening = sorted(Vocabulary.of(subject.model, subject.processor).bos)[:1]
    inputs = subject.prepare(text=[[*opening, token] for token in tokens])
    with capture(subject, stats=False, residual=True, check=False) as trace:
        run_model(subject, inputs)
    info = model_info(subject)
    entering = {site.layer: value for site, value in trace.residual.items() if site.tower == info.tower}
    first, *later = [layer for layer in sorted(entering) if layer] or [0]
    same = [Replace(quantity="residual", layer=layer, value=entering[first]) for layer in later]
    with patch(subject, same), capture(subject, stats=False, qkv=True, check=False) as trace:
        run_model(subject, inputs)
    projections, _ = output_projections(subject)
    for site in trace.values:
        if site in projections and (site.tower, site.kind) == (info.tower, "self"):
            weight = projections[site].weight
            value = trace.values[site][:, :, -1].to(weight.dtype)
            value = value.repeat_interleave(len(weight) // value.shape[1], 1)
            yield site, torch.einsum("thw,hwd->htd", value, weight)
