"""An analysis of two captures: how far every head's output moves."""

from __future__ import annotations

import pandas as pd
import torch

from headwise.analyses import HEAD, analysis


def finding(frame):
    top = frame.loc[frame["shift"].idxmax()]
    return f"The largest shift is {top['shift']:.3f}, in L{top['layer']}H{top['head']}."


@analysis(
    kind="heads",
    keys=HEAD,
    value="shift",
    unit="distance",
    needs=("heads",),
    inputs="pair",
    description="Distance of a head's outputs before and after, mean over rows that are no padding.",
    summary=finding,
)
def output_shift(before, after):
    """Distance of a head's outputs between two captures, mean over real rows."""
    rows = []
    for site in before.sites:
        old, new = before.heads[site], after.heads[site]
        real = before.layout.axes[site.tower].valid[:, before.positions[site]]  # (example, query)
        apart = (old - new).norm(dim=-1)  # (example, query, head)
        shifts = torch.nanmean(apart.where(real[..., None], torch.nan), dim=1)
        rows += [
            (example, site.tower, site.kind, site.layer, site.call, head, float(shifts[example, head]))
            for example in range(shifts.shape[0])
            for head in range(shifts.shape[1])
        ]
    return pd.DataFrame(rows, columns=[*HEAD, "shift"])
