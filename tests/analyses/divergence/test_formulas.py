"""Formulas of divergence: slow twins, ends of the scales, and hidden keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.functional import divergence as formulas
from headwise.functional.redistribution import hide_keys


class TestFormulas:
    @given(st.integers(0, 10**6))
    @settings(max_examples=20, deadline=None)
    def test_twins(self, seed):
        draw = np.random.default_rng(seed)
        a, b, weight = draw.normal(size=(3, 4, 5)), draw.normal(size=(3, 4, 5)), draw.normal(size=(4, 5, 6))
        p, q = (draw.dirichlet(np.ones(7), size=3) for _ in "pq")
        one, two = torch.tensor(a), torch.tensor(b)
        far, norm = np.sqrt(((a - b) ** 2).sum(-1)), np.sqrt((a**2).sum(-1))
        cosine = 1 - (a * b).sum(-1) / norm / np.sqrt((b**2).sum(-1))
        written = np.sqrt((np.einsum("thw,hwd->thd", a - b, weight) ** 2).sum(-1))
        middle = (p + q) / 2
        js = ((p * np.log(p / middle)).sum(-1) + (q * np.log(q / middle)).sum(-1)) / 2
        for found, twin in (
            (formulas.head_divergence(one, two), far),
            (formulas.head_divergence(one, two, distance="relative"), far / (norm + 1e-6)),
            (formulas.head_divergence(one, two, distance="cosine"), cosine),
            (formulas.written_divergence(one, two, torch.tensor(weight)), written),
            (formulas.total_variation(torch.tensor(p), torch.tensor(q)), np.abs(p - q).sum(-1) / 2),
            (formulas.jensen_shannon(torch.tensor(p), torch.tensor(q)), js),
            (formulas.reliance(torch.tensor(far), k=2), np.sort(far, -1)[:, -2:].sum(-1)),
        ):
            np.testing.assert_allclose(found.numpy(), twin, rtol=1e-4, atol=1e-6)

    def test_golden_layer(self):
        """vision_language.md 13: head 7 is an outlier only where its output without image is large, too."""
        values, energy = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 20]), torch.tensor([1.0] * 7 + [30.0])
        for deviation in ("sample", "population"):
            found = formulas.without_outliers(values, energy, deviation=deviation)
            assert found.tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
        assert formulas.without_outliers(values, torch.ones(8)).tolist() == values.tolist()
        assert formulas.reliance(values) == 20

    def test_ends_of_the_scales(self):
        one, two = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        assert formulas.jensen_shannon(one, two) == pytest.approx(math.log(2))
        assert formulas.total_variation(one, two) == 1
        assert formulas.jensen_shannon(one, one) == formulas.total_variation(one, one) == 0
        drawn = torch.randn(50, 3, 8, generator=torch.Generator().manual_seed(0))
        assert (formulas.head_divergence(drawn, drawn, distance="cosine") == 0).all()

    def test_hidden_keys_are_hidden_however_little_is_left(self):
        """A head with all but a billionth of its weight on the image reads the rest without it."""
        row = torch.tensor([[1.0, 1e-9, 3e-9]])
        hidden = hide_keys(row, torch.tensor([[True, False, False]]))
        torch.testing.assert_close(hidden, torch.tensor([[0.0, 0.25, 0.75]]))
        alone = torch.tensor([[1.0, 0.0]])
        assert torch.equal(hide_keys(alone, torch.tensor([[True, False]])), alone)
