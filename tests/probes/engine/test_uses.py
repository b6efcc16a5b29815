"""Ways of using a model that a capture or a patch has to follow."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.layout import ROLES
from headwise.testing.inputs import first, forward, random_ids
from tests.kit.edits import FirstKey
from tests.tiny import ARCHITECTURES
from tests.tiny.checkpointing import enable_checkpointing
from tests.tiny.inputs import padded_tokens, plain_tokens
from tests.tiny.shared import shared
from tests.tiny.snapshot import snapshot
from tests.tiny.telling import telling

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from headwise import Trace

GREEDY: dict[str, Any] = {"do_sample": False, "pad_token_id": 0}


def assert_same_trace(trace: Trace, other: Trace) -> None:
    """All sites of `trace` hold the same numbers in `other`."""
    assert trace.sites
    for site in trace.sites:
        for field, value in trace.records[site].items():
            torch.testing.assert_close(
                value,
                other.records[site][field],
                rtol=1e-5,
                atol=1e-6,
                equal_nan=True,
                msg=f"{field} of {site}",
            )


def capture_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor], **options: Any) -> Trace:
    with hw.capture(model, **options) as trace:
        forward(model, inputs)
    return trace


def test_captures_inside_captures_keep_their_own(llama: PreTrainedModel) -> None:
    inputs = plain_tokens()
    with hw.capture(llama, stats=False, maps=True) as outer:
        with hw.capture(llama, stats=True) as inner:
            forward(llama, inputs)
        forward(llama, {"input_ids": random_ids(1, 12, seed=5)})
    assert outer.examples == 3
    assert inner.examples == 2
    assert_same_trace(inner, capture_of(llama, inputs))


def test_what_other_threads_do_is_not_recorded(llama: PreTrainedModel) -> None:
    inputs = plain_tokens()
    expected = first(forward(llama, inputs))
    outputs: list[torch.Tensor] = []
    with hw.capture(llama, maps=True) as trace:
        thread = threading.Thread(target=lambda: outputs.append(first(forward(llama, inputs))))
        thread.start()
        thread.join()
        forward(llama, {"input_ids": random_ids(1, 12, seed=5)})
    assert trace.examples == 1
    assert torch.equal(outputs[0], expected)


def test_two_threads_capture_one_model(llama: PreTrainedModel) -> None:
    texts = [plain_tokens(), plain_tokens(1, 7)]
    alone = [capture_of(llama, inputs) for inputs in texts]
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for _ in range(20):
                start.wait(timeout=60)
                with hw.capture(llama) as trace, torch.no_grad():
                    llama(**texts[index])
                assert_same_trace(trace, alone[index])
        except BaseException as error:
            failures.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_part_of_a_model_may_be_run(llama: PreTrainedModel, bart: PreTrainedModel) -> None:
    inputs = padded_tokens("right")
    with hw.capture(llama, maps=True) as body, torch.no_grad():
        llama.model(**inputs)
    assert_same_trace(body, capture_of(llama, inputs, maps=True))
    with hw.capture(bart, maps=True) as encoder, torch.no_grad():
        bart.get_encoder()(**inputs)
    assert {site.tower for site in encoder.sites} == {"encoder"}
    whole = capture_of(bart, inputs | {"decoder_input_ids": random_ids(2, 7)}, maps=True)
    assert_same_trace(encoder, whole)


def test_an_encoder_may_have_run_before(bart: PreTrainedModel) -> None:
    inputs, target = padded_tokens("right"), random_ids(2, 7)
    with torch.no_grad():
        states = bart.get_encoder()(**inputs)
    given = {
        "encoder_outputs": states,
        "attention_mask": inputs["attention_mask"],
        "decoder_input_ids": target,
    }
    trace = capture_of(bart, given, maps=True)
    assert {(site.tower, site.kind) for site in trace.sites} == {("decoder", "self"), ("decoder", "cross")}
    assert_same_trace(trace, capture_of(bart, inputs | {"decoder_input_ids": target}, maps=True))


def test_embeddings_may_stand_for_ids(llama: PreTrainedModel) -> None:
    inputs = padded_tokens()
    with torch.no_grad():
        embeddings = llama.get_input_embeddings()(inputs["input_ids"])
    given = {"inputs_embeds": embeddings, "attention_mask": inputs["attention_mask"]}
    assert_same_trace(capture_of(llama, given, maps=True), capture_of(llama, inputs, maps=True))
    with hw.capture(llama) as trace:
        llama.generate(**given, max_new_tokens=3, min_new_tokens=3, **GREEDY)
    assert trace.layout.axes["text"].roles[0, 12:].tolist() == [ROLES.index("generated")] * 2


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_mask_may_be_given_whole(llama: PreTrainedModel, dtype: torch.dtype) -> None:
    """Two texts of six tokens packed into each example."""
    packed = (
        torch.block_diag(torch.ones(6, 6), torch.ones(6, 6)).tril().bool()[None, None].expand(2, 1, -1, -1)
    )
    mask = packed
    if dtype != torch.bool:
        mask = torch.zeros(packed.shape).masked_fill(~packed, torch.finfo(dtype).min)
    positions = torch.arange(6).repeat(2).expand(2, -1)
    inputs = plain_tokens() | {"attention_mask": mask, "position_ids": positions}
    expected = first(forward(llama, inputs))
    with hw.capture(llama, stats=True, maps=True) as trace:
        torch.testing.assert_close(first(forward(llama, inputs)), expected, rtol=0, atol=1e-5)
    for site in trace.sites:
        assert trace.maps[site].masked_fill(packed, 0).eq(0).all()
        assert trace.records[site]["n_keys"][0].tolist() == [1, 2, 3, 4, 5, 6] * 2
        assert trace.records[site]["n_queries"][0].tolist() == [6, 5, 4, 3, 2, 1] * 2


def test_inference_mode(llama: PreTrainedModel) -> None:
    inputs = padded_tokens()
    with hw.capture(llama, maps=True) as inside, torch.inference_mode():
        llama(**inputs)
    with torch.inference_mode(), hw.capture(llama, maps=True) as around:
        llama(**inputs)
    for trace in (inside, around):
        assert_same_trace(trace, capture_of(llama, inputs, maps=True))
        assert len(trace.to_frame("head")) == 2 * 2 * 4


@pytest.mark.parametrize(
    "name", telling(["llama", "gemma2", "gpt2", "bloom", "bert", "bart", "llava"], ("llama", "bloom"))
)
@pytest.mark.parametrize(
    "fix",
    [hw.fixes.MaskKeys(keys=(2,)), hw.fixes.MaskKeys(keys=()), FirstKey()],
    ids=["a key", "no key", "all"],
)
def test_edits_in_inference_mode(name: str, fix: object) -> None:
    model, inputs = shared(name), ARCHITECTURES[name].inputs["plain"]()
    with hw.patch(model, fix):
        expected = first(forward(model, inputs))
        with torch.inference_mode():
            assert torch.equal(first(model(**inputs)), expected)


def test_vmap_is_refused_in_words_and_leaves_the_model_alone() -> None:
    llama = shared("llama", "eager")
    ids, before = random_ids(3, 6)[:, None], snapshot(llama)

    def logits(row: torch.Tensor) -> torch.Tensor:
        return llama(input_ids=row, use_cache=False).logits

    expected = torch.func.vmap(logits)(ids)
    with hw.patch(llama, FirstKey()), pytest.raises(hw.CaptureError, match="vmap"):
        torch.func.vmap(logits)(ids)
    assert snapshot(llama) == before
    torch.testing.assert_close(torch.func.vmap(logits)(ids), expected)


def test_autocast(llama: PreTrainedModel) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = first(forward(llama, plain_tokens()))
        with hw.capture(llama) as trace:
            output = first(forward(llama, plain_tokens()))
    assert trace.sites
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05)


def test_training_with_dropout_is_the_same_training() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=128, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    model = GPT2LMHeadModel._from_config(config, attn_implementation="eager").train()
    torch.manual_seed(1)
    expected = model(**plain_tokens()).logits
    for options in ({"stats": True}, {"stats": False, "maps": True}, {"stats": False, "heads": True}):
        torch.manual_seed(1)
        with hw.capture(model, **options):
            assert torch.equal(model(**plain_tokens()).logits, expected), options


def test_layers_that_are_run_again_for_the_backward_pass_are_recorded_once(llama: PreTrainedModel) -> None:
    inputs = plain_tokens()
    expected = capture_of(llama, inputs, stats=False, maps=True)
    llama.train()
    enable_checkpointing(llama)
    with hw.capture(llama, stats=False, maps=True) as trace:
        llama(**inputs, use_cache=False).logits.sum().backward()
    assert trace.examples == 2
    assert trace.sites == expected.sites
    assert_same_trace(trace, expected)


@pytest.mark.parametrize(
    "options", [{"stats": True}, {"maps": True, "stats": False}, {"heads": True}], ids=str
)
def test_eager_models_still_hand_out_their_attentions(options: dict[str, bool]) -> None:
    model, inputs = ARCHITECTURES["llama"].build("eager"), plain_tokens()
    expected = forward(model, inputs, output_attentions=True).attentions
    with hw.capture(model, **options):
        attentions = forward(model, inputs, output_attentions=True).attentions
    assert all(torch.equal(a, b) for a, b in zip(attentions, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "module"), [("llama", "model.layers.0.self_attn"), ("bloom", "transformer.h.0.self_attention")]
)
def test_wrapped_forwards_stay_wrapped(name: str, module: str) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module

    model, inputs = ARCHITECTURES[name].build(), plain_tokens()
    expected = capture_of(model, inputs, maps=True)
    add_hook_to_module(model.get_submodule(module), ModelHook())
    before = snapshot(model)
    assert_same_trace(capture_of(model, inputs, maps=True), expected)
    assert snapshot(model) == before


def test_a_saved_or_pickled_model_is_not_attached(llama: PreTrainedModel, tmp_path: Path) -> None:
    expected = first(forward(llama, plain_tokens()))
    with hw.patch(llama, FirstKey()):
        llama.save_pretrained(tmp_path)
        copy = pickle.loads(pickle.dumps(llama))
    assert "headwise" not in (tmp_path / "config.json").read_text()
    for model in (type(llama).from_pretrained(tmp_path), copy):
        assert torch.equal(first(forward(model, plain_tokens())), expected)


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_a_model_with_the_same_configuration_object_is_not_attached(name: str) -> None:
    model = shared(name)
    other = type(model)(model.config).eval()
    expected = first(forward(other, plain_tokens()))
    with hw.patch(model, FirstKey()), hw.capture(model):
        forward(model, plain_tokens())
        assert torch.equal(first(forward(other, plain_tokens())), expected)


def test_an_assistant_may_draft(llama: PreTrainedModel) -> None:
    inputs, assistant = plain_tokens(1), shared("llama")
    with hw.capture(llama, maps=True) as trace:
        ids = llama.generate(
            **inputs, assistant_model=assistant, max_new_tokens=8, min_new_tokens=8, **GREEDY
        )
    whole = capture_of(llama, {"input_ids": ids[:, :-1]}, maps=True)
    for site in trace.sites:
        assert trace.positions[site].tolist() == list(range(19))
        torch.testing.assert_close(trace.maps[site][..., :19], whole.maps[site], rtol=0, atol=2e-6)


def test_an_example_that_has_ended_is_padding(llama: PreTrainedModel) -> None:
    inputs = plain_tokens()
    ids = llama.generate(**inputs, max_new_tokens=6, **GREEDY)
    llama.generation_config.eos_token_id = int(ids[0, 13])
    with hw.capture(llama) as both:
        llama.generate(**inputs, max_new_tokens=6, **GREEDY)
    with hw.capture(llama) as alone:
        llama.generate(input_ids=inputs["input_ids"][:1], max_new_tokens=6, **GREEDY)
    for site in alone.sites:
        rows = alone.records[site]["entropy"].shape[-1]
        assert rows == 13
        for field in ("entropy", "received"):
            value = both.records[site][field]
            torch.testing.assert_close(value[:1, :, :rows], alone.records[site][field])
            assert value[0, :, rows:].isnan().all()
            assert value[1].isfinite().all()


def test_chosen_rows_of_a_generation(llama: PreTrainedModel, tmp_path: Path) -> None:
    with hw.capture(llama, stats=True, rows=[-1, 13, 14]) as trace:
        ids = llama.generate(**plain_tokens(), max_new_tokens=5, min_new_tokens=5, **GREEDY)
    whole = capture_of(llama, {"input_ids": ids[:, :-1]}, stats=False, maps=True)
    path = trace.save(tmp_path / "rows.safetensors")
    for each in (trace, hw.load_trace(path)):
        for site in trace.sites:
            expected = whole.maps[site][:, :, [11, 13, 14], :15]
            torch.testing.assert_close(each.maps[site][..., :15], expected, rtol=0, atol=2e-6)


def test_examples_are_those_of_the_language(llama: PreTrainedModel) -> None:
    row = ARCHITECTURES["llava"]
    model = row.build()
    with hw.capture(model) as trace:
        forward(model, row.inputs["plain"]())
        forward(model, {"input_ids": random_ids(1, 6)})
    assert trace.examples == 2


@pytest.mark.parametrize("beams", [1, 2])
def test_generate_knows_the_words_that_the_encoder_read(beams):
    subject = hw.load("zoo:nmt")
    inputs = subject.prepare(text=["Sunday, November 22, 1992.", "Friday."])
    with hw.capture(subject) as trace:
        subject.model.generate(**inputs, max_new_tokens=4, num_beams=beams, do_sample=False)
    read = subject.layout(inputs).axes["encoder"]
    seen = trace.layout.axes["encoder"]
    assert seen.tokens == read.tokens
    assert torch.equal(seen.roles, read.roles)
    mass = hw.analyses.mass(trace).frame
    assert {"eos", "language"} <= set(mass[mass["kind"] == "cross"]["role"])
