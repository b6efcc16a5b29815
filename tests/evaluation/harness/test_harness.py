"""lm-evaluation-harness on a patched model: the model's own numbers, and everything as it was afterwards."""

from __future__ import annotations

import copy
import json
import logging
import os
import random
import shutil
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import headwise as hw
from headwise.errors import HeadwiseError
from headwise.evaluation import Example, Generate, MultipleChoice, find_task
from headwise.evaluation.harness import harness
from tests.kit.subjects import WORDS, language, word_tokenizer

TASKS = Path(__file__).parent / "tasks"
CHOICE, WRITE, READ = (TASKS / f"{name}.yaml" for name in ("choice", "write", "read"))
HEADS = [(layer, head) for layer in (1, 2, 3) for head in (0, 1)]
WEAK = hw.fixes.ScaleHeads(heads=HEADS, factor=0.2)


@pytest.fixture(scope="module")
def subject() -> hw.Subject:
    return hw.load("zoo:lm")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that `datasets` writes stay in the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def questions() -> list[Example]:
    return find_task("multiple-choice").draw(40, seed=0)


def logits(subject: hw.Subject) -> torch.Tensor:
    with torch.no_grad():
        return subject.model(**subject.prepare(text="Which one is an animal?")).logits


def test_the_questions_are_those_of_the_zoo(questions: list[Example]) -> None:
    rows = [json.loads(line) for line in (TASKS / "choice.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [example.inputs["text"] for example in questions]
    assert [row["candidates"][row["answer"]] for row in rows] == [example.answer for example in questions]


@pytest.mark.parametrize(("batch_size", "limit"), [(1, 8), (16, 40)])
def test_log_probabilities_are_those_of_headwise_with_and_without_a_fix(
    subject: hw.Subject, questions: list[Example], batch_size: int, limit: int
) -> None:
    found = harness(subject, CHOICE, fixes={"weak": WEAK}, batch_size=batch_size, limit=limit)
    questions = questions[:limit]
    for arm, fix in (("none", None), ("weak", WEAK)):
        with hw.patch(subject, fix or hw.fixes.ScaleHeads(heads=HEADS, factor=1.0)):
            replies = MultipleChoice()(subject, questions, batch_size=8, advance=lambda _: None)
        rows = found.frame[found.frame["arm"] == arm]
        own = [
            [reply.scores[name] for name in example.metadata["candidates"]]
            for reply, example in zip(replies, questions, strict=True)
        ]
        np.testing.assert_allclose(np.array(rows["log_probabilities"].to_list()), own, atol=1e-4)
        best = [max(reply.scores, key=lambda name: reply.scores[name]) for reply in replies]
        assert rows["response"].to_list() == best
        right = np.mean([reply == example.answer for reply, example in zip(best, questions, strict=True)])
        value = found.metrics.set_index("arm").loc[arm, "value"]
        assert value == pytest.approx(right)
        spread = rows["acc"].std(ddof=1) / np.sqrt(limit)
        assert found.metrics.set_index("arm").loc[arm, "stderr"] == pytest.approx(spread)


def test_a_fix_changes_the_score_and_the_table_says_by_how_much(subject: hw.Subject) -> None:
    neutral = hw.fixes.ScaleHeads(heads=HEADS, factor=1.0)
    found = harness(subject, CHOICE, fixes={"weak": WEAK, "nothing": neutral})
    value = found.metrics.set_index("arm")["value"]
    change = found.differences.set_index("arm")
    assert value["none"] == value["nothing"] == 1.0
    assert value["weak"] < 0.9
    assert change.loc["weak", "value"] == pytest.approx(value["weak"] - value["none"])
    assert change.loc["weak", "high"] < 0
    assert change.loc["weak", "p_holm"] < 0.05
    assert change.loc["nothing", "p"] == 1.0
    plain = found.frame[found.frame["arm"] == "none"]["log_probabilities"].to_list()
    assert found.frame[found.frame["arm"] == "nothing"]["log_probabilities"].to_list() == plain
    assert found.manifest["fixes"]["weak"][0]["fix"] == "scale_heads"


def test_what_is_written_is_what_the_patched_model_writes(
    subject: hw.Subject, questions: list[Example]
) -> None:
    found = harness(subject, WRITE, fixes={"weak": WEAK}, batch_size=8, limit=10)
    with hw.patch(subject, WEAK):
        replies = Generate(3)(subject, questions[:10], batch_size=1, advance=lambda _: None)
    rows = found.frame[found.frame["arm"] == "weak"]
    assert rows["response"].to_list() == [reply.text.split("\n")[0].strip() for reply in replies]
    assert set(found.metrics["filter"]) == {"letter"}
    assert set(found.differences["metric"]) == {"exact_match"}


def test_perplexity_is_that_of_the_text_behind_the_harness_s_own_first_token(subject: hw.Subject) -> None:
    """The harness puts the token in front even where the tokenizer does so too (its issue 3333)."""
    found = harness(subject, READ, fixes={"weak": WEAK}, limit=12)
    rows = found.frame[found.frame["arm"] == "weak"]
    assert subject.tokenizer("a").input_ids[0] == subject.tokenizer.bos_token_id
    sums = []
    for prompt in rows["prompt"]:
        ids = torch.tensor([[subject.tokenizer.bos_token_id, *subject.tokenizer(prompt).input_ids]])
        with hw.patch(subject, WEAK), torch.no_grad():
            chances = subject.model(ids).logits[0, :-1].log_softmax(-1)
        sums.append(float(chances.gather(-1, ids[0, 1:, None]).sum()))
    np.testing.assert_allclose(rows["word_perplexity_sum"], sums, atol=1e-3)
    value = found.metrics.set_index(["metric", "arm"])["value"]
    words = sum(len(prompt.split()) for prompt in rows["prompt"])
    assert value["word_perplexity", "weak"] == pytest.approx(np.exp(-sum(sums) / words), rel=1e-5)
    change = found.differences.set_index("metric")["value"]
    for metric in ("word_perplexity", "bits_per_byte"):
        assert change[metric] == pytest.approx(value[metric, "weak"] - value[metric, "none"])


def test_everything_is_as_it_was(
    subject: hw.Subject, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISABLE_MULTIPROC", raising=False)
    logger = logging.getLogger("lm_eval")
    tokenizer = subject.tokenizer
    subject.model.model.layers[1].train()

    def state() -> list[object]:
        return [
            [module.training for module in subject.model.modules()],
            (tokenizer.padding_side, tokenizer.pad_token, tokenizer.special_tokens_map, len(tokenizer)),
            subject.model.generation_config.to_dict(),
            (logger.level, logger.propagate, list(logger.handlers), datasets.logging.get_verbosity()),
            datasets.are_progress_bars_disabled(),
            dict(os.environ),
            list(warnings.filters),
            (sys.stdout, sys.stderr),
            list(subject.model._forward_hooks),
        ]

    import lm_eval  # noqa: F401 (its first import sets a variable of the environment)

    try:
        drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
        before, plain = state(), logits(subject)
        harness(subject, [CHOICE, WRITE, READ], fixes=[WEAK], limit=4, seed=3)
        assert state() == before
        assert random.getstate() == drawn[0]
        assert np.random.get_state()[1].tolist() == drawn[1]  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), drawn[2])
        assert torch.equal(logits(subject), plain)
        said = capfd.readouterr()
        assert (said.out, said.err) == ("", "")
    finally:
        subject.model.eval()


@pytest.mark.filterwarnings("ignore:The tokenizer knows almost nothing")  # words of another world, on purpose
def test_weights_that_were_untied_stay_untied() -> None:
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(16, 16))
    one = hw.wrap(model, word_tokenizer(pad=False))
    before = logits(one)
    harness(one, CHOICE, limit=2)
    assert torch.equal(logits(one), before)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert one.tokenizer.pad_token is None


