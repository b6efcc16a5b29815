"""Models of the zoo, and a scene with its reply."""

from __future__ import annotations

import pytest

import headwise as hw
from tests.analyses.divergence.heads import REPLY


@pytest.fixture(scope="module")
def vlm():
    return hw.load("zoo:vlm")


@pytest.fixture(scope="module")
def speech():
    return hw.load("zoo:speech")


@pytest.fixture(scope="module")
def nmt():
    return hw.load("zoo:nmt")


@pytest.fixture(scope="module")
def lm():
    return hw.load("zoo:lm")


@pytest.fixture(scope="module")
def scene():
    return {**hw.zoo.sample("vlm").inputs, "reply": REPLY}
