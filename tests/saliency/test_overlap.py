"""Agreement of two maps: twins of scipy, ends of the scales, chance, and what has no number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headwise.functional.overlap import DISTANCES, MEASURES, earth_mover, iou, pearson, spearman

numbers = st.lists(st.floats(0.0, 8.0, width=16), min_size=3, max_size=12)


def pair(values: list[float], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    one = torch.tensor(values)
    return one, torch.rand(len(values), generator=torch.Generator().manual_seed(seed))


@given(numbers)
def test_correlations_are_those_of_scipy(values):
    a, b = pair(values)
    if a.max() - a.min() <= 1e-6 * a.abs().max():
        assert pearson(a, b).isnan()
        return
    assert pearson(a, b).item() == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-5)
    assert spearman(a, b).item() == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-5)


@given(numbers)
def test_auc_counts_pairs(values):
    a, b = pair(values)
    top = b.argsort(descending=True)[: math.ceil(0.1 * len(b))].tolist()
    others = [value for place, value in enumerate(a.tolist()) if place not in top]
    wins = [float(a[place] > other) + float(a[place] == other) / 2 for place in top for other in others]
    assert MEASURES["auc"](a, b).item() == pytest.approx(np.mean(wins), abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_a_map_agrees_with_itself_most(name):
    a = torch.tensor([0.1, 0.6, 0.05, 0.25])
    best = {"on_salient": 0.6}.get(name, 0.0 if name in DISTANCES else 1.0)
    assert MEASURES[name](a, a).item() == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jensen_shannon", 1.0),
        ("iou", 0.0),
        ("intersection", -1 / 9),
        ("on_salient", 0.0),
        ("earth_mover", 0.3 / 0.9),
    ],
)
def test_maps_that_share_nothing(name, value):
    a, b = torch.zeros(10), torch.zeros(10)
    a[2], b[5] = 1.0, 1.0
    assert MEASURES[name](a, b).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("shift", [1, 3])
def test_a_shift_costs_its_way(shift):
    a = torch.zeros(9)
    a[1] = 1
    assert earth_mover(a, a.roll(shift)).item() == pytest.approx(shift / 8)


def test_the_mean_over_rows_is_the_correlation_of_all_that_was_z_scored():
    a, b = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(3))
    z = [(one - one.mean(-1, keepdim=True)) / one.std(-1, keepdim=True) for one in (a, b)]
    assert pearson(a, b).mean().item() == pytest.approx(
        pearson(z[0].flatten(), z[1].flatten()).item(), abs=1e-6
    )


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_flat_map_has_no_correlation(name):
    assert MEASURES[name](torch.full((4,), 1 / 3), torch.arange(4.0)).isnan()


def test_a_map_without_a_positive_entry_is_no_distribution():
    assert MEASURES["jensen_shannon"](-torch.ones(3), torch.ones(3)).isnan()


def test_of_equal_ones_the_first_is_largest():
    assert iou(torch.ones(4), torch.tensor([1.0, 0, 0, 0])) == 1
