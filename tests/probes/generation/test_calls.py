"""While something is attached, headwise knows which call of `generate` is under way, and what it asked for."""

from __future__ import annotations

import pickle
import threading
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.configuration_utils import CompileConfig

import headwise as hw
from headwise.probes.engine.instrumentation import instrument
from headwise.testing.inputs import random_ids
from tests.kit.edits import Identity
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared
from tests.tiny.snapshot import snapshot
from tests.tiny.telling import crossed

if TYPE_CHECKING:
    from headwise.probes.generation.generate_call import GenerateCall

GREEDY: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}


class Spy:
    """A fix that notes the calls of `generate` that it runs in."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, []

    def edit(self, pattern: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        call: Any = instrument(self.model).thread_state().generate
        if call not in self.calls:
            self.calls.append(call)
        return pattern


def spied(model: Any, inputs: dict[str, Any], **options: Any) -> tuple[list[GenerateCall], Any]:
    """The calls of generate that a fix ran in, and what the outermost returned."""
    spy = Spy(model)
    with torch.no_grad(), hw.patch(model, spy):
        return spy.calls, model.generate(**inputs, **{**GREEDY, **options})


@pytest.fixture
def llama() -> Any:
    return ARCHITECTURES["llama"].build()


def prompt(batch: int = 1) -> dict[str, torch.Tensor]:
    ids = random_ids(batch, 5)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("name", ["llama", "bart", "llava", "whisper"])
def test_a_call_knows_its_arguments_and_what_it_returned(name: str) -> None:
    model = shared(name)
    inputs = {k: v for k, v in ARCHITECTURES[name].inputs["plain"]().items() if not k.startswith("decoder")}
    (call,), returned = spied(model, inputs)
    assert call.model is model
    assert call.outermost is call
    assert call.ended
    assert all(call.arguments[key] is inputs[key] for key in inputs)
    assert call.sequences is returned
    assert call.option("max_new_tokens") == 3


def test_a_forward_outside_of_generate_has_no_call(llama: Any) -> None:
    spy = Spy(llama)
    with torch.no_grad(), hw.patch(llama, spy):
        llama(**prompt())
    assert spy.calls == [None]


def test_calls_within_a_call_know_the_one_around_them() -> None:
    model = shared("instructblip")
    inputs = ARCHITECTURES["instructblip"].inputs["plain"]()
    calls, _ = spied(model, inputs)
    inner = calls[-1]
    assert inner.model is model.language_model
    assert inner.outermost.model is model
    assert inner.outermost is not inner


def _ids(value: Any) -> set[int]:
    """Tokens that end a sequence, as a set."""
    return set() if value is None else set(torch.as_tensor(value).flatten().tolist())


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({}, {7}),
        ({"eos_token_id": 9}, {9}),
        ({"eos_token_id": [9, 11]}, {9, 11}),
        ({"eos_token_id": None}, set()),
        ({"generation_config": GenerationConfig(eos_token_id=13, max_new_tokens=3, pad_token_id=0)}, {13}),
        ({"generation_config": GenerationConfig(max_new_tokens=3, pad_token_id=0)}, {7}),
    ],
)
def test_end_tokens_are_those_that_transformers_goes_by(
    llama: Any, options: dict[str, Any], ends: set[int]
) -> None:
    llama.generation_config.eos_token_id = 7
    greedy = {} if "generation_config" in options else GREEDY
    seen: list[tuple[bool, frozenset[int]]] = []

    class Early(Spy):
        def edit(self, pattern: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
            call: Any = instrument(self.model).thread_state().generate
            assert call is not None
            assert call.loop is not None
            resolved, loop = _ids(call.option("eos_token_id")), call.loop
            call.loop = None  # as where transformers has not resolved it yet
            seen.append((resolved == _ids(call.option("eos_token_id")), resolved))
            call.loop = loop
            return pattern

    with torch.no_grad(), hw.patch(llama, Early(llama)):
        llama.generate(**prompt(), **greedy, **options)
    assert seen[0] == (True, ends)


def test_what_stopping_criteria_decide_is_known(llama: Any) -> None:
    class AtLength(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.full((len(input_ids),), input_ids.shape[1] == 7)

    told = []

    class Listening(Spy):
        def edit(self, pattern: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
            call: Any = instrument(self.model).thread_state().generate
            if not call.loop.checks:
                call.loop.checks.append(lambda ids, done: told.append((ids.shape[1], done.tolist())))
            return pattern

    with torch.no_grad(), hw.patch(llama, Listening(llama)):
        llama.generate(
            **prompt(2), **GREEDY, eos_token_id=None, stopping_criteria=StoppingCriteriaList([AtLength()])
        )
    assert told == [(6, [False, False]), (7, [True, True])]


def test_generations_of_all_threads_are_known_and_say_when_they_are_over(llama: Any) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            inside.set()
            go_on.wait(20)
            raise InterruptedError

    def fail() -> None:
        with torch.no_grad(), pytest.raises(InterruptedError):
            llama.generate(**prompt(), **GREEDY, stopping_criteria=StoppingCriteriaList([Waiting()]))

    with hw.patch(llama, Identity()):
        instrumented = instrument(llama)
        other = threading.Thread(target=fail)
        other.start()
        assert inside.wait(20)
        (call,) = instrumented.generations
        assert instrumented.thread_state().generate is None
        assert not call.ended
        go_on.set()
        other.join(20)
        assert call.ended
        assert instrumented.generations == ()
        assert call.sequences is None


def test_generate_is_the_models_own_again_and_copies_are_not_watched(llama: Any) -> None:
    before, expected = snapshot(llama), llama.generate(**prompt(), **GREEDY)
    with hw.patch(llama, Identity()):
        copies = [deepcopy(llama), pickle.loads(pickle.dumps(llama))]
    assert snapshot(llama) == before
    assert "generate" not in vars(llama)
    for copy in copies:
        assert copy.generate.__self__ is copy
        assert torch.equal(copy.generate(**prompt(), **GREEDY), expected)


class Asking(LogitsProcessor):
    """Has a model write once more for every token."""

    def __init__(self, model: Any, inputs: dict[str, Any], **options: Any) -> None:
        self.model, self.inputs, self.options = model, inputs, options

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.model.generate(**self.inputs, **{**GREEDY, **self.options})
        return scores


WITHIN: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 2},
    "no cache": {"use_cache": False},
}


@pytest.mark.parametrize(
    ("name", "way"), crossed(["llama", "bart", "whisper", "gpt2", "llava"], WITHIN, ["llama", "whisper"])
)
def test_what_is_generated_within_a_call_of_the_same_model_is_no_example(name: str, way: str) -> None:
    options = WITHIN[way]
    model: Any = shared(name)
    inputs = {k: v for k, v in ARCHITECTURES[name].inputs["plain"]().items() if not k.startswith("decoder")}
    inputs.pop("position_ids", None)
    with hw.capture(model, maps=True) as alone, torch.no_grad():
        model.generate(**inputs, **{**GREEDY, **options})
    for inner in ({}, {"num_beams": 2}):
        asking = LogitsProcessorList([Asking(model, inputs, **inner)])
        with hw.capture(model, maps=True) as trace, torch.no_grad():
            model.generate(**inputs, **{**GREEDY, **options}, logits_processor=asking)
        assert trace.returned == alone.returned
        assert trace.meta["examples"] == alone.meta["examples"]
        assert list(trace.maps) == list(alone.maps)
        for site, pattern in trace.maps.items():
            assert torch.equal(pattern.nan_to_num(), alone.maps[site].nan_to_num())


def test_calls_within_one_that_decodes_nothing_itself_are_examples(llama: Any) -> None:
    def twice(model: Any, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        model.generate(input_ids=input_ids, **GREEDY)
        return model.generate(input_ids=input_ids.flip(1), **GREEDY)

    with hw.capture(llama) as trace, torch.no_grad():
        llama.generate(**prompt(), **GREEDY, custom_generate=twice)
    assert trace.returned == (0, 1)


def test_a_static_cache_compiles_the_plain_model_alone(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does on a GPU: every layer and step of an attached model would be compiled anew."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: compiled.append(call) or call)
    everywhere = CompileConfig()
    everywhere._compile_all_devices = True
    options = {**GREEDY, "cache_implementation": "static"}
    with hw.patch(llama, hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.0)):
        expected = llama.generate(**prompt(), **options)
        assert torch.equal(llama.generate(**prompt(), **options, compile_config=everywhere), expected)
    with hw.capture(llama) as trace:
        llama.generate(**prompt(), **options, compile_config=everywhere)
    assert len(trace.positions[trace.site(0)]) == 5 + 3 - 1
    assert compiled == []
    assert "get_compiled_call" not in vars(llama)
    llama.generate(**prompt(), **options, compile_config=everywhere)
    assert len(compiled) == 1
