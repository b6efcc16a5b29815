"""Edges against models that are written out in plain PyTorch, and runs that must be what they say on every modality."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import headwise as hw
from headwise.circuits.attribution import edge_attribution
from headwise.circuits.experiment import Experiment
from headwise.circuits.pairs import PairSet
from headwise.circuits.patching import circuit_metric, edge_patching
from headwise.circuits.stream.find import stream_graph
from headwise.circuits.stream.runs import record, run_mask
from headwise.errors import UnsupportedModel
from headwise.subject import wrap
from headwise.testing import tiny_model
from headwise.testing.inputs import PATCHES, random_ids, random_normal
from headwise.testing.models import IMAGE_TOKEN


def pair_set(clean: dict[str, Tensor], corrupted: dict[str, Tensor]) -> PairSet:
    return PairSet("random", [clean], [corrupted], torch.tensor([7]), torch.tensor([9]))


def text_pair() -> PairSet:
    return pair_set({"input_ids": random_ids(1, 6, seed=1)}, {"input_ids": random_ids(1, 6, seed=2)})


def picture_pair() -> PairSet:
    ids = torch.cat([torch.full((1, PATCHES), IMAGE_TOKEN), random_ids(1, 5)], 1)
    pictures = [random_normal(1, 3, 32, 32, seed=seed) for seed in (3, 4)]
    return pair_set(*({"input_ids": ids, "pixel_values": picture} for picture in pictures))


def translation() -> tuple[Any, PairSet]:
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        f"{part}_{what}": size
        for part in ("encoder", "decoder")
        for what, size in (("layers", 2), ("ffn_dim", 32))
    }
    heads: dict[str, Any] = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = M2M100Config(vocab_size=64, d_model=32, max_position_embeddings=32, **sizes, **heads)
    model = M2M100ForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    target = torch.tensor([[2, 11, 12]])
    sources = [torch.tensor([[5, 6, 7, 8, 2]]), torch.tensor([[5, 9, 7, 10, 2]])]
    return model, pair_set(*({"input_ids": ids, "decoder_input_ids": target} for ids in sources))


def experiments(name: str) -> Experiment:
    if name == "m2m100":
        model, pairs = translation()
    else:
        model, pairs = tiny_model(name), picture_pair() if name == "llava" else text_pair()
    return Experiment(wrap(model), pairs, check=False)


NAMES = ("gpt2", "llama", "llava", "m2m100")


class Stream:
    """The writers of a run by name, and receivers that read something else, in plain PyTorch."""

    def __init__(
        self, corrupted: dict[str, Tensor] | None = None, edge: tuple[str, str, str] | None = None
    ) -> None:
        self.corrupted, self.edge = corrupted, edge
        self.written: dict[str, Tensor] = {}

    def write(self, name: str, value: Tensor) -> Tensor:
        self.written[name] = value
        return value

    def read(self, stream: Tensor, receiver: str, given: str = "") -> Tensor:
        if self.edge is not None and self.edge[1:] == (receiver, given) and self.corrupted is not None:
            sender = self.edge[0]
            return stream + self.corrupted[sender] - self.written[sender]
        return stream


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Tensor:
    scores = q @ k.T * scale
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1) @ v


def rotated(x: Tensor, theta: float) -> Tensor:
    half = x.shape[-1] // 2
    angles = torch.arange(len(x))[:, None] * theta ** (-torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[:, :half], x[:, half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def llama_twin(lm: Any, head: Any, embedded: Tensor, run: Stream) -> Tensor:
    """Logits of the last position of a Llama of 4 heads and 2 key heads, of one prompt (position, width)."""
    config = lm.config
    width = config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]

    def norm(module: Any, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps) * module.weight

    def part(matrix: Any, x: Tensor, number: int) -> Tensor:
        return x @ matrix.weight[number * width : (number + 1) * width].T

    stream = run.write("input", embedded)
    for number, layer in enumerate(lm.layers):
        attention, written = layer.self_attn, []
        for h in range(config.num_attention_heads):
            group = h // (config.num_attention_heads // config.num_key_value_heads)
            shared = f"L{number}KV{group}"
            q = part(
                attention.q_proj, norm(layer.input_layernorm, run.read(stream, f"L{number}H{h}", "q")), h
            )
            k = part(attention.k_proj, norm(layer.input_layernorm, run.read(stream, shared, "k")), group)
            v = part(attention.v_proj, norm(layer.input_layernorm, run.read(stream, shared, "v")), group)
            z = attend(rotated(q, theta), rotated(k, theta), v, causal=True, scale=1 / math.sqrt(width))
            columns = slice(h * width, (h + 1) * width)
            written.append(run.write(f"L{number}H{h}", z @ attention.o_proj.weight[:, columns].T))
        stream = stream + sum(written)
        x = norm(layer.post_attention_layernorm, run.read(stream, f"mlp {number}"))
        gated = torch.nn.functional.silu(layer.mlp.gate_proj(x)) * layer.mlp.up_proj(x)
        stream = stream + run.write(f"mlp {number}", layer.mlp.down_proj(gated))
    return head(norm(lm.norm, run.read(stream, "logits")))[-1]


def m2m100_twin(model: Any, inputs: dict[str, Tensor], run: Stream) -> Tensor:
    """Logits of the last position of a pre-norm encoder-decoder."""
    heads, width = 4, 8

    def head_of(module: Any, x: Tensor, h: int) -> Tensor:
        rows = slice(h * width, (h + 1) * width)
        return x @ module.weight[rows].T + module.bias[rows]

    def attention(
        module: Any, norm: Any, stream: Tensor, memory: Tensor | None, name: str, causal: bool
    ) -> Tensor:
        written = module.out_proj.bias
        for h in range(heads):
            own, inner = f"{name}H{h}", norm
            source, outer = (stream, inner) if memory is None else (memory, model.model.encoder.layer_norm)
            q = head_of(module.q_proj, inner(run.read(stream, own, "q")), h)
            k = head_of(module.k_proj, outer(run.read(source, own, "k")), h)
            v = head_of(module.v_proj, outer(run.read(source, own, "v")), h)
            z = attend(q, k, v, causal=causal, scale=width**-0.5)
            columns = slice(h * width, (h + 1) * width)
            written = written + run.write(own, z @ module.out_proj.weight[:, columns].T)
        return written

    def tower(part: Any, ids: Tensor, memory: Tensor | None, prefix: str) -> Tensor:
        embedded = part.embed_tokens(ids)
        stream = run.write(f"{prefix}input", (embedded + part.embed_positions(ids, embedded))[0])
        for number, layer in enumerate(part.layers):
            norm = layer.self_attn_layer_norm
            causal = memory is not None
            stream = stream + attention(layer.self_attn, norm, stream, None, f"{prefix}L{number}", causal)
            if memory is not None:
                cross, norm = layer.encoder_attn, layer.encoder_attn_layer_norm
                stream = stream + attention(cross, norm, stream, memory, f"cross L{number}", False)
            x = layer.final_layer_norm(run.read(stream, f"{prefix}mlp {number}"))
            stream = stream + run.write(f"{prefix}mlp {number}", layer.fc2(layer.activation_fn(layer.fc1(x))))
        return stream

    memory = tower(model.model.encoder, inputs["input_ids"], None, "encoder ")
    end = tower(model.model.decoder, inputs["decoder_input_ids"], memory, "")
    return model.lm_head(model.model.decoder.layer_norm(run.read(end, "logits")))[-1]


def twin(name: str, model: Any, inputs: dict[str, Tensor], run: Stream) -> Tensor:
    with torch.no_grad():
        if name == "m2m100":
            return m2m100_twin(model, inputs, run)
        if name == "llama":
            return llama_twin(
                model.model, model.lm_head, model.model.embed_tokens(inputs["input_ids"])[0], run
            )
        embedded = model.get_input_embeddings()(inputs["input_ids"])[0].clone()
        pictures = model.get_image_features(pixel_values=inputs["pixel_values"])
        pictures = getattr(pictures, "pooler_output", pictures)
        embedded[inputs["input_ids"][0] == IMAGE_TOKEN] = torch.cat(list(pictures)).view(PATCHES, -1)
        return llama_twin(model.model.language_model, model.lm_head, embedded, run)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "m2m100", "llava"])
def test_every_exact_edge_is_that_of_a_model_written_out(name: str) -> None:
    one = experiments(name)
    clean, corrupted = (dict(getattr(next(one.batches()), which)) for which in ("clean", "corrupted"))
    there, here = Stream(), Stream()
    twin(name, one.model, corrupted, there)
    plain = twin(name, one.model, clean, here)
    torch.testing.assert_close(one.clean[0], plain[7] - plain[9], rtol=0, atol=1e-5)
    found = edge_patching(one)
    graph = one.graph
    assert set(here.written) == set(graph.senders)
    for sender, receiver in graph.edges.nonzero().tolist():
        edge = (graph.senders[sender], *graph.receivers[receiver])
        logits = twin(name, one.model, clean, Stream(there.written, edge))
        expected = float(logits[7] - logits[9] - (plain[7] - plain[9]))
        assert float(found[sender, receiver]) == pytest.approx(expected, abs=1e-5), edge


@pytest.mark.parametrize("name", NAMES)
def test_without_edges_it_is_the_corrupted_run_and_with_all_the_clean_one(name: str) -> None:
    one = experiments(name)
    graph = one.graph
    torch.testing.assert_close(circuit_metric(one, graph.edges), one.clean, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        circuit_metric(one, torch.zeros_like(graph.edges)), one.corrupted, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("name", ["llama", pytest.param("llava", marks=pytest.mark.slow)])
def test_attribution_is_the_slope_of_replacing(name: str) -> None:
    """A small step of an edge towards the corrupted value changes the metric by that step of its score."""
    one = experiments(name)
    graph, near = one.graph, edge_attribution(one, "eap")
    batch = next(one.batches())

    clean, logits = record(one.model.double(), graph, _double(batch.clean))
    corrupted, _ = record(one.model, graph, _double(batch.corrupted))
    try:
        for sender, receiver in graph.edges.nonzero().tolist()[::7]:
            mask = torch.zeros(graph.edges.shape)
            mask[sender, receiver] = 1e-4
            moved = run_mask(one.model, graph, _double(batch.clean), corrupted, mask)
            slope = (one.values(moved, batch) - one.values(logits, batch)) / 1e-4
            assert float(slope) == pytest.approx(float(near[sender, receiver]), abs=2e-2)
    finally:
        one.model.float()
    assert len(clean) == len(graph.senders)


def _double(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


@pytest.mark.parametrize("name", ["gemma2", "bert"])
def test_models_without_a_sum_are_refused(name: str) -> None:

    with pytest.raises(UnsupportedModel, match="no sum"):
        stream_graph(tiny_model(name), {"input_ids": random_ids(1, 5)})


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_model("llama")
    inputs = {"input_ids": random_ids(1, 6)}
    keys = list(model.state_dict())
    with torch.no_grad():
        before = model(**inputs).logits
    hw.analyses.circuit(wrap(model), text_pair(), edges=5, check=False)
    hw.analyses.activation_patching(wrap(model), text_pair(), check=False)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=0)
    assert list(model.state_dict()) == keys
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
