"""A model folder's settings ask for no more parts and memory than its weights explain, whatever the setting's name."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import headwise as hw
from headwise.cli._run_serve import loading_patched
from headwise.model.building import Building
from headwise.readers import limits
from tests.kit.cli import save
from tests.tiny import ARCHITECTURES

ASKING = {
    "albert": ("inner_group_num", "vocab_size"),
    "m2m_100": ("max_position_embeddings",),
    "mixtral": ("num_local_experts", "head_dim"),
    "llava": ("text_config.intermediate_size", "vision_config.image_size"),
}
"""Settings that ask for parts, weights, values that are computed, and those of a tower."""


def write(folder, name, leave_out=None, **settings):
    """A tiny model with other settings, by the path that leads to them, and without weights whose names match."""
    ARCHITECTURES[name].build().save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    for path, value in settings.items():
        *places, last = path.split(".")
        held = content
        for place in places:
            held = held[place]
        held[last] = value
    (folder / "config.json").write_text(json.dumps(content))
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not (leave_out and re.search(leave_out, key))}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(folder):
    with pytest.raises(hw.LoadError) as caught:
        hw.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "setting"), [(name, one) for name in ASKING for one in ASKING[name]])
def test_settings_that_ask_for_more_than_the_weights_hold(tmp_path, name, setting):
    write(tmp_path, name, **{setting: 10**7})
    with hw.file_limits(times=0.1):
        message = refusal(tmp_path)
    assert "ask for more than its weights hold" in message
    assert f"config.json asks for {setting} = 10,000,000" in message
    assert "hw.file_limits" in message


def test_values_that_no_file_has_are_fewer_than_those_that_are_there(tmp_path):
    write(tmp_path, "mixtral", "embed_tokens|lm_head", vocab_size=100_000)
    assert re.search(r"bytes of values that no file has, with [\d,]+ of weights: 12,800,", refusal(tmp_path))
    with hw.file_limits(times=4), pytest.warns(UserWarning, match=r"embed_tokens.weight"):
        assert hw.load(tmp_path).model.config.vocab_size == 100_000


@pytest.mark.parametrize("name", ["mixtral", "m2m_100", "llava"])
def test_weights_explain_a_model(tmp_path, name):
    """Embeddings that are to be tied count twice; without what is free, that is all."""
    write(tmp_path, name)
    token = limits._LIMITS.set(limits.FileLimits(model_bytes=2000))
    try:
        assert hw.load(tmp_path).model.config
    finally:
        limits._LIMITS.reset(token)


@pytest.mark.parametrize("setting", ["hidden_act", "rope_parameters.rope_type"])
def test_a_name_that_transformers_does_not_know(tmp_path, setting):
    write(tmp_path, "mixtral", **{setting: "nope"})
    assert f"({setting} = 'nope' is not known to transformers)" in refusal(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_values_that_are_computed_one_by_one_count_in_any_type(dtype):
    """Sinusoids of DistilBERT and XLM are written over weights of the file, at a microsecond for a value."""
    positions = torch.ones(1, dtype=dtype).expand(3 * 10**6)
    with pytest.raises(hw.errors.InputError, match="values that no file has"), Building(0, where="x"):
        torch.empty_like(positions)
    with Building(12 * 10**6, where="x"):
        torch.empty_like(positions)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_server_opens_a_folder_within_the_same_limits(tmp_path, file):
    from transformers.cli.serving import model_manager

    folder = save(tmp_path)
    content = json.loads((folder / file).read_text())
    more = {"vocab_size": 10**8, "normalizer": {"type": "Prepend", "prepend": "a" * 20_000}}
    (folder / file).write_text(json.dumps({**content, **more}))
    nothing: Any = None
    with (
        loading_patched(nothing, force=False),
        pytest.raises(hw.HeadwiseError, match=r"of a model|normalizer"),
    ):
        model_manager.ModelManager(device="cpu").load_model_and_processor(f"{folder}@main")


def test_a_bound_holds_in_its_block():
    with pytest.raises(hw.errors.InputError, match="bytes of a model"), Building(0, where="x"):
        torch.ones(1).expand(10**10)
    torch.empty(10**10, device="meta")
