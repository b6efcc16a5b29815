"""Examples are what the user gave: returned beams, no branch, draft or detection; rows end where `generate` ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

import headwise as hw
from headwise.testing.inputs import forward, random_ids
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared
from tests.tiny.telling import crossed

if TYPE_CHECKING:
    from headwise import Trace

CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 5e-6}
SOME = ("llama", "t5", "llava")
ALL = (
    *SOME,
    "gpt2",
    "mistral",
    "gemma2",
    "bloom",
    "gptj",
    "qwen3_next",
    "jamba",
    "bart",
    "marian",
    "whisper",
)
EVERY = [
    *SOME,
    *(pytest.param(name, marks=pytest.mark.slow) for name in ALL if name not in SOME),
]
SEARCHES: dict[str, dict[str, Any]] = {
    "one returned": {"num_beams": 3},
    "several returned": {"num_beams": 4, "num_return_sequences": 3},
    "sampled": {"num_beams": 3, "do_sample": True, "top_k": 8},
    "early stopping": {"num_beams": 3, "early_stopping": True},
    "long ones preferred": {"num_beams": 3, "length_penalty": 3.0, "num_return_sequences": 2},
    "uncached": {"num_beams": 3, "use_cache": False, "num_return_sequences": 2},
}


class Eager(LogitsProcessor):
    """Makes end tokens likely from the second step on, so that beams end at many lengths."""

    def __init__(self, end: int, prompt: int) -> None:
        self.end, self.prompt = end, prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        if input_ids.shape[1] > self.prompt + 1:
            scores[:, self.end] = scores.amax(-1) - input_ids[:, -1] % 3 + 0.5
        return scores


class EndAt(LogitsProcessor):
    """Writes a token into chosen examples once they have a length."""

    def __init__(self, ends: dict[int, int], token: int) -> None:
        self.ends, self.token = ends, token

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, self.token] = -1e4
        for example, length in self.ends.items():
            if example < len(scores) and input_ids.shape[1] == length:
                scores[example, self.token] = 1e4
        return scores


def prompt(name: str, batch: int = 2) -> dict[str, torch.Tensor]:
    """A batch without padding; an architecture with one example has it twice."""
    inputs = ARCHITECTURES[name].inputs["plain"]()
    return {
        field: torch.cat([value, value])[:batch]
        for field, value in inputs.items()
        if not field.startswith("decoder")
    }


def generate(model: Any, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    options = {"do_sample": False, "max_new_tokens": 7, "pad_token_id": 0, "eos_token_id": 9} | options
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(5)
        return model.generate(**inputs, **options)


def replies(
    model: Any, inputs: dict[str, Any], sequence: torch.Tensor, example: int, end: int
) -> dict[str, Any]:
    """The arguments of one forward on what was fed for a returned sequence: all before its end token."""
    decoder = model.config.is_encoder_decoder
    if decoder and sequence[0] != model.config.decoder_start_token_id:  # Whisper cuts its prompt off
        sequence = torch.cat([sequence.new_tensor([model.config.decoder_start_token_id]), sequence])
    start = 1 if decoder else inputs["input_ids"].shape[1]
    tail = sequence[start:].tolist()
    fed = sequence[: start + (tail.index(end) if end in tail else len(tail) - 1)]
    alone = {field: value[example : example + 1] for field, value in inputs.items()}
    if decoder:
        return alone | {"decoder_input_ids": fed[None]}
    alone["input_ids"] = fed[None]
    if "attention_mask" in alone:
        alone["attention_mask"] = torch.nn.functional.pad(
            alone["attention_mask"], (0, len(fed) - alone["attention_mask"].shape[1]), value=1
        )
    return alone


def assert_rows_are_those_of_a_forward(
    trace: Trace, example: int, model: Any, inputs: dict[str, Any], tower: str
) -> None:
    with hw.capture(model, maps=True, stats=True) as whole:
        forward(model, inputs, use_cache=False)
    for site in whole.sites:
        if site.tower != tower:
            continue
        expected, pattern = whole.maps[site][0], trace.maps[site][example]
        rows, keys = expected.shape[1:]
        torch.testing.assert_close(pattern[:, :rows, :keys], expected, equal_nan=True, **CLOSE)
        assert pattern[:, rows:].isnan().all()
        entropy = trace.records[site]["entropy"][example]
        torch.testing.assert_close(entropy[:, :rows], whole.records[site]["entropy"][0], rtol=1e-4, atol=1e-5)
        assert entropy[:, rows:].isnan().all()
        received = trace.records[site]["received"][example][:, :keys]
        torch.testing.assert_close(received, whole.records[site]["received"][0], rtol=1e-4, atol=1e-5)
    axis, alone = trace.layout.axes[tower], whole.layout.axes[tower]
    valid = axis.valid[example]
    assert int(valid.sum()) == int(alone.valid.sum())
    if alone.ids is not None and axis.ids is not None:
        assert axis.ids[example][valid].tolist() == alone.ids[0][alone.valid[0]].tolist()


def tower_of(model: Any) -> str:
    return "decoder" if model.config.is_encoder_decoder else "text"


@pytest.mark.parametrize(
    ("name", "search"), crossed(EVERY, SEARCHES, SOME, [("t5", "several returned"), ("llava", "uncached")])
)
def test_a_returned_beam_is_an_example_with_the_rows_of_one_forward(name: str, search: str) -> None:
    model, inputs = shared(name), prompt(name)
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    options = SEARCHES[search] | {"logits_processor": LogitsProcessorList([Eager(9, start)])}
    try:
        expected = generate(model, inputs, **options)
    except ValueError as error:
        pytest.skip(f"transformers does not search so: {error}")
    with hw.capture(model, maps=True) as trace:
        sequences = generate(model, inputs, **options)
    assert torch.equal(sequences, expected)
    each = SEARCHES[search].get("num_return_sequences", 1)
    assert trace.examples == len(sequences) == 2 * each
    assert trace.returned == tuple(range(2 * each))
    for number, sequence in enumerate(sequences):
        whole = replies(model, inputs, sequence, number // each, 9)
        assert_rows_are_those_of_a_forward(trace, number, model, whole, tower_of(model))


def test_beams_that_were_not_returned_are_kept_when_asked_for() -> None:
    model, inputs = shared("llama"), prompt("llama")
    with hw.capture(model, beams="all") as trace:
        sequences = generate(model, inputs, num_beams=4, num_return_sequences=2, eos_token_id=None)
    assert trace.examples == 8
    assert trace.returned == (0, 1, 4, 5)
    ids = trace.layout.axes["text"].ids
    assert ids is not None
    assert ids[list(trace.returned)].tolist() == sequences[:, :-1].tolist()
    with pytest.raises(hw.InputError, match="beams"), hw.capture(model, beams="best"):  # type: ignore[arg-type]
        pass


def test_beams_that_cannot_be_told_apart_are_all_kept_and_that_is_said() -> None:
    model, inputs = shared("llama"), prompt("llama")
    embedded = {
        "inputs_embeds": model.get_input_embeddings()(inputs["input_ids"]).detach(),
        "attention_mask": torch.ones_like(inputs["input_ids"]),
    }
    said = []
    for given in (embedded, inputs):
        with hw.capture(model) as trace:
            generate(model, given, num_beams=3)
        said.append((trace.examples, any("which beams" in line for line in trace.meta["warnings"])))
    assert said == [(6, True), (2, False)]


def test_saved_traces_know_what_was_returned(tmp_path: Any) -> None:
    model, inputs = shared("llama"), prompt("llama")
    with hw.capture(model, beams="all") as trace:
        generate(model, inputs, num_beams=2)
    assert hw.load_trace(trace.save(tmp_path / "trace.safetensors")).returned == trace.returned == (0, 2)


class AtLength(StoppingCriteria):
    """Ends every example at a length of its own."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.tensor([input_ids.shape[1] >= length for length in self.lengths[: len(input_ids)]])


