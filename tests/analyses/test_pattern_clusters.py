"""Clusters of patterns: planted groups, distances by hand and by plain loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.clustering import pattern_distances, silhouettes
from headwise.probes.attach.sites import Site
from tests.kit.traces import axis, causal, make_trace, random_pattern

LAYERS = [Site("text", "self", 0), Site("text", "self", 1)]
WORDS = {"text": axis("text", [["bos"] + ["content"] * 7])}


def planted():
    """Heads 0.0, 0.2 and 1.1 look at the first key, 0.1 and 1.0 at themselves, with a little noise; 1.2 is flat."""
    noise = causal(random_pattern(1, 6, 8, 8))[0]
    first, itself = torch.zeros(8, 8), torch.eye(8)
    first[:, 0] = 1
    flat = causal(torch.ones(8, 8))
    clean = torch.stack([first, itself, first, itself, first, flat])
    return 0.95 * clean + 0.05 * noise


def traced(patterns):
    return make_trace(dict(zip(LAYERS, patterns.view(2, 1, 3, 8, 8), strict=True)), WORDS, causal=True)


def test_planted_groups_are_found_across_layers():
    patterns = planted()
    found = analyses.pattern_clusters(traced(patterns), clusters=3)
    groups: dict[str, list[tuple[int, int]]] = {}
    for row in found.frame.to_dict("records"):
        groups.setdefault(row["cluster"], []).append((row["layer"], row["head"]))
        assert (f"L{row['layer']}H{row['head']}" == row["cluster"]) == (row["distance"] == 0)
    assert sorted(groups.values()) == [[(0, 0), (0, 2), (1, 1)], [(0, 1), (1, 0)], [(1, 2)]]
    assert "6 heads in 3 clusters" in found.summary
    assert "1 alone" in found.summary
    assert len(found.panels()) == 3
    one = analyses.pattern_clusters(traced(patterns), clusters=2).frame
    assert one["cluster"].nunique() == 2


def test_distances_are_those_of_plain_loops():
    patterns = planted().double()
    far = pattern_distances(patterns)
    for a, b in combinations(range(6), 2):
        costs = []
        for row in range(8):
            p, q = patterns[a, row].numpy(), patterns[b, row].numpy()
            m = (p + q) / 2
            costs.append(
                sum(x * math.log(x / y) / 2 for o in (p, q) for x, y in zip(o, m, strict=True) if x > 0)
            )
        assert float(far[a, b]) == float(far[b, a]) == pytest.approx(np.mean(costs), rel=1e-5)
    assert far.diagonal().abs().max() == 0


def test_silhouettes_are_those_of_plain_loops():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    far, groups = torch.cdist(points, points), torch.tensor([0, 0, 1, 1, 1, 2, 0])
    for item, value in enumerate(silhouettes(far, groups).tolist()):
        means = {
            int(group): [
                float(far[item, other]) for other in range(7) if other != item and groups[other] == group
            ]
            for group in groups
        }
        own = means.pop(int(groups[item]))
        near = min(np.mean(values) for values in means.values())
        assert value == pytest.approx(
            (near - np.mean(own)) / max(near, np.mean(own)) if own else 0.0, abs=1e-6
        )


def test_what_cannot_be_compared_is_refused():
    trace = traced(planted())
    with pytest.raises(InputError, match="two clusters or more"):
        analyses.pattern_clusters(trace, clusters=1)
    assert analyses.pattern_clusters(trace, clusters=7).frame["cluster"].nunique() == 6
    alone = make_trace({LAYERS[0]: planted()[None, :1]}, WORDS, causal=True)
    with pytest.raises(CaptureError, match="one head"):
        analyses.pattern_clusters(alone)
