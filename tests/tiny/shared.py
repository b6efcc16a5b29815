"""Models that tests share: built once, tried out once by the first capture, and as before at the end of every test."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from headwise.testing.inputs import forward

from . import ARCHITECTURES
from .snapshot import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_taken: set[tuple[str, str | None]] = set()


def shared(name: str, attention: str | None = None) -> PreTrainedModel:
    """The model of an architecture, for tests that leave it as it was; the others build one of their own."""
    _taken.add((name, attention))
    return _built(name, attention)[0]


def assert_shared_models_are_as_before() -> None:
    """What a test leaves: hooks, attributes, weights and settings of the models that it took are those of before."""
    taken = sorted(_taken, key=str)
    _taken.clear()
    for key in taken:
        model, before = _built(*key)
        for note in ("_cache", "_previous_max_cache_length"):  # of transformers, on a static cache
            vars(model).pop(note, None)
        if _state(model) != before:
            _built.cache_clear()  # no other test is to meet it
            raise AssertionError(f"this test changed the shared {key[0]}: let it build one of its own")


@cache
def _built(name: str, attention: str | None) -> tuple[PreTrainedModel, dict[str, Any]]:
    row = ARCHITECTURES[name]
    model = row.build(attention)
    forward(model, row.inputs["plain"]())  # transformers adds hooks to some when they run first
    return model, _state(model)


def _state(model: PreTrainedModel) -> dict[str, Any]:
    settings = [model.config, getattr(model, "generation_config", None)]
    tensors = model.state_dict(keep_vars=True) | dict(model.named_buffers())
    return snapshot(model) | {
        "settings": [None if one is None else one.to_dict() for one in settings],
        "tensors": {
            name: (value.data_ptr(), value.dtype, value._version, str(value.sum().item()))
            for name, value in tensors.items()
        },
    }
