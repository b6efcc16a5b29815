"""Weights that loading set at random or left out: whoever reads a number of the model is told, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import headwise as hw
from headwise.errors import LoadError
from headwise.evaluation.harness import harness
from headwise.reports.collect.build import build_content
from tests.kit.cli import TEXT, run, save
from tests.kit.comparisons import SILENT, Next
from tests.kit.subjects import WORDS, llava, llava_processor

RANDOM = "1 weights are missing and were set at random: lm_head.weight"
DROPPED = "9 weights of the file have no place in the model and were left out: model.layers.1."
KINDS = {RANDOM: {"tie_word_embeddings": False}, DROPPED: {"num_hidden_layers": 1}}
FIX = "SCALE_HEADS:heads=[[0,0]],factor=0.5"


def change(folder: Path, **settings: Any) -> Path:
    """The folder, with other settings in its config."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


@pytest.fixture(scope="module", params=KINDS, ids=("random", "dropped"))
def lost(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model whose config does not go with its weights, and what is said of it."""
    folder = change(save(tmp_path_factory.mktemp("lost"), tie_word_embeddings=True), **KINDS[request.param])
    (folder / "texts.txt").write_text(
        "\n\n".join(f"{TEXT} {one} {two}" for one in WORDS[:5] for two in WORDS[:5])
    )
    return folder, request.param


@pytest.fixture
def subject(lost: tuple[Path, str]) -> hw.Subject:
    folder, said = lost
    with pytest.warns(UserWarning, match=said) as caught:
        subject = hw.load(folder)
    assert caught[0].filename == __file__
    assert subject.warnings == (str(caught[0].message),)
    assert subject.warnings[0].startswith(f"{folder.name}: {said}")
    return subject


LINES, AS_JSON = (), ("--json",)
QUICK = [("eval", LINES), ("eval", AS_JSON), ("compare", LINES), ("analyse", AS_JSON)]
WAYS = ("eval", "compare", "search", "analyse", "trace", "report")
SLOW = [(name, form) for name in WAYS for form in (LINES, AS_JSON) if (name, form) not in QUICK]


@pytest.mark.parametrize(
    ("command", "form"), [*QUICK, *(pytest.param(*way, marks=pytest.mark.slow) for way in SLOW)]
)
def test_every_command_says_it_once(
    lost: tuple[Path, str], tmp_path: Path, command: str, form: tuple[str, ...]
) -> None:
    folder, said = lost
    texts = ("--task", "perplexity", "--set", f"data={folder / 'texts.txt'}")
    arguments = {
        "eval": texts,
        "compare": (*texts, "--fix", FIX),
        "search": (*texts, "--fix", FIX, "--space", "factor=0.5:2", "--trials", 2, "-n", 4, "--calibrate", 4),
        "analyse": ("entropy", "--text", TEXT),
        "trace": ("--text", TEXT, "--out", tmp_path / "trace.safetensors"),
        "report": ("--text", TEXT, "--out", tmp_path / "report.html"),
    }
    done = run(command, folder, *arguments[command], *form)
    assert done.exit_code == 0, done.output
    if form == LINES:
        assert done.output.count(said.removesuffix("model.layers.1.")) == 1  # lines cut names of weights
        return
    answer = json.loads(done.stdout)
    places = [answer["manifest"]["notes"] if "manifest" in answer else answer]
    places += [result["provenance"] for result in answer.get("results", ())]
    for place in places:
        assert sum(said in note for note in place["warnings"]) == 1


def test_a_trace_and_a_comparison_on_one_page_say_it_once(subject: hw.Subject) -> None:
    found = hw.compare(replace(subject), Next(), {"silent": SILENT}, n=8)
    with hw.capture(subject, check=False) as trace, torch.no_grad():
        subject.model(**subject.prepare(text=TEXT))
    assert build_content([trace, found]).warnings.count(subject.warnings[0]) == 1
    assert hw.evaluate(subject, Next(), n=2).warnings == subject.warnings
    assert hw.wrap(subject.model).warnings == ()


def test_notes_of_a_task_stand_beside_those_of_the_model(subject: hw.Subject) -> None:
    class Noted(Next):
        def notes(self, examples: Any) -> dict[str, Any]:
            return {"warnings": ["few"]}

        def remarks(self, responses: Any) -> list[str]:
            return ["heard"]

    assert hw.evaluate(subject, Noted(), n=2).warnings == (*subject.warnings, "few", "heard")


def test_a_study_that_runs_the_subject_itself_says_it(subject: hw.Subject) -> None:
    def study(subject: hw.Subject, data: Any) -> pd.DataFrame:
        """A study."""
        return pd.DataFrame(
            [dict.fromkeys(hw.analyses.HEAD, 0) | {"tower": "text", "kind": "self", "x": 1.0}]
        )

    facts = {"kind": "heads", "keys": hw.analyses.HEAD, "value": "x", "unit": "", "description": ""}
    found = hw.analyses.analysis(**facts, summary=lambda frame: ".", inputs="subject")(study)(subject, ())
    assert found.provenance["warnings"] == list(subject.warnings)


@pytest.mark.slow
def test_runs_of_the_harness_and_fits_say_it(tmp_path: Path) -> None:
    own = hw.load("zoo:lm")
    own.model.save_pretrained(tmp_path)
    own.processor.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=RANDOM):
        subject = hw.load(change(tmp_path, tie_word_embeddings=False))
    found = harness(subject, Path(__file__).parents[1] / "evaluation/harness/tasks/choice.yaml", limit=2)
    assert found.manifest["warnings"][0] == subject.warnings[0]
    done = run("fit", tmp_path, "--fix", "ACT", "--task", "recall", "-n", 10, "--out", tmp_path / "spec.json")
    assert done.output.count(RANDOM) == 1, done.output


def test_weights_of_another_shape_are_random_where_that_is_allowed(tmp_path: Path) -> None:
    folder = change(save(tmp_path), vocab_size=17)
    with pytest.warns(UserWarning, match="2 weights have another shape and were set at random: lm_head"):
        assert len(hw.load(folder, ignore_mismatched_sizes=True).warnings) == 1


@pytest.mark.parametrize("name", ["vocab_size", "intermediate_size", "hidden_size"])
def test_weights_of_another_shape_are_named_with_both_shapes(tmp_path: Path, name: str) -> None:
    size = {"vocab_size": 17, "intermediate_size": 24, "hidden_size": 32}[name]
    said = (
        rf"not have the shapes that its config.json asks for.*\(.*16.*\) in the file.*asks for \(.*{size}.*\)"
    )
    with pytest.raises(LoadError, match=said):
        hw.load(change(save(tmp_path), **{name: size}))


@pytest.mark.parametrize("name", ["lm_head.weight", "model.rotary_emb.original_inv_freq"])
def test_copies_of_weights_and_what_the_model_computes_are_nothing_lost(tmp_path: Path, name: str) -> None:
    save(tmp_path, tie_word_embeddings=True)
    add(tmp_path, name, lambda tensors: tensors["model.embed_tokens.weight"].clone())
    assert hw.load(tmp_path).warnings == ()


def test_a_name_of_a_weight_steers_no_terminal(tmp_path: Path) -> None:
    add(save(tmp_path), "\x1b[2J" + "x" * 9999, lambda _: torch.zeros(1))
    with pytest.warns(UserWarning, match="1 weights of the file") as caught:
        hw.load(tmp_path)
    assert str(caught[0].message).isprintable()
    assert len(str(caught[0].message)) < 400


def add(folder: Path, name: str, weight: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> None:
    """One more tensor in the file."""
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, name: weight(tensors)}, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["n_layer", "n_head"])
@pytest.mark.parametrize("way", ["file", "option"])
def test_less_than_no_layers_or_heads_are_refused(tmp_path: Path, name: str, way: str) -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    options = {name: -1} if way == "option" else change(tmp_path, **{name: -1}) and {}
    with pytest.raises(LoadError, match=f"{name} is -1"):
        hw.load(tmp_path, **options)


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_the_same_of_a_part(tmp_path: Path, part: str) -> None:
    subject = llava(llava_processor())
    subject.model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    change(tmp_path, **{part: config[part] | {"num_hidden_layers": -1}})
    with pytest.raises(LoadError, match="num_hidden_layers is -1"):
        hw.load(tmp_path)
