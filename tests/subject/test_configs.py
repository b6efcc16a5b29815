"""Configurations that cannot be: bad input, said in one line, whatever transformers raises over them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

import headwise as hw
from tests.kit.cli import assert_one_line, run

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 8}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(vocab_size=9, **SIZE)),
    "bert": lambda: BertModel(BertConfig(vocab_size=9, max_position_embeddings=8, **SIZE)),
    "vit": lambda: ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **SIZE)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=9, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=4)
    ),
}
VALUES = ("x", -1, 0, None, [], {}, 3.5, 7, True)
MISSING = object()


def saved(model: PreTrainedModel, folder: Path) -> dict[str, Any]:
    model.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def without_or_with(config: dict[str, Any], key: str, value: Any) -> str:
    rest = {name: other for name, other in config.items() if name != key}
    return json.dumps(rest if value is MISSING else rest | {key: value})


def mutations(config: dict[str, Any]) -> Iterator[str]:
    """Every key missing or with a value of another kind; cut files; files that hold something else."""
    for key in config:
        for value in (*VALUES, MISSING):
            yield without_or_with(config, key, value)
    whole = json.dumps(config)
    yield from (whole[:length] for length in (0, 1, 20, len(whole) // 2, len(whole) - 1))
    yield from ("[]", "3", "null", '"x"', "\x00", "{}")


def assert_bad_input(folder: Path) -> None:
    with pytest.raises(hw.LoadError) as caught:
        hw.load(str(folder))
    assert caught.value.evidence
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


WRONG = {
    "heads that do not divide the width": ("num_attention_heads", 7),
    "a width of another kind": ("hidden_size", "x"),
    "no layers that count": ("num_hidden_layers", None),
    "a list for a name": ("model_type", []),
    "no model type": ("model_type", MISSING),
    "names that are numbers": ("architectures", 7),
    "no heads": ("num_attention_heads", 0),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_value_is_bad_input(kind: str, tmp_path: Path) -> None:
    config = saved(MODELS["llama"](), tmp_path)
    (tmp_path / "config.json").write_text(without_or_with(config, *WRONG[kind]))
    assert_bad_input(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"', "\x00"])
def test_a_file_that_is_no_configuration_is_bad_input(text: str, tmp_path: Path) -> None:
    saved(MODELS["llama"](), tmp_path)
    (tmp_path / "config.json").write_text(text)
    assert_bad_input(tmp_path)


def test_the_command_line_ends_with_status_2(tmp_path: Path) -> None:
    config = saved(MODELS["llama"](), tmp_path)
    (tmp_path / "config.json").write_text(without_or_with(config, "num_attention_heads", 7))
    done = run("report", tmp_path, "--text", "a", "--out", tmp_path / "x.html")
    assert done.exit_code == 2
    assert_one_line(done.stdout, done.stderr, "config.json")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_a_configuration_loads_or_is_bad_input(name: str, tmp_path: Path) -> None:
    config = saved(MODELS[name](), tmp_path)
    refused = 0
    for text in mutations(config):
        (tmp_path / "config.json").write_text(text)
        try:
            hw.load(str(tmp_path))
        except hw.LoadError:
            refused += 1
    assert refused > 60
