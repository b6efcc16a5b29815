"""Saliency by attention and its gradient."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headwise.probes.attach.sites import key_tower
from headwise.probes.capture import capture
from headwise.saliency.explained import Explained, Maps
from headwise.saliency.gradients import gradients, require_slope


def attention_times_gradient(example: Explained) -> Maps:
    """Sum of A · dA over rows, heads and layers of the tower that writes, for every key; signed.

    Keys of cross-attention are positions of the encoder's output, whatever `at` of the example is.

    No pattern is formed: over the rows of a head the sum is ⟨v, df/dv⟩, exactly, so that the model keeps its fused
    kernel and memory grows with the length alone.
    """
    require_slope(example)
    question = example.question
    with (
        torch.enable_grad(),
        capture(question.subject, stats=False, gradients=True, sites={"tower": question.tower}) as trace,
    ):
        values, _ = replace(example, at="input").forward()
    graph = {site: record["v_heads"] for site, record in trace.records.items() if "v_heads" in record}
    towers = {site: key_tower(site.tower, site.kind, question.layout.axes) for site in graph}
    rows: dict[str, list[Tensor]] = {}
    for token in range(values.shape[1]):
        found = gradients(values[0, token], graph, last=token == values.shape[1] - 1)
        sums: dict[str, Tensor] = {}
        for site, gradient in found.items():
            own = (graph[site].detach()[0].float() * gradient[0].float()).sum((0, -1))
            sums[towers[site]] = sums.get(towers[site], 0) + own
        for tower, one in sums.items():
            rows.setdefault(tower, []).append(one)
    return {tower: torch.stack(parts) for tower, parts in rows.items()}
