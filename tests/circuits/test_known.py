"""Edges of the hand-built circuit model: what every method must find, and what it is known to miss."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import headwise as hw
from headwise.circuits.acdc import acdc
from headwise.circuits.attribution import edge_attribution
from headwise.circuits.circuit import Circuit, load_circuit
from headwise.circuits.experiment import Experiment
from headwise.circuits.faithfulness import faithfulness
from headwise.circuits.patching import circuit_metric, edge_patching
from headwise.circuits.selection import above, connected
from headwise.errors import InputError
from headwise.subject import wrap
from headwise.testing.circuit import known_circuit
from tests.circuits.known import known_pairs

MODEL = known_circuit()


@cache
def experiment(corruption: str) -> Experiment:
    return Experiment(wrap(MODEL), known_pairs(corruption), batch_size=64)


def found(scores: torch.Tensor, one: Experiment, *, divided_by: float = 1.0) -> dict[str, float]:
    graph = one.graph
    return {
        " ".join((graph.senders[row], *graph.receivers[column])).strip(): float(scores[row, column])
        / divided_by
        for row, column in (scores.abs() > 1e-3).nonzero().tolist()
    }


NOISED = {
    "swap_subject": {
        "input L1H1 v": 1.0,
        "input L2H0 k": 0.5,
        "L1H1 L2H0 q": 1.0,
        "L2H0 logits": 1.0,
    },
    "third_name": {
        "input L0H1 q": 1.3444,
        "input L1H1 v": 1.3444,
        "input L2H0 k": 1.0,
        "L0H1 L1H1 k": 1.3444,
        "L1H1 L2H0 q": 1.3444,
        "L2H0 logits": 1.0,
    },
    "swap_query": {"input L1H0 q": 1.0, "L1H0 L2H0 q": 1.0, "L2H0 logits": 1.0},
}


@pytest.mark.parametrize(
    "corruption",
    ["third_name", *(pytest.param(name, marks=pytest.mark.slow) for name in ("swap_subject", "swap_query"))],
)
def test_exact_edges_are_those_of_the_construction(corruption: str) -> None:
    one = experiment(corruption)
    whole = float((one.corrupted - one.clean).mean())
    assert found(edge_patching(one), one, divided_by=whole) == pytest.approx(NOISED[corruption], abs=1e-3)


@pytest.mark.slow
def test_an_and_gate_hides_from_denoising() -> None:
    """Duplicate-token and S-inhibition head are both needed: clean values of one alone restore nothing."""
    one = experiment("third_name")
    whole = float((one.clean - one.corrupted).mean())
    restored = found(edge_patching(one, "denoise"), one, divided_by=whole)
    assert "L0H1 L1H1 k" not in restored
    assert restored["L1H1 L2H0 q"] == pytest.approx(0.5189, abs=1e-3)


def test_saturated_attention_hides_from_plain_attribution_and_not_from_integrated_gradients() -> None:
    one = experiment("swap_subject")
    plain, integrated = (found(edge_attribution(one, path), one) for path in ("eap", "eap-ig"))
    assert plain["L2H0 logits"] == pytest.approx(-2 * 0.929, abs=2e-3)
    assert "L1H1 L2H0 q" not in plain
    assert integrated["L1H1 L2H0 q"] < -1.0
    assert integrated["input L1H1 v"] < -1.0


def test_nothing_and_everything() -> None:
    one = experiment("swap_subject")
    graph = one.graph
    torch.testing.assert_close(circuit_metric(one, graph.edges), one.clean)
    torch.testing.assert_close(circuit_metric(one, torch.zeros_like(graph.edges)), one.corrupted)


@pytest.mark.slow
@pytest.mark.parametrize(("corruption", "heads"), [("third_name", {"L0H1", "L1H1", "L2H0"})])
def test_the_true_circuit_is_faithful_and_nothing_less_is(corruption: str, heads: set[str]) -> None:
    one = experiment(corruption)
    kept = above(one.graph, edge_patching(one), 0.1)
    assert {one.graph.senders[row] for row in kept.any(1).nonzero()[:, 0].tolist()} == heads | {"input"}
    assert faithfulness(one, kept) == pytest.approx(1.0, abs=1e-3)
    cut = kept.clone()
    cut[one.graph.senders.index("L0H1")] = False
    assert (
        not connected(one.graph, cut)[one.graph.senders.index("L2H0"), :].any()
        or faithfulness(one, cut) < 0.9
    )


@pytest.mark.slow
def test_acdc_keeps_the_edges_of_the_construction() -> None:
    one = experiment("swap_query")
    kept, _ = acdc(one, 0.05)
    assert set(found(connected(one.graph, kept).float(), one)) == set(NOISED["swap_query"])


def test_the_result_is_a_circuit_and_comes_back_from_its_file(tmp_path) -> None:
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    result = hw.analyses.circuit(wrap(MODEL), known_pairs("swap_query", 2), method="exact", edges=3)
    circuit = load_circuit(result.save(tmp_path / "ind.json"))
    assert (
        circuit.edges
        == Circuit(result).edges
        == {
            ("input", "L1H0", "q"),
            ("L1H0", "L2H0", "q"),
            ("L2H0", "logits", ""),
        }
    )
    assert circuit.heads == {"L1H0", "L2H0"}
    assert circuit.about["faithfulness"] == pytest.approx(1.0, abs=1e-3)
    assert circuit.about["metric"] == "logit_difference"
    assert len(circuit.scores) == int(experiment("swap_query").graph.edges.sum())
    assert torch.equal(
        circuit.kept(experiment("swap_query").graph).nonzero()[:, 0].unique(), torch.tensor([0, 5, 9])
    )
    assert circuit.plot().data
    assert all(torch.equal(before[name], value) for name, value in MODEL.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in MODEL.modules())


def test_a_model_at_chance_and_a_corruption_without_effect_are_refused() -> None:
    pairs = known_pairs("swap_query")
    swapped = type(pairs)(pairs.name, pairs.clean, pairs.corrupted, pairs.wrong, pairs.correct)
    with pytest.raises(InputError, match="does not do ind"):
        Experiment(wrap(MODEL), swapped)
    same = type(pairs)(pairs.name, pairs.clean, pairs.clean, pairs.correct, pairs.wrong)
    with pytest.raises(InputError, match="does not matter"):
        Experiment(wrap(MODEL), same)


def test_a_model_in_training_mode_is_refused() -> None:
    subject = wrap(known_circuit().train())
    with pytest.raises(InputError, match="training mode"):
        Experiment(subject, known_pairs("swap_query"))


def test_hooks_do_not_survive_an_exception() -> None:
    one = experiment("swap_query")
    with pytest.raises(InputError, match="another model"):
        circuit_metric(one, torch.zeros(2, 2, dtype=torch.bool))
    one.graph.reads[-1].module.register_forward_hook(fail := lambda *_: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            circuit_metric(one, one.graph.edges)
    finally:
        one.graph.reads[-1].module._forward_hooks.clear()
    del fail
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in MODEL.modules())
