"""Fixtures of real models; a model that is not there skips the test and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

import headwise as hw
from tests.real.folders import existing, readings
from tests.real.packages import Unavailable


@pytest.fixture(scope="session")
def real():
    """Load a real model by its name, once."""
    subjects: dict[str, hw.Subject] = {}

    def load(name: str) -> hw.Subject:
        if name not in subjects:
            try:
                subjects[name] = hw.load(existing(name))
            except Unavailable as error:
                pytest.skip(str(error))
        return subjects[name]

    return load


@pytest.fixture(scope="session")
def recordings() -> dict[Path, str]:
    """Public-domain recordings and their words."""
    try:
        return readings()
    except Unavailable as error:
        pytest.skip(str(error))