@pytest.mark.parametrize(
    ("name", "ending"), crossed(EVERY, ["of the model", "of the call", "none", "criteria"], SOME)
)
@pytest.mark.parametrize("cached", [True, False])
def test_rows_end_where_this_call_of_generate_ended(
    name: str, cached: bool, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of two has the rows of its first example alone."""
    model, inputs = shared(name), prompt(name)
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    monkeypatch.setattr(model.generation_config, "eos_token_id", 8)
    monkeypatch.setattr(model.config, "eos_token_id", 8, raising=False)
    options: dict[str, Any] = {"use_cache": cached, "max_new_tokens": 5}
    options["logits_processor"] = LogitsProcessorList([EndAt({0: start + 2}, 8)])
    options["eos_token_id"] = {"of the call": 9, "of the model": 8, "none": None, "criteria": None}[ending]
    if ending == "criteria":
        lengths = (start + 3, start + 5)
        options["stopping_criteria"] = StoppingCriteriaList([AtLength(lengths)])
    traces = []
    for batch in (2, 1):
        with hw.capture(model, maps=True) as trace:
            generate(model, prompt(name, batch), **options)
        traces.append(trace)
    two, one = traces
    tower = tower_of(model)
    own = name == "whisper" and ending == "none"  # its generate takes None for the model's own
    ends_early = own or ending in ("of the model", "criteria")
    written = two.layout.axes[tower].valid.sum(-1)
    assert int(written[1] - written[0]) == (2 if ends_early else 0)
    for site in one.sites:
        if site.tower == tower:
            rows, keys = one.maps[site].shape[2:]
            torch.testing.assert_close(two.maps[site][0, :, :rows, :keys], one.maps[site][0], **CLOSE)
            assert two.maps[site][0, :, rows:].isnan().all()
            assert not two.maps[site][1].isnan().any()


def test_a_loop_of_ones_own_is_never_guessed_to_have_ended() -> None:
    model = ARCHITECTURES["llama"].build()
    model.generation_config.eos_token_id = model.config.eos_token_id = 8
    ids = random_ids(2, 6)
    with hw.capture(model, maps=True) as trace, torch.no_grad():
        for length in range(4, 7):
            ids[0, length - 1] = 8
            forward(model, {"input_ids": ids[:, :length]}, use_cache=False)
    assert not trace.maps[trace.site(0)].isnan().any()


@pytest.mark.parametrize("cached", [True, False])
def test_a_contrastive_branch_is_no_example(cached: bool) -> None:
    model, inputs = shared("llama"), prompt("llama", 1)
    options = {"guidance_scale": 1.5, "use_cache": cached, "eos_token_id": None}
    with hw.capture(model, maps=True) as trace:
        ids = generate(model, inputs, **options)
    assert torch.equal(ids, generate(model, inputs, **options))
    assert trace.examples == 1
    assert_rows_are_those_of_a_forward(trace, 0, model, replies(model, inputs, ids[0], 0, -1), "text")


@pytest.mark.parametrize(
    "name",
    ["llama", "bart", "whisper", *(pytest.param(n, marks=pytest.mark.slow) for n in ("llava", "mistral"))],
)
@pytest.mark.parametrize("assistant", ["lookup", "itself"])
def test_drafts_and_their_writer_are_no_examples(name: str, assistant: str) -> None:
    model, inputs = ARCHITECTURES[name].build(), prompt(name, 1)
    if assistant == "lookup" and name in ("bart", "whisper"):
        pytest.skip("looks its drafts up in a prompt of words")
    options: dict[str, Any] = {
        "lookup": {"prompt_lookup_num_tokens": 2},
        "itself": {"assistant_model": model},
    }[assistant]
    with hw.capture(model, maps=True) as trace:
        ids = generate(model, inputs, **options, eos_token_id=None)
    assert trace.examples == 1
    tower = tower_of(model)
    assert_rows_are_those_of_a_forward(trace, 0, model, replies(model, inputs, ids[0], 0, -1), tower)
