"""Activation patching on the hand-built circuit model, and on models that see, hear and translate."""

from __future__ import annotations

import pytest
import torch

import headwise as hw
from headwise.circuits.experiment import Experiment
from headwise.circuits.nodes import node_patching
from headwise.circuits.pairs import PairSet
from headwise.errors import InputError
from headwise.subject import wrap
from headwise.testing.circuit import known_circuit
from tests.circuits.known import known_pairs

MODEL = known_circuit()


def effects(result) -> dict[str, float]:
    rows = result.frame[result.frame["normalised"].abs() > 1e-3].to_dict("records")
    return {f"{row['layer']}.{row['head']}": row["normalised"] for row in rows}


@pytest.mark.parametrize(
    ("corruption", "options", "expected"),
    [
        ("third_name", {}, {"0.1": 1.3444, "1.1": 1.3444, "2.0": 1.0}),
        pytest.param(
            "third_name", {"direction": "denoise"}, {"1.1": 0.5189, "2.0": 1.0}, marks=pytest.mark.slow
        ),
        pytest.param("swap_subject", {}, {"1.1": 1.0, "2.0": 1.0}, marks=pytest.mark.slow),
        pytest.param("swap_subject", {"quantity": "q"}, {"2.0": 1.0}, marks=pytest.mark.slow),
        pytest.param("swap_query", {"quantity": "pattern"}, {"1.0": 1.0, "2.0": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_heads_have_the_effects_of_the_construction(corruption, options, expected) -> None:
    result = hw.analyses.activation_patching(wrap(MODEL), known_pairs(corruption, 4), **options)
    assert effects(result) == pytest.approx(expected, abs=1e-3)


def test_zero_ablation_makes_useless_heads_useful() -> None:
    """0.0 and 1.0 do nothing for IOI: resampled they do nothing, at zero they help through LayerNorm."""
    one = Experiment(wrap(MODEL), known_pairs("third_name", 4))
    found = {
        by: {(node.site.layer, node.head): effect for node, effect in node_patching(one, by=by).items()}
        for by in ("zero", "resample")
    }
    assert found["zero"][0, 0] == pytest.approx(0.0498, abs=1e-3)
    assert found["zero"][1, 0] == pytest.approx(0.1640, abs=1e-3)
    assert found["resample"][0, 0] == pytest.approx(0.0, abs=1e-3)
    assert found["resample"][1, 0] == pytest.approx(0.0, abs=1e-3)
    assert found["zero"][1, 2] == pytest.approx(0.0, abs=1e-5)


def test_the_difference_moves_from_the_name_to_the_end() -> None:
    result = hw.analyses.residual_patching(wrap(MODEL), known_pairs("swap_subject", 4))
    table = result.frame.set_index(["layer", "position"])["normalised"]
    assert table[0, 5] == pytest.approx(1.0, abs=1e-3)  # the second name
    assert table[2, 7] == pytest.approx(1.0, abs=1e-3)  # the end
    assert table[0, 7] == pytest.approx(0.0, abs=1e-3)


def test_positions_of_unlike_prompts_are_refused() -> None:
    one, other = known_pairs("swap_query", 1), {"input_ids": torch.tensor([[0, 12, 4, 13, 5, 13]])}
    mixed = PairSet(
        "mixed",
        [*one.clean, other],
        [*one.corrupted, {"input_ids": torch.tensor([[0, 12, 4, 13, 5, 12]])}],
        torch.cat([one.correct, torch.tensor([5])]),
        torch.cat([one.wrong, torch.tensor([4])]),
    )
    with pytest.raises(InputError, match="several lengths"):
        hw.analyses.residual_patching(wrap(MODEL), mixed)
