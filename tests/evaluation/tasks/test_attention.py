"""Tasks about attention: what they read, and whom they refuse."""

from __future__ import annotations

import pytest
from transformers import BertConfig, BertForMaskedLM, BertModel

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation import find_task
from tests.kit.subjects import word_tokenizer

READ = {"of": "translation", "tower": "encoder", "min_rows": 8}


@pytest.mark.slow
def test_sinks_of_a_translation_are_read_in_its_languages():
    subject = hw.load("zoo:nmt")
    found = hw.evaluate(subject, find_task("sinks", **READ), n=4)
    subject.tokenizer.src_lang = "hin_Deva"
    assert hw.evaluate(subject, find_task("sinks", **READ), n=4).frame.equals(found.frame)
    assert subject.tokenizer.src_lang == "hin_Deva"


@pytest.mark.parametrize(
    ("model", "of", "said"),
    [
        ("lm", "copying", "copying has no prompts"),
        ("vlm", "yes-no", "yes-no has no prompts"),
        ("nmt", "perplexity", r"no right answers.*translation"),
    ],
)
def test_sinks_of_a_task_that_cannot_be_read(model, of, said):
    with pytest.raises(InputError, match=said):
        hw.evaluate(hw.load(f"zoo:{model}"), find_task("sinks", of=of), n=2)


def test_a_sink_needs_enough_rows():
    found = hw.evaluate(hw.load("zoo:lm"), find_task("sinks", max_tokens=8), n=2)
    assert found.frame["heads"].isna().all()
    assert found.estimates["heads"].n == 0


def test_the_induction_head_tells_the_checkpoints_apart():
    late, early = (hw.evaluate(hw.load(f"zoo:{name}"), "induction", n=4).value for name in ("lm", "lm@early"))
    assert late > 2 * early


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
@pytest.mark.parametrize("task", ["ioi", "recall", "copying", "perplexity", "multiple-choice"])
def test_a_model_that_does_not_continue_its_text_is_refused(kind, task):
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=64
    )
    with pytest.raises(InputError, match=kind.__name__):
        hw.evaluate(hw.wrap(kind(config), word_tokenizer()), task, n=2)
