"""On a CUDA device, headwise records and edits what it does on the CPU, and leaves no memory behind."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import headwise as hw
from headwise.testing.inputs import alone, decode, first, forward, random_ids, together
from tests.kit.cuda import CLOSE, FAMILIES, MARKS, assert_same_trace, built, full_precision, on_cuda
from tests.kit.edits import FirstKey
from tests.kit.fixes import FIXES, models_of
from tests.kit.subjects import language, llava, picture, word_tokenizer
from tests.probes.generation.test_generate import MODES, complete, generate, prompt
from tests.tiny import ARCHITECTURES
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["full_precision"]
pytestmark = [*MARKS, pytest.mark.usefixtures("full_precision")]
EVERYTHING: dict[str, Any] = {"maps": True, "qkv": True, "heads": True, "residual": True}
WRITERS = ("gpt2", "llama", "gemma2", "gpt_oss", "t5", "marian", "whisper")
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize("variant", ["plain", "padded"])
@pytest.mark.parametrize("name", FAMILIES)
def test_records_are_those_of_the_cpu(name: str, variant: str) -> None:
    row = ARCHITECTURES[name]
    if variant not in row.inputs:
        pytest.skip("no padding")
    inputs, host, model = row.inputs[variant](), row.build(), built(name)
    with hw.capture(host, **EVERYTHING) as expected:
        output = first(forward(host, inputs))
    with hw.capture(model, **EVERYTHING) as trace:
        found = first(forward(model, on_cuda(inputs)))
    torch.testing.assert_close(found.cpu(), output, **CLOSE)
    assert_same_trace(trace, expected)
    assert trace.layout.axes.keys() == expected.layout.axes.keys()
    assert trace.meta["device"] == "cuda:0"


@pytest.mark.parametrize("name", FAMILIES)
def test_streamed_statistics_are_those_of_the_cpu(name: str) -> None:
    row = ARCHITECTURES[name]
    inputs, host, model = row.inputs["plain"](), row.build(), built(name)
    with hw.capture(host) as expected:
        forward(host, inputs)
    with hw.capture(model) as trace:
        forward(model, on_cuda(inputs))
    assert_same_trace(trace, expected)


@pytest.mark.parametrize("name", ["llama", "bert", "whisper"])
def test_every_record_lies_on_the_device(name: str) -> None:
    model, inputs = built(name), on_cuda(ARCHITECTURES[name].inputs["plain"]())
    with hw.capture(model, **EVERYTHING) as trace:
        forward(model, inputs)
    for site in trace.sites:
        devices = {field: value.device.type for field, value in trace.records[site].items()}
        assert set(devices.values()) == {"cuda"}, (site, devices)


def test_frames_and_files_are_those_of_the_cpu(tmp_path: Path) -> None:
    model, inputs = built("llama"), on_cuda(ARCHITECTURES["llama"].inputs["padded"]())
    with hw.capture(model, **EVERYTHING) as trace:
        forward(model, inputs)
    loaded = hw.load_trace(trace.save(tmp_path / "trace.safetensors"))
    assert_same_trace(loaded, trace)
    for level in ("head", "query", "key"):
        frame = trace.to_frame(level)  # sums on a GPU need not be those of a CPU to the last bit
        pd.testing.assert_frame_equal(loaded.to_frame(level), frame, check_dtype=False, rtol=1e-5)


@pytest.mark.parametrize("mode", ["greedy", "uncached", "sampling"])
@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_generate_are_those_of_one_forward(name: str, mode: str) -> None:
    model, inputs = built(name), on_cuda(prompt(name))
    expected = generate(model, inputs, **MODES[mode])
    with hw.capture(model, maps=True) as trace:
        ids = generate(model, inputs, **MODES[mode])
    assert torch.equal(ids, expected)
    whole = complete(model, inputs, ids)
    for site in trace.sites:
        pattern, other = trace.maps[site], whole.maps[site]
        assert torch.equal(trace.positions[site], whole.positions[site])
        torch.testing.assert_close(pattern[..., : other.shape[-1]], other, **CLOSE)
        for field in ("entropy", "maximum", "distance"):
            torch.testing.assert_close(trace.records[site][field], whole.records[site][field], **CLOSE)


@pytest.mark.parametrize("name", ["llama", "gemma2", "t5"])
def test_beams_are_those_of_the_cpu(name: str) -> None:
    host, model, inputs = ARCHITECTURES[name].build(), built(name), prompt(name)
    with hw.capture(host, maps=True, beams="all") as expected:
        ids = generate(host, inputs, num_beams=3)
    with hw.capture(model, maps=True, beams="all") as trace:
        found = generate(model, on_cuda(inputs), num_beams=3)
    assert torch.equal(found.cpu(), ids)
    assert trace.returned == expected.returned
    assert_same_trace(trace, expected)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    ("fix", "name"),
    [(fix, name) for fix in FIXES for name in models_of(fix) if name != "bert"],
)
def test_a_fix_writes_what_it_writes_on_the_cpu(fix: str, name: str, cached: bool) -> None:
    host, model = ARCHITECTURES[name].build(), built(name)
    forward(model, on_cuda(alone(0, name)))
    before = snapshot(model)
    for inputs in (alone(0, name), together("left", name)):
        with hw.patch(host, FIXES[fix](0)):
            ids, logits = decode(host, inputs, use_cache=cached)
        with hw.patch(model, FIXES[fix](0)):
            found, scores = decode(model, on_cuda(inputs), use_cache=cached)
        assert torch.equal(found.cpu(), ids)
        torch.testing.assert_close(scores.cpu(), logits, **CLOSE)
    assert snapshot(model) == before


@pytest.mark.parametrize("name", ["bert", "t5", "whisper", "qwen2_vl", "bloom"])
def test_an_edit_of_patterns_is_that_of_the_cpu(name: str) -> None:
    row = ARCHITECTURES[name]
    inputs, host, model = row.inputs["plain"](), row.build(), built(name)
    with hw.patch(host, FirstKey()), hw.capture(host, maps=True) as expected:
        output = first(forward(host, inputs))
    with hw.patch(model, FirstKey(in_place=True)), hw.capture(model, maps=True) as trace:
        found = first(forward(model, on_cuda(inputs)))
    torch.testing.assert_close(found.cpu(), output, **CLOSE)
    assert_same_trace(trace, expected)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", FAMILIES)
def test_rows_in_half_precision_sum_to_one(name: str, dtype: str) -> None:
    model = built(name, dtype=HALF[dtype])
    inputs = {
        field: value.to(HALF[dtype]) if value.is_floating_point() else value
        for field, value in on_cuda(ARCHITECTURES[name].inputs["plain"]()).items()
    }
    plain = first(forward(model, inputs))
    with hw.capture(model, maps=True) as trace:
        found = first(forward(model, inputs))
    with hw.capture(model) as streamed:
        also = first(forward(model, inputs))
    for logits in (found, also):
        torch.testing.assert_close(logits.float(), plain.float(), rtol=0.05, atol=0.1)
    for site in trace.sites:
        rows = trace.maps[site].float().sum(-1)
        sink = name == "gpt_oss"  # one logit takes its share and is dropped
        assert rows.isfinite().all()
        assert (rows < 1 + 0.02).all()
        assert sink or (rows > 1 - 0.02).all()
        for record in (trace.records[site], streamed.records[site]):
            assert record["entropy"].dtype == torch.float32
            assert record["entropy"].isfinite().all()
        torch.testing.assert_close(
            streamed.records[site]["entropy"], trace.records[site]["entropy"], rtol=0.02, atol=0.03
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_doctor_finds_nothing(name: str) -> None:
    findings = hw.doctor(built(name))
    assert findings.ok, findings


@pytest.mark.parametrize("own_streams", [False, True])
def test_two_threads_patch_one_model_for_themselves(own_streams: bool) -> None:
    model, inputs = built("llama"), on_cuda(ARCHITECTURES["llama"].inputs["plain"]())
    fixes = [hw.fixes.ScaleHeads(heads=((0, head), (1, head)), factor=0.1) for head in range(2)]
    expected = []
    for fix in fixes:
        with hw.patch(model, fix):
            expected.append(generate(model, inputs, output_logits=True, return_dict_in_generate=True))
    found: list[Any] = [None, None]
    torch.cuda.synchronize()
    start = threading.Barrier(2)

    def work(number: int) -> None:
        stream = torch.cuda.Stream() if own_streams else torch.cuda.current_stream()
        start.wait(30)
        with torch.cuda.stream(stream), hw.patch(model, fixes[number], scope="thread"):
            for _ in range(5):
                found[number] = model.generate(
                    **inputs,
                    do_sample=False,
                    max_new_tokens=6,
                    min_new_tokens=6,
                    pad_token_id=0,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
        stream.synchronize()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.sequences, other.sequences)
        torch.testing.assert_close(torch.stack(one.logits), torch.stack(other.logits), **CLOSE)


@pytest.mark.parametrize("name", ["llama", "gemma2", "whisper", "qwen2_vl"])
def test_no_memory_is_kept(name: str) -> None:
    model, inputs = built(name), on_cuda(ARCHITECTURES[name].inputs["plain"]())
    fix = hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5)

    def use() -> None:
        with hw.capture(model, **EVERYTHING), hw.patch(model, fix), hw.patch(model, FirstKey()):
            forward(model, inputs)

    forward(model, inputs)
    use()  # products need a workspace, the first time
    gc.collect()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        use()
    gc.collect()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.parametrize("backend", ["FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH"])
def test_statistics_leave_the_outputs_of_every_kernel(backend: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 256}
    config = LlamaConfig(num_hidden_layers=2, vocab_size=128, **sizes)
    model: Any = LlamaForCausalLM(config).eval().to("cuda", torch.bfloat16)
    inputs = {"input_ids": random_ids(2, 300).cuda()}
    with sdpa_kernel(getattr(SDPBackend, backend)):
        plain = forward(model, inputs).logits
        with hw.capture(model, stats=False, heads=True) as trace:
            assert torch.equal(forward(model, inputs).logits, plain)
        with hw.capture(model, heads=True) as streamed:
            found = forward(model, inputs).logits
    torch.testing.assert_close(found, plain, rtol=0.05, atol=0.02)
    for site in trace.sites:
        torch.testing.assert_close(streamed.heads[site], trace.heads[site], rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("name", "place"),
    [("llama", "cpu"), ("llama", "disk"), ("bloom", "cpu")],  # accelerate mixes up bloom's weights on a disk
)
def test_offloaded_models_compute_on_the_device(name: str, place: str, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    row = ARCHITECTURES[name]
    host, model, inputs = row.build(), row.build(), row.inputs["plain"]()
    with hw.patch(host, FirstKey()), hw.capture(host, maps=True) as expected:
        output = first(forward(host, inputs))
    inner = next(child for child, _ in model.named_children())
    places: dict[str, Any] = {child: 0 for child, _ in model.named_children()} | {inner: place}
    accelerate.dispatch_model(model, places, main_device=0, offload_dir=str(tmp_path))
    subject = hw.wrap(model)
    assert str(subject.device) == "cuda:0"
    with hw.patch(subject, FirstKey()), hw.capture(subject, maps=True) as trace:
        found = first(forward(model, on_cuda(inputs)))
    torch.testing.assert_close(found.cpu(), output, **CLOSE)
    assert_same_trace(trace, expected)
    assert hw.doctor(subject).ok


def test_a_model_moves_to_the_device_while_it_is_patched() -> None:
    model, inputs = ARCHITECTURES["llama"].build(), ARCHITECTURES["llama"].inputs["plain"]()
    with hw.patch(model, FIXES["act"](0)):
        expected = forward(model, inputs).logits
        model.to("cuda")  # type: ignore[arg-type]
        torch.testing.assert_close(forward(model, on_cuda(inputs)).logits.cpu(), expected, **CLOSE)


def test_a_report_of_a_model_on_the_device(tmp_path: Path) -> None:
    subject = language(word_tokenizer(side="left"))
    subject.model.cuda()  # type: ignore[union-attr]
    path = hw.report(subject, tmp_path / "report.html", examples=[{"text": "a cat sat"}], generate=3)
    assert path.stat().st_size > 10_000


def test_a_report_of_a_fix_on_a_picture(tmp_path: Path) -> None:
    subject = llava()
    subject.model.cuda()  # type: ignore[union-attr]
    path = hw.report(
        subject,
        tmp_path / "report.html",
        examples=[{"text": "what is this ?", "image": picture()}],
        fixes=hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.0),
    )
    assert path.stat().st_size > 10_000


def test_an_evaluation_of_a_trained_model() -> None:
    fix = hw.fixes.ScaleHeads(heads=((0, 0), (1, 1)), factor=0.0)
    found = []
    for options in ({}, {"device_map": "cuda"}):
        subject = hw.load("zoo:lm", **options)
        with hw.patch(subject, fix):
            found.append(hw.evaluate(subject, "ioi", n=16).frame)
    assert (
        found[1]
        .drop(columns="id")
        .select_dtypes(["bool", "int"])
        .equals(found[0].drop(columns="id").select_dtypes(["bool", "int"]))
    )
