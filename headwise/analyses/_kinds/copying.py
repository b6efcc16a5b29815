"""Whether what a head writes is the token that it reads, from the weights alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.functional.head_types import copying_score
from headwise.model.embeddings import input_embedding
from headwise.probes.projection import output_projections, value_projections
from headwise.probes.trace.frames import site_columns
from headwise.subject.info import model_info

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.subject import Subject


def copying_table(subject: Subject) -> pd.DataFrame:
    """A row for every head that has a copying score, in `score`, see `copying_scores`."""
    from pandas import DataFrame, concat

    found = copying_scores(subject).items()
    parts = [
        DataFrame(site_columns(site) | {"head": range(len(own)), "score": own.numpy()}) for site, own in found
    ]
    return concat(parts, ignore_index=True) if parts else DataFrame()


def copying_scores(subject: Subject) -> dict[Site, Float[Tensor, " head"]]:
    """The copying score of every self-attention head of the language tower whose weights can be found.

    Norms and MLPs between the embedding, the head and the unembedding are left out, and so is the bias of W_V.
    """
    model: Any = subject.model
    read: Any = input_embedding(model)
    written: Any = model.get_output_embeddings()
    if read is None or written is None:
        return {}
    size = min(len(read.weight), len(written.weight))
    back = written.weight[:size].detach().float().T @ read.weight[:size].detach().float()
    outputs, _ = output_projections(subject)
    values, _ = value_projections(subject)
    language, found = model_info(subject).tower, {}
    for site in (site for site in outputs if site in values):
        w_o, w_v = outputs[site].weight.float(), values[site].float()
        if (site.tower, site.kind) == (language, "self") and (w_o.shape[2], w_v.shape[1]) == tuple(
            back.shape
        ):
            w_v = w_v.repeat_interleave(len(w_o) // len(w_v), 0)
            found[site] = copying_score(torch.einsum("hwd,de,hev->hwv", w_o, back, w_v)).cpu()
    return found