def test_the_same_call_gives_the_same_numbers(subject: hw.Subject) -> None:
    call = {"fixes": {"weak": WEAK}, "limit": 6, "num_fewshot": 2, "seed": 5}
    found, again = (harness(subject, CHOICE, **call) for _ in range(2))
    pd.testing.assert_frame_equal(found.frame, again.frame)
    pd.testing.assert_frame_equal(found.metrics, again.metrics)
    pd.testing.assert_frame_equal(found.differences, again.differences)
    prompts = found.frame["prompt"]
    assert prompts.str.count("Which one").eq(3).all()
    assert prompts[:6].to_list() == prompts[6:].to_list()  # both arms are asked the same
    assert harness(subject, CHOICE, **{**call, "seed": 6}).frame["prompt"][0] != prompts[0]


def test_a_fix_sees_whole_prompts_and_no_padding(tmp_path: Path) -> None:
    """Prompts of one to six words, candidates of one word and of two; the fix looks at all rows of a prompt."""
    seen: list[torch.Size] = []

    class Pull:
        def scale(self, z, site, context):
            seen.append(z.shape[:2])
            return z + z.mean(dim=1, keepdim=True)

    small, pull = language(word_tokenizer()), Pull()
    texts = [" ".join(WORDS[:count]) for count in (3, 1, 6, 2)]
    candidates = [" mat", " the mat"]
    rows = [{"prompt": text, "candidates": candidates, "answer": 0} for text in texts]
    (tmp_path / "choice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shutil.copy(CHOICE, tmp_path)
    found = harness(small, tmp_path / "choice.yaml", fixes={"pull": pull})
    # <bos> and the words are read, and the same with the first word of " the mat"; rows of one length together
    assert sorted(seen) == [(1, 2), (1, 5), (1, 7), (1, 8), (2, 3), (2, 4)]
    with hw.patch(small, pull):
        for text, own in zip(texts, found.frame["log_probabilities"][4:], strict=True):
            ids = torch.tensor([small.tokenizer(f"{text} the mat").input_ids])
            with torch.no_grad():
                whole = small.model(ids[:, :-1]).logits.log_softmax(-1)[0]
                short = small.model(ids[:, :-2]).logits.log_softmax(-1)[0]
            one = float(short[-1, small.tokenizer(" mat").input_ids[-1]])
            two = float(whole[[-2, -1], ids[0, -2:]].sum())
            assert own == pytest.approx([one, two], abs=1e-5)


def test_a_group_and_a_folder(subject: hw.Subject) -> None:
    found = harness(subject, TASKS / "both.yaml", limit=3, fixes=[WEAK])
    value = found.metrics.set_index(["task", "arm"])["value"]
    mean = (value["zoo_choice", "none"] + value["zoo_again", "none"]) / 2
    assert value["zoo_letters", "none"] == pytest.approx(mean)
    assert set(found.differences["task"]) == {"zoo_choice", "zoo_again"}
    whole = harness(subject, TASKS, limit=2)
    names = {"zoo_letters", "zoo_choice", "zoo_again", "zoo_write", "zoo_read"}
    assert set(whole.metrics["task"]) == names
    assert whole.frame.groupby("task").size().to_dict() == dict.fromkeys(names - {"zoo_letters"}, 2)


def test_prompts_are_written_with_the_chat_template(subject: hw.Subject) -> None:
    tokenizer = copy.deepcopy(subject.processor)
    tokenizer.chat_template = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}{% endfor %}"
    found = harness(hw.wrap(subject.model, tokenizer), CHOICE, limit=1, apply_chat_template=True)
    assert found.frame["prompt"][0].startswith("[user] Which one")


def test_an_error_in_the_middle_leaves_the_model_as_it_was(
    subject: hw.Subject, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def scale(self, z, site, context):
            raise ZeroDivisionError("in the middle")

    before, drawn = logits(subject), torch.get_rng_state()
    with pytest.raises(HeadwiseError, match="in the middle"):
        harness(subject, CHOICE, fixes={"broken": Broken()}, limit=2)
    assert torch.equal(logits(subject), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not logging.getLogger("lm_eval").handlers
    print("still heard")
    assert capfd.readouterr().out == "still heard\n"
