"""How far heads look and need to look: by hand, against twins, exactness of the influence, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.functional.influence import band_span, masking_influence
from headwise.testing.models import shared_model, tiny_model
from tests.kit.traces import TEXT, causal, detailed, make_trace, random_pattern, uniform

N = 10
BACK = torch.arange(N)[:, None] - torch.arange(N)


class TestQuantileDistance:
    def test_twin(self) -> None:
        maps = causal(random_pattern(2, 3, N, N))
        trace = detailed(make_trace({TEXT: maps}), near=N)
        for quantile in (0.5, 0.9, 1.0):
            found = analyses.quantile_distance(trace, quantile=quantile, window=N).frame
            expected = [
                np.mean(
                    [
                        next(d for d in range(row + 1) if p[row - d : row + 1].sum() >= quantile - 1e-6)
                        for row, p in enumerate(head.double().numpy())
                    ]
                )
                for head in maps.flatten(0, 1)
            ]
            np.testing.assert_allclose(found["reach"], expected, rtol=1e-6)
            assert (found["inside"] == 1).all()

    def test_a_head_that_looks_at_itself_and_one_that_looks_far(self) -> None:
        itself, first = torch.eye(N), torch.zeros(N, N)
        first[:, 0] = 1
        trace = detailed(make_trace({TEXT: torch.stack([itself, first])[None]}), near=4)
        found = analyses.quantile_distance(trace, window=4)
        assert found.frame["reach"].tolist() == pytest.approx([0.0, (0 + 1 + 2 + 3 + 6 * 4) / N])
        assert found.frame["inside"].tolist() == pytest.approx([1.0, 0.4])
        assert "or more: in 30 % of the rows it lies farther back" in found.summary

    def test_refused(self) -> None:
        trace = detailed(make_trace({TEXT: uniform(N)}), near=4)
        with pytest.raises(CaptureError, match=r"4 keys near each row, and the window is 64.*near=64"):
            analyses.quantile_distance(trace)
        for wrong in ({"quantile": 0.0}, {"quantile": 1.1}, {"window": 0}):
            with pytest.raises(InputError, match=next(iter(wrong))):
                analyses.quantile_distance(trace, **{"window": 4, **wrong})


class TestInfluence:
    def test_it_is_the_change_of_a_linear_loss(self) -> None:
        """Hide a key, scale the row up to one: exact, also where a row has but one key."""
        pattern = causal(random_pattern(1, 2, 6, 6).double())
        slope = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()
        found = masking_influence(pattern, slope)
        for row in range(6):
            for key in range(row + 1):
                hidden = pattern[..., row, :].clone()
                hidden[..., key] = 0
                hidden = hidden / hidden.sum(-1, keepdim=True) if row else hidden
                change = ((hidden - pattern[..., row, :]) * slope[..., row, :]).sum(-1)
                torch.testing.assert_close(found[..., row, key], change, rtol=1e-10, atol=1e-12)

    def test_a_slope_that_is_the_same_for_all_keys_has_no_influence(self) -> None:
        pattern = causal(random_pattern(1, 1, 6, 6))
        found = masking_influence(pattern, torch.full_like(pattern, 3.0))
        assert found[..., 1:, :].abs().max() < 1e-5

    @pytest.mark.parametrize("width", [1, 3, N])
    def test_the_span_of_a_planted_band_is_its_width(self, width: int) -> None:
        band = ((BACK >= 0) & (width > BACK)).float()
        assert int(band_span(band, BACK, share=0.999, first=0)) == width

    def test_twin(self) -> None:
        size = torch.rand(3, N, N, generator=torch.Generator().manual_seed(0))
        for share in (0.5, 0.9):
            found = band_span(-size, BACK, share=share, first=2)
            for head, own in enumerate(size.numpy()):
                total = sum(own[row, key] for row in range(N) for key in range(row + 1))
                widths = [
                    width
                    for width in range(N + 1)
                    if sum(own[i, j] for i in range(N) for j in range(2, i + 1) if i - j >= width)
                    <= (1 - share) * total
                ]
                assert int(found[head]) == min(widths)


class TestEffectiveSpan:
    def test_twin_on_the_models_own_patterns(self) -> None:
        """Patterns and slopes that eager attention gives, hidden key by hidden key."""
        model, ids = shared_model("llama"), list(range(5, 17))
        found = analyses.effective_span(model, [{"text": ids}, {"text": ids[:4]}], share=0.8, first=2).frame
        eager = shared_model("llama", "eager")
        given = torch.tensor([ids])
        out = eager(given, output_attentions=True)
        loss = torch.nn.functional.cross_entropy(out.logits[0, :-1], given[0, 1:])
        slopes = torch.autograd.grad(loss, out.attentions)
        mine = found[found["example"] == 0].set_index(["layer", "head"])
        for layer, (pattern, slope) in enumerate(zip(out.attentions, slopes, strict=True)):
            for head in range(pattern.shape[1]):
                p, g = pattern[0, head].detach().double().numpy(), slope[0, head].double().numpy()
                size = np.zeros_like(p)
                for i in range(1, len(p)):
                    for j in range(i + 1):
                        size[i, j] = abs(p[i, j] * (g[i, j] - g[i] @ p[i]) / (1 - p[i, j]))
                size[0, 0] = abs(g[0, 0])
                row = mine.loc[layer, head]
                assert row["influence"] == pytest.approx(size.sum(), rel=1e-3)
                assert row["on_first"] == pytest.approx(size[:, :2].sum() / size.sum(), rel=1e-3)
                outside = [np.tril(size, -width)[:, 2:].sum() / size.sum() for width in range(13)]
                assert row["span"] == next(width for width, share in enumerate(outside) if share <= 0.2)
        assert set(found[found["example"] == 1]["length"]) == {4}
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_frozen_parameters_change_nothing(self) -> None:
        model, texts = tiny_model("llama"), [{"text": list(range(5, 17))}]
        free = analyses.effective_span(model, texts).frame
        frozen = analyses.effective_span(model.requires_grad_(False), texts).frame
        np.testing.assert_allclose(frozen["influence"], free["influence"], rtol=1e-6)

    def test_refused(self) -> None:
        for wrong in ({"share": 1.0}, {"first": -1}):
            with pytest.raises(InputError, match=next(iter(wrong))):
                analyses.effective_span(shared_model("llama"), [{"text": [5, 6, 7]}], **wrong)
        with pytest.raises(InputError, match="reads a list of examples"):
            analyses.effective_span(shared_model("llama"), [])
