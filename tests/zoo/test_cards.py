"""Cards of the zoo: every stated figure is measured again, and one that is off is told."""

from __future__ import annotations

import json

import pytest

from headwise.errors import InputError
from headwise.zoo import NAMES
from headwise.zoo_checks import cards
from headwise.zoo_checks.cards import Check, Measurement, measurements, verify

SMALL = Measurement("ioi", 5, ("accuracy", "preferred"), "names", {})


@pytest.mark.parametrize(
    ("low", "high", "found", "holds"),
    [
        (0.8, 0.9, 0.8, True),
        (0.8, 0.9, 0.79, False),
        (0.8, 0.9, 0.91, False),
        (0.8, 0.8, 0.79, True),  # no width: 3 in 100 may differ
        (0.8, 0.8, 0.77, False),
        (0.8, 0.9, float("nan"), False),
    ],
)
def test_a_figure_holds_inside_its_interval(low, high, found, holds):
    assert Check("ioi: accuracy", 0.8, low, high, found, 100).holds == holds


def state(monkeypatch, *rows):
    """A card with these figures, of a model whose facts name one measurement."""
    figures = [{"key": key, "value": value, "low": low, "high": high} for key, value, low, high in rows]
    monkeypatch.setattr(cards, "read_card", lambda name: {"figures": figures})
    monkeypatch.setattr(cards, "measurements", lambda name: [SMALL])


def test_verify_measures_what_is_stated(monkeypatch):
    state(monkeypatch, ("ioi: accuracy", 1.0, 0.5, 1.0), ("ioi: preferred", 0.1, 0.0, 0.2))
    found = dict(zip(SMALL.metrics, (check for _, check in verify(["zoo:lm"])), strict=True))
    assert found["accuracy"].holds
    assert not found["preferred"].holds


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("ioi: accuracy",), "lacks a figure.*ioi: preferred"),
        (("ioi: accuracy", "ioi: preferred", "recall: accuracy"), "states a figure.*recall: accuracy"),
    ],
)
def test_a_card_that_does_not_fit_its_facts_is_refused(monkeypatch, keys, said):
    state(monkeypatch, *((key, 1.0, 0.5, 1.0) for key in keys))
    with pytest.raises(InputError, match=said):
        list(verify(["lm"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_may_be_named_with_its_prefix(name):
    assert measurements(f"zoo:{name}") == measurements(name)
    assert json.dumps(cards.read_card(f"zoo:{name}")) == json.dumps(cards.read_card(name))
