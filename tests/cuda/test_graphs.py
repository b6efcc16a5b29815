"""CUDA graphs, compiled models and continuous batching under captures and patches: right, or refused in words."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

import headwise as hw
from headwise.testing.inputs import forward
from tests.kit.cuda import CLOSE, MARKS, built, on_cuda
from tests.kit.edits import FirstKey
from tests.probes.serving.test_continuous_batching import MASK, NEW, OPTIONS, PROMPTS, SCALE, replies
from tests.tiny import ARCHITECTURES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

pytestmark = MARKS
COMPILED = """
import sys
import torch
import headwise as hw
from headwise.fixes import ACT, ScaleHeads
from headwise.testing.inputs import random_ids
from tests.kit.edits import FirstKey
from tests.tiny import ARCHITECTURES

close = dict(rtol=1e-4, atol=2e-5, equal_nan=True)
fixes = {
    "scale": ScaleHeads(heads=((0, 1), (1, 3)), factor=0.1),
    "edit": FirstKey(),
    "act": ACT(heads=((0, 1), (1, 0), (1, 3)), alpha=1.5, min_rows=2),
}
model = ARCHITECTURES["llama"].build().cuda()
ids = random_ids(2, 12).cuda()
options = dict(do_sample=False, max_new_tokens=8, min_new_tokens=8, pad_token_id=0)
options |= dict(output_logits=True, return_dict_in_generate=True)


def same(trace, expected):
    assert trace.sites == expected.sites
    for site in trace.sites:
        record, other = trace.records[site], expected.records[site]
        for field in set(record) & set(other):
            keys = min(record[field].shape[-1], other[field].shape[-1])
            torch.testing.assert_close(record[field][..., :keys], other[field][..., :keys], **close)


def write(**more):
    return model.generate(ids, **options, **more)


def alike(one, other):
    assert torch.equal(one.sequences, other.sequences)
    torch.testing.assert_close(torch.stack(one.logits), torch.stack(other.logits), **close)


def static_patch(name):
    plain = write()
    with hw.patch(model, fixes[name]):
        patched = write()
        for _ in range(2):
            alike(write(cache_implementation="static"), patched)
    alike(write(cache_implementation="static"), plain)
    with hw.patch(model, fixes[name]):
        alike(write(cache_implementation="static"), patched)
    assert not torch.allclose(torch.stack(plain.logits), torch.stack(patched.logits))


def static_capture(name):
    wanted = dict(maps=True, heads=True, qkv=True, residual=True)
    with hw.capture(model, **wanted) as expected:
        plain = write(cache_implementation="static", disable_compile=True)
    alike(write(cache_implementation="static"), plain)
    with hw.capture(model, **wanted) as trace:
        alike(write(cache_implementation="static"), plain)
    same(trace, expected)
    with hw.capture(model) as expected:
        write(cache_implementation="static", disable_compile=True)
    with hw.capture(model) as trace:
        alike(write(cache_implementation="static"), plain)
    same(trace, expected)


@torch.no_grad()
def compiled(mode):
    others = [random_ids(2, 12, seed=seed).cuda() for seed in range(3)]
    wanted = dict(maps=True, heads=True, qkv=True, residual=True)
    plain = [model(given).logits for given in others]
    with hw.capture(model, **wanted) as expected:
        for given in others:
            model(given)
    patched = {}
    for name, fix in fixes.items():
        with hw.patch(model, fix):
            patched[name] = [model(given).logits for given in others]
    wrapper = torch.compile(model, mode=mode)
    for given, logits in zip(others, plain):
        torch.testing.assert_close(wrapper(given).logits.clone(), logits, **close)
    with hw.capture(wrapper, **wanted) as trace:
        for given, logits in zip(others, plain):
            torch.testing.assert_close(wrapper(given).logits.clone(), logits, **close)
    same(trace, expected)
    for name, fix in fixes.items():
        with hw.patch(wrapper, fix):
            for given, logits in zip(others, patched[name]):
                torch.testing.assert_close(wrapper(given).logits.clone(), logits, **close)
    for given, logits in zip(others, plain):
        torch.testing.assert_close(wrapper(given).logits.clone(), logits, **close)


