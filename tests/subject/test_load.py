"""Opening models: the good ones load as they were saved, each bad one is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.utils import logging

import headwise as hw
from tests.kit.subjects import llava_processor, word_tokenizer

SIZE = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
}


@pytest.fixture
def folder(tmp_path):
    """A saved language model with its tokenizer."""
    LlamaForCausalLM(LlamaConfig(**SIZE)).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def weights(folder):
    return folder / "model.safetensors"


def test_import_loads_nothing_heavy():
    code = "import sys, headwise; print([m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve():
    assert set(hw.__all__) <= set(dir(hw))
    for name in hw.__all__:
        assert getattr(hw, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'captur'"):
        hw.captur  # noqa: B018


def test_load_gives_the_saved_class_in_evaluation_mode(folder):
    subject = hw.load(str(folder))
    assert type(subject.model) is LlamaForCausalLM
    assert not subject.model.training
    assert subject.tokenizer.convert_tokens_to_ids("cat") == word_tokenizer().convert_tokens_to_ids("cat")
    assert subject.config is subject.model.config
    assert subject.device == torch.device("cpu")
    assert "\n" not in repr(subject)


def test_load_passes_options_on(folder):
    assert hw.load(str(folder), dtype=torch.bfloat16).model.dtype == torch.bfloat16
    assert hw.load(str(folder), attn_implementation="eager").config._attn_implementation == "eager"


def test_a_folder_without_processor(tmp_path):
    T5ForConditionalGeneration(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16)).save_pretrained(tmp_path)
    subject = hw.load(str(tmp_path))
    assert type(subject.model) is T5ForConditionalGeneration
    assert (subject.processor, subject.tokenizer) == (None, None)


def test_a_folder_with_an_image_processor(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    subject = hw.load(str(tmp_path))
    assert type(subject.model) is ViTForImageClassification
    assert type(subject.processor).__name__.startswith("ViTImageProcessor")
    assert subject.tokenizer is None


def test_load_restores_the_messages_of_transformers(folder):
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hw.load(str(folder))
    with pytest.raises(hw.LoadError):
        hw.load(str(folder / "missing"))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


def test_load_is_silent_before_an_error(folder, capfd):
    weights(folder).write_bytes(weights(folder).read_bytes()[:2000])
    with pytest.raises(hw.LoadError):
        hw.load(str(folder))
    assert capfd.readouterr() == ("", "")


def test_wrap_takes_the_model_as_it_is():
    model = LlamaForCausalLM(LlamaConfig(**SIZE)).train()
    subject = hw.wrap(model)
    assert subject.model is model
    assert model.training
    assert subject.name == "LlamaForCausalLM"


def test_wrap_knows_the_tokenizer_inside_a_processor():
    processor = llava_processor()
    assert hw.wrap(LlamaForCausalLM(LlamaConfig(**SIZE)), processor).tokenizer is processor.tokenizer


def test_wrap_refuses_other_modules():
    with pytest.raises(hw.InputError, match="not a transformers model"):
        hw.wrap(torch.nn.Linear(2, 2))


def refusal(name, **options) -> str:
    with pytest.raises(hw.LoadError) as caught:
        hw.load(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    return message


def test_a_missing_folder(tmp_path):
    assert "There is no folder" in refusal(tmp_path / "nothing")


def test_a_name_that_is_neither_folder_nor_on_the_hub():
    assert "no model of that name" in refusal("nobody/nothing")


def test_a_file_instead_of_a_folder(folder):
    assert "is a file" in refusal(weights(folder))


def test_a_folder_without_config(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


@pytest.mark.parametrize("text", ["{", json.dumps({"model_type": "nobody_knows"}), "{}"])
def test_a_config_that_cannot_be_used(folder, text):
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(folder)


def test_missing_weights(folder):
    weights(folder).unlink()
    assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize("length", [0, 5, 2000])
def test_truncated_weights(folder, length):
    weights(folder).write_bytes(weights(folder).read_bytes()[:length])
    assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_weights_that_are_not_finite(folder, value, word):
    tensors = load_file(weights(folder))
    tensors["model.layers.1.self_attn.q_proj.weight"][0, 0] = value
    save_file(tensors, weights(folder), metadata={"format": "pt"})
    message = refusal(folder)
    assert "model.layers.1.self_attn.q_proj.weight" in message
    assert word in message


def test_large_finite_weights_are_finite(folder):
    tensors = load_file(weights(folder))
    tensors["model.norm.weight"].fill_(3e38)
    save_file(tensors, weights(folder), metadata={"format": "pt"})
    hw.load(str(folder))


def test_weights_of_another_model(folder):
    (folder / "config.json").write_text(json.dumps(BertConfig(**SIZE, architectures=["BertModel"]).to_dict()))
    assert "not those of a BertModel" in refusal(folder)


def test_weights_that_lack_a_part_are_loaded_with_a_warning(tmp_path):
    model = BertModel(BertConfig(**SIZE), add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="2 weights are missing"):
        hw.load(str(tmp_path))


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    assert "do not have the shapes" in refusal(folder)


def test_a_broken_processor(folder):
    (folder / "tokenizer.json").write_text("{")
    assert "processor" in refusal(folder)


def test_an_unknown_model_of_the_zoo_is_refused_with_close_names():
    assert "zoo:lm" in refusal("zoo:llm")


def test_a_model_of_the_zoo_is_float32_unless_told_otherwise():
    assert hw.load("zoo:nmt").model.dtype == torch.float32
    assert hw.load("zoo:nmt", dtype=torch.float16).model.dtype == torch.float16


def test_code_from_a_repository_is_not_run(folder, monkeypatch):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "their_own", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text("raise SystemExit('their code ran')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on standard input"))
    assert "trust_remote_code=True" in refusal(folder)


def test_a_real_encoder(minilm):
    subject = hw.load(minilm)
    assert type(subject.model) is BertModel
    assert subject.tokenizer is not None


@pytest.mark.parametrize("place", ["AutoConfig", "LlamaForCausalLM", "AutoProcessor"])
@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_a_model_that_is_larger_than_the_memory_is_refused_with_its_sizes(folder, monkeypatch, place, kind):
    def fall(*_, **__):
        raise kind("tried to allocate 8 GiB")

    monkeypatch.setattr(getattr(transformers, place), "from_pretrained", fall)
    with pytest.raises(hw.LoadError, match=r"not enough memory for .*tried to allocate 8 GiB") as caught:
        hw.load(folder)
    assert ("vocab_size = 32" in str(caught.value)) == (place == "LlamaForCausalLM")
