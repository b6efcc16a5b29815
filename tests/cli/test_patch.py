"""`headwise patch`: a spec against a model, side by side, and baked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

import headwise as hw
from headwise import fixes
from headwise.fixes.spec.specs import save_spec
from tests.kit.cli import TEXT, assert_one_line, process, run, save
from tests.kit.subjects import picture, word_tokenizer

ZERO = fixes.ZeroHeads(heads=((0, 0), (0, 1), (1, 0), (1, 1)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny language model."""
    return str(save(tmp_path_factory.mktemp("model"), initializer_range=0.3))


@pytest.fixture
def spec(model: str, tmp_path: Path) -> Path:
    """A spec for it that silences every head."""
    save_spec(tmp_path / "winner.json", ZERO, hw.load(model))
    return tmp_path / "winner.json"


def _said(subject: hw.Subject, fix: Any = None) -> str:
    inputs, owner = subject.prepare(text=TEXT), subject.model
    with hw.patch(subject, fix or fixes.MaskKeys(keys=())), torch.no_grad():
        written = owner.generate(**inputs, max_new_tokens=5, do_sample=False)  # type: ignore[operator]
    return subject.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_spec_is_checked_against_the_model(model: str, spec: Path) -> None:
    done = run("patch", model, spec)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{spec} fits {model}: zero_heads\n"


def test_the_model_speaks_without_and_with_the_fixes(model: str, spec: Path) -> None:
    done = run("patch", model, spec, "--text", TEXT, "--text", "a mat .", "--generate", "5", "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    subject = hw.load(model)
    assert answer["examples"][0] == {"without": _said(subject), "with": _said(subject, ZERO)}
    assert answer["examples"][0]["without"] != answer["examples"][0]["with"]
    assert len(answer["examples"]) == 2
    assert answer["fixes"] == [
        {
            "fix": "zero_heads",
            "parameters": {"heads": [[0, 0], [0, 1], [1, 0], [1, 1]], "tower": None, "kind": "self"},
        }
    ]
    assert (answer["folder"], answer["warnings"]) == (None, [])
    shown = run("patch", model, spec, "--text", TEXT, "--generate", "5").stdout.splitlines()
    assert shown[1:] == ["example 0", f"  without  {_said(subject)}", f"  with     {_said(subject, ZERO)}"]


def test_the_baked_folder_says_what_the_patched_model_says(model: str, spec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "baked"
    done = run("patch", model, spec, "--bake", folder)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote {folder}"
    assert _said(hw.load(folder)) == _said(hw.load(model), ZERO)
    again = run("patch", model, spec, "--bake", folder)
    assert_one_line(again.stdout, again.stderr, "has something in it")


@pytest.mark.slow
def test_another_model_is_refused_unless_forced(model: str, spec: Path, tmp_path: Path) -> None:
    subject = hw.load(model)
    with torch.no_grad():
        next(subject.model.parameters()).add_(1)
    subject.model.save_pretrained(tmp_path / "other")
    word_tokenizer().save_pretrained(tmp_path / "other")
    done = process("patch", tmp_path / "other", spec)
    assert done.returncode == 2
    assert_one_line(done.stdout, done.stderr, "weights: the spec has")
    assert "--force" in done.stderr
    done = run("patch", tmp_path / "other", spec, "--force", "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "differs" in answer["warnings"][0]
    assert answer["forced"] is True
    shown = run("patch", tmp_path / "other", spec, "--force").stdout.splitlines()
    assert shown[0].startswith("warning: This spec was written for ")
    assert shown[1:] == [f"{spec} is put, by --force, on {tmp_path / 'other'}: zero_heads"]
    assert json.loads(run("patch", model, spec, "--force", "--json").stdout)["forced"] is False


def test_a_fix_that_changes_nothing_is_said_to(model: str, tmp_path: Path) -> None:
    save_spec(tmp_path / "idle.json", fixes.ZeroHeads(heads=()), hw.load(model))
    done = run("patch", model, tmp_path / "idle.json")
    assert "warning: The fixes are neutral: they change nothing." in done.stdout


def test_bad_input_is_one_line_and_status_2(model: str, spec: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.json"
    damaged.write_text(spec.read_text()[:-20])
    encoder = tmp_path / "encoder"
    BertModel(
        BertConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(encoder)
    word_tokenizer().save_pretrained(encoder)
    save_spec(tmp_path / "encoder.json", fixes.ZeroHeads(heads=((0, 0),)), hw.load(encoder))
    save_spec(tmp_path / "keys.json", fixes.MaskKeys(keys=(0,)), hw.load(model))
    for arguments, said in (
        ([model, damaged], "not valid JSON"),
        ([model, tmp_path / "none.json"], "no such spec file"),
        ([model, tmp_path], "is a folder"),
        ([tmp_path / "none", spec], "There is no folder"),
        ([model, spec, "--generate", "3"], "nothing to read"),
        ([model, spec, "--text", TEXT, "--generate", "30"], "longer than the model's 24 positions"),
        ([model, spec, "--text-file", tmp_path / "none.txt"], "input file does not exist"),
        ([model, spec, "--bake", spec], "is a file"),
        ([model, spec, "--bake", tmp_path / "none" / "baked"], "does not exist"),
        ([model, tmp_path / "keys.json", "--bake", tmp_path / "baked"], "MaskKeys cannot be baked"),
        ([encoder, tmp_path / "encoder.json", "--text", TEXT], "generates nothing"),
    ):
        done = run("patch", *arguments)
        assert done.exit_code == 2, (arguments, done.stdout)
        assert_one_line(done.stdout, done.stderr, said)
    assert not (tmp_path / "baked").exists()


def test_a_fix_for_images_sees_the_image(tmp_path: Path) -> None:
    save_spec(tmp_path / "vhr.json", fixes.VHR(), hw.load("zoo:vlm"))
    picture(64, 64).save(tmp_path / "picture.png")
    question = ["--text", "Is there a circle in the image?", "--generate", "3"]
    done = run(
        "patch", "zoo:vlm", tmp_path / "vhr.json", *question, "--image", tmp_path / "picture.png", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert set(json.loads(done.stdout)["examples"][0]) == {"without", "with"}
    done = run("patch", "zoo:vlm", tmp_path / "vhr.json", *question)
    assert done.exit_code == 2
    assert_one_line(done.stdout, done.stderr, "image")
    done = run("patch", "zoo:vlm", tmp_path / "vhr.json", "--generate", "3")  # the zoo's own example
    assert done.exit_code == 0, done.stderr
