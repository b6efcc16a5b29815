"""Analyses: known answers, laws, and slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise import analyses
from headwise.errors import CaptureError, InputError
from headwise.layout import ROLES
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from tests.kit.analyses import NAMES
from tests.kit.traces import TEXT, axis, causal, make_trace, padded_batch, plain_axis, random_pattern, uniform

T = 64
LOWER = torch.ones(T, T, dtype=torch.bool).tril()
DECODER = Site("decoder", "self", 0)
CROSS = Site("decoder", "cross", 0)


class TestFormulas:
    """The functions on tensors, against plain loops."""

    def test_entropy_of_known_rows(self):
        attn = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0], [0.5, 0, 0.5, 0]])
        entropy = analyses.row_entropy(attn)
        torch.testing.assert_close(entropy, torch.tensor([math.log(4), 0.0, math.log(2)]))
        share = analyses.normalised_entropy(entropy[None, None], n_keys=torch.full((1, 3), 4.0))
        torch.testing.assert_close(share, torch.tensor([[[1.0, 0.0, 0.5]]]))

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padding_does_not_change_entropy(self, side):
        attn = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(0)).softmax(-1)
        pad = (3, 0) if side == "left" else (0, 3)
        padded = torch.nn.functional.pad(attn, pad, value=0.2)
        mask = torch.nn.functional.pad(torch.ones(2, 6, dtype=torch.bool), pad, value=False)
        torch.testing.assert_close(analyses.row_entropy(padded, key_mask=mask), analyses.row_entropy(attn))

    def test_a_row_without_keys_is_nan(self):
        mask = torch.zeros(1, 3, dtype=torch.bool)
        assert analyses.row_entropy(torch.rand(1, 2, 3), key_mask=mask).isnan().all()
        assert analyses.mean_received(torch.rand(3, 3), visible=mask.expand(3, 3)).isnan().all()

    @given(st.permutations(range(5)))
    @settings(max_examples=20, deadline=None)
    def test_entropy_does_not_depend_on_the_order_of_keys(self, order):
        attn = random_pattern(1, 1, 3, 5)
        torch.testing.assert_close(analyses.row_entropy(attn[..., order]), analyses.row_entropy(attn))

    def test_twins(self):
        attn = causal(random_pattern(2, 3, 7, 7))
        visible = torch.ones(7, 7, dtype=torch.bool).tril()
        p = attn.double().numpy()
        entropy, distance = np.zeros((2, 3, 7)), np.zeros((2, 3, 7))
        received = np.zeros((2, 3, 7))
        for b, h, i in np.ndindex(2, 3, 7):
            for j in range(i + 1):
                entropy[b, h, i] -= p[b, h, i, j] * math.log(p[b, h, i, j])
                distance[b, h, i] += p[b, h, i, j] * (i - j)
                received[b, h, j] += p[b, h, i, j] / (7 - j)
        for value, twin in (
            (analyses.row_entropy(attn), entropy),
            (analyses.mean_distance(attn), distance),
            (analyses.mean_received(attn, visible=visible), received),
        ):
            np.testing.assert_allclose(value.numpy(), twin, rtol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_widened(self, dtype):
        attn = random_pattern(1, 1, 4, 4).to(dtype)
        visible = torch.ones(4, 4, dtype=torch.bool)
        assert analyses.row_entropy(attn).dtype == torch.float32
        assert analyses.mean_distance(attn).dtype == torch.float32
        assert analyses.mean_received(attn, visible=visible).dtype == torch.float32

    def test_the_flat_causal_map(self):
        """language.md 2.1 (g) and 5.3: α of positions 0, 1 and 63; row i looks i / 2 away."""
        alpha = analyses.mean_received(uniform()[0, 0], visible=LOWER)
        np.testing.assert_allclose(alpha[[0, 1, 63]], [0.0741, 0.0594, 0.0156], atol=5e-5)
        torch.testing.assert_close(analyses.mean_distance(uniform()[0, 0]), torch.arange(T) / 2)
        relative = analyses.relative_distance(
            torch.arange(T)[None, None] / 2, n_keys=torch.arange(1.0, T + 1)[None]
        )
        assert relative[0, 0, 0].isnan()
        torch.testing.assert_close(relative[0, 0, 1:], torch.full((T - 1,), 0.5))

    def test_rows_in_hand_have_their_own_positions(self):
        attn = uniform(6)[0, 0, 4:]
        torch.testing.assert_close(
            analyses.mean_distance(attn, positions=torch.tensor([4, 5])), torch.tensor([2.0, 2.5])
        )


class TestHeads:
    def test_entropy(self):
        pattern = torch.cat([uniform(8), torch.eye(8)[None, None]], dim=1)
        result = analyses.entropy(make_trace({TEXT: pattern}))
        np.testing.assert_allclose(result.frame["normalised_entropy"], [1, 0], atol=1e-6)
        mean = np.mean([math.log(n) for n in range(2, 9)])
        np.testing.assert_allclose(result.frame["entropy"], [mean, 0], rtol=1e-6, atol=1e-7)
        assert result.summary == (
            f"Heads use 50 % of the largest possible entropy on average (mean {mean / 2:.2f} nats), "
            "from 0 % in L0H1 to 100 % in L0H0."
        )

    def test_distance(self):
        pattern = torch.cat([uniform(8), torch.eye(8)[None, None]], dim=1)
        frame = analyses.distance(make_trace({TEXT: pattern})).frame
        np.testing.assert_allclose(frame["distance"], [3.5 / 2, 0], rtol=1e-6)
        np.testing.assert_allclose(frame["relative_distance"], [0.5, 0], rtol=1e-6)

    def test_distance_is_not_defined_across_axes(self):
        axes = {"decoder": plain_axis("decoder", 1, 3), "encoder": plain_axis("encoder", 1, 5)}
        cross = {CROSS: random_pattern(1, 2, 3, 5)}
        with pytest.raises(CaptureError, match=r"Distance is defined for no head.*decoder cross"):
            analyses.distance(make_trace(cross, axes))
        both = analyses.distance(make_trace({DECODER: uniform(3), **cross}, axes))
        assert set(both.frame["kind"]) == {"self"}

    def test_entropy_needs_a_choice(self):
        with pytest.raises(CaptureError, match="Normalised entropy is defined for no head"):
            analyses.entropy(make_trace({TEXT: torch.ones(1, 1, 1, 1)}))

    def test_mass_by_role_and_by_modality(self):
        roles = axis("text", [["bos", "image", "image", "content", "punctuation"]])
        pattern = causal(random_pattern(1, 2, 5, 5))
        trace = make_trace({TEXT: pattern}, {"text": roles})
        by_role = analyses.mass(trace)
        table = by_role.frame.pivot_table(index="head", columns="role", values="mass", sort=False)
        assert table.columns.tolist() == ["bos", "punctuation", "content", "image"]
        np.testing.assert_allclose(table["image"], pattern[0, :, :, 1:3].sum(-1).mean(-1), rtol=1e-5)
        np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-6)
        by_modality = analyses.mass(trace, by="modality").frame.pivot_table(
            index="head", columns="modality", values="mass"
        )
        np.testing.assert_allclose(by_modality["image"], table["image"])
        np.testing.assert_allclose(by_modality.sum(axis=1), 1, rtol=1e-6)
        assert "image" in by_role.summary
        assert by_role.provenance["parameters"] == {"by": "role"}
        with pytest.raises(InputError, match=r"'by' of mass cannot be 'token'.*'role' or 'modality'"):
            analyses.mass(trace, by="token")

    def test_every_role_name_is_a_group_of_its_own(self):
        """Roles called image and audio are modalities too; nothing is counted twice."""
        roles = axis("text", [list(ROLES[:9])])
        trace = make_trace({TEXT: causal(random_pattern(1, 1, 9, 9))}, {"text": roles})
        for by in ("role", "modality"):
            np.testing.assert_allclose(analyses.mass(trace, by=by).frame["mass"].sum(), 1, rtol=1e-6)

    @pytest.mark.parametrize("name", ["entropy", "distance", "mass"])
    def test_a_batch_gives_each_example_the_numbers_it_has_alone(self, name):
        batch, alone = padded_batch((0, 3))
        analysis = analyses.get(name)
        result = analysis(batch)
        for example, trace in enumerate(alone):
            mine = result.frame[result.frame["example"] == example][result.value]
            np.testing.assert_allclose(mine, analysis(trace).frame[result.value], rtol=1e-5)


@pytest.mark.parametrize("name", NAMES["trace"])
def test_without_what_it_needs_there_is_no_result(name):
    with pytest.raises(CaptureError, match=r"holds no (statistics|attention patterns|residual stream)"):
        analyses.get(name)(Trace({}))


@pytest.mark.parametrize("name", NAMES["subject"])
def test_an_analysis_that_runs_the_model_is_given_one(name):
    with pytest.raises(InputError, match=rf"{name} runs a model.*Trace"):
        analyses.get(name)(Trace({}), [{"text": "a"}])