globals()[sys.argv[1]](sys.argv[2])
"""


@pytest.mark.parametrize(
    ("what", "how"),
    [
        *(("static_patch", fix) for fix in ("scale", "edit", "act")),
        ("static_capture", "all"),
        *(("compiled", mode) for mode in ("default", "reduce-overhead")),
    ],
)
def test_a_compiled_model_is_right(what: str, how: str) -> None:
    """Without the checks of shapes that tests are run with: the compiler cannot follow them."""
    command = [sys.executable, "-W", "ignore", "-c", COMPILED, what, how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-6000:]


def recorded(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor]
) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """A CUDA graph of one forward, and the logits that it writes."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # kernels choose their workspaces
        forward(model, inputs, use_cache=False)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.no_grad(), torch.cuda.graph(graph):
        logits = model(**inputs, use_cache=False).logits
    return graph, logits


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
@pytest.mark.parametrize("use", ["capture", "scale", "edit"])
@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_a_cuda_graph_of_an_attached_model_is_refused(name: str, use: str) -> None:
    model, inputs = built(name), on_cuda(ARCHITECTURES[name].inputs["plain"]())
    plain = forward(model, inputs).logits
    fixes = {"scale": SCALE, "edit": FirstKey()}
    attached = hw.capture(model) if use == "capture" else hw.patch(model, fixes[use])
    with pytest.raises(hw.HeadwiseError, match="CUDA graph"), attached:
        recorded(model, inputs)
    graph, logits = recorded(model, inputs)
    logits.zero_()
    graph.replay()
    torch.testing.assert_close(logits, plain, **CLOSE)


def test_a_cuda_graph_of_the_plain_model_may_be_recorded_beside_a_patch_of_another_thread() -> None:
    import threading

    model, inputs = built("llama"), on_cuda(ARCHITECTURES["llama"].inputs["plain"]())
    plain = forward(model, inputs).logits
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with hw.patch(model, SCALE, scope="thread"):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert entered.wait(60)
        graph, logits = recorded(model, inputs)
    finally:
        leave.set()
        thread.join()
    logits.zero_()
    graph.replay()
    torch.testing.assert_close(logits, plain, **CLOSE)


def one_by_one(model: PreTrainedModel) -> list[list[int]]:
    """What `generate` writes."""
    generate: Any = model.generate
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    found = [generate(input_ids=torch.tensor([ids]).cuda(), **options)[0].tolist() for ids in PROMPTS]
    return [ids[len(prompt) :] for ids, prompt in zip(found, PROMPTS, strict=True)]


def together(model: PreTrainedModel, **more: Any) -> list[list[int]]:
    """What continuous batching writes."""
    room = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=16, page_size=8, **more)
    batch: Any = model.generate_batch
    found = batch(PROMPTS, generation_config=OPTIONS, continuous_batching_config=room)
    return [found[name].generated_tokens for name in sorted(found, key=lambda name: int(name.split("_")[1]))]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("fix", [SCALE, MASK], ids=["scale", "edit"])
@pytest.mark.parametrize(("name", "kind"), [("llama", "sdpa"), ("llama", "eager"), ("gemma2", "eager")])
def test_continuous_batching_writes_what_generate_writes(
    name: str, kind: str, fix: Any, asynchronous: bool
) -> None:
    model = built(name, kind)
    plain = one_by_one(model)
    assert together(model, use_async_batching=asynchronous) == plain
    with hw.patch(model, fix):
        patched = one_by_one(model)
        assert together(model, use_async_batching=asynchronous) == patched != plain
    assert together(model, use_async_batching=asynchronous) == plain


def test_continuous_batching_by_cuda_graphs_is_refused_under_a_patch() -> None:
    model = built("llama", "sdpa")
    with hw.patch(model, SCALE), pytest.raises(hw.HeadwiseError, match="CUDA graph"):
        together(model, use_cuda_graph=True)
    room = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=16, page_size=8, use_cuda_graph=True)
    make: Any = model.init_continuous_batching
    running = make(
        generation_config=GenerationConfig(**OPTIONS.to_diff_dict()), continuous_batching_config=room
    )
    running.start()
    try:
        names = [running.add_request(prompt, max_new_tokens=NEW) for prompt in PROMPTS]
        plain = replies(running, names)
        with pytest.raises(hw.HeadwiseError, match="CUDA graph"):
            hw.patch(model, SCALE, check=False)
        names = [running.add_request(prompt, max_new_tokens=NEW) for prompt in PROMPTS]
        assert replies(running, names) == plain == one_by_one(model)
    finally:
        running.stop(block=True)
