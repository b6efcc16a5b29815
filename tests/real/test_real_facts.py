"""What is known of the heads of real models holds."""

from __future__ import annotations

import pytest

from tests.real.facts import FACTS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", [name for name, fact in FACTS.items() if not fact.long])
def test_fact(name: str, real) -> None:
    fact = FACTS[name]
    found = fact.measure(real(fact.model))
    assert found.holds, found.text
