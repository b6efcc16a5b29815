"""Families by name: headwise's own, those of other packages, and names that clash."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

import headwise as hw
from headwise.families import Family, family_of, get, names

THEIRS = Family(image_prompt="[img] {image}")


def install(monkeypatch, name: str) -> None:
    """As if another package had registered THEIRS."""
    point = EntryPoint(name, f"{__name__}:THEIRS", "headwise.families")
    monkeypatch.setattr("headwise.plugins.entry_points", lambda group: (point,))


@pytest.mark.parametrize("name", names())
def test_every_family_can_be_had(name):
    assert isinstance(get(name), Family)


def test_most_models_need_no_family():
    assert family_of(SimpleNamespace(model_type="llama")) == Family()
    assert family_of(object()) == Family()


def test_a_family_of_another_package(monkeypatch):
    install(monkeypatch, "their_model")
    assert family_of(SimpleNamespace(model_type="their_model")).image_prompt == THEIRS.image_prompt


def test_an_unknown_name_lists_close_ones():
    with pytest.raises(hw.InputError, match="close: whisper"):
        get("wisper")


def test_a_name_that_is_registered_twice(monkeypatch):
    install(monkeypatch, "whisper")
    with pytest.raises(hw.HeadwiseError, match="defined twice"):
        get("whisper")
