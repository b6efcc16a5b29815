"""Tasks of language models: choosing, perplexity, recall, circuits."""

from __future__ import annotations

import json
import math
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation import Example, Likelihood, MultipleChoice, find_task
from headwise.evaluation.harness import harness
from headwise.evaluation.tasks.language.circuits import ColoredObjects, Ioi
from headwise.evaluation.tasks.language.multiple_choice import MultipleChoiceQuestions
from headwise.evaluation.tasks.language.perplexity import Perplexity
from headwise.evaluation.tasks.language.recall import Copying, Recall, repeated
from headwise.zoo.data.multiple_choice import multiple_choice_prompt
from tests.kit.subjects import WORDS, language, word_tokenizer


def gpt2(*, pad: bool = True, side: str = "left", scale: float = 0.3) -> hw.Subject:
    """A model with learned absolute positions, for which padding on the wrong side would matter."""
    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=20, n_positions=24, bos_token_id=1, eos_token_id=2
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn_like(value) * scale)
    return hw.wrap(model, word_tokenizer(side=side, pad=pad))


def sentences(count: int, *, longest: int = 9) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count)]


def silent(_: int) -> None: ...


def next_words(subject, text: str) -> torch.Tensor:
    with torch.no_grad():
        return subject.model(**subject.prepare(text=text)).logits[0].float().log_softmax(-1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size", [1, 4])
def test_choosing_equals_one_forward_pass_each(side, size):
    subject = gpt2(side=side)
    texts = sentences(6)
    examples = [
        Example(str(i), {"text": text}, "", {"candidates": (" cat", " mat")}) for i, text in enumerate(texts)
    ]
    responses = MultipleChoice()(subject, examples, batch_size=size, advance=silent)
    for text, response in zip(texts, responses, strict=True):
        expected = next_words(subject, text)[-1]
        ids = {word: subject.tokenizer.convert_tokens_to_ids(word.strip()) for word in response.scores}
        for word, token in ids.items():
            assert response.scores[word] == pytest.approx(float(expected[token]), abs=1e-5)
        best = int(expected.argmax())
        assert response.text == subject.tokenizer.decode([best])
        assert response.metadata["said"] == next((word for word, token in ids.items() if token == best), "")
    assert subject.tokenizer.padding_side == side


def test_candidates_of_several_tokens_are_the_sum_of_teacher_forced_log_probabilities():
    subject = gpt2()
    candidates = (" the cat sat", " mat")
    example = Example("0", {"text": "a cat on"}, "", {"candidates": candidates})
    (response,) = MultipleChoice()(subject, [example], batch_size=1, advance=silent)
    words = next_words(subject, "a cat on the cat sat")
    ids = subject.tokenizer("the cat sat", add_special_tokens=False).input_ids
    expected = sum(float(words[3 + place, token]) for place, token in enumerate(ids))
    assert response.scores[" the cat sat"] == pytest.approx(expected, abs=1e-5)
    assert math.exp(response.scores[" the cat sat"]) < 1


def test_a_candidate_without_tokens_is_refused():
    subject = gpt2()
    example = Example("0", {"text": "a cat"}, "", {"candidates": ("",)})
    with pytest.raises(InputError, match="no tokens"):
        MultipleChoice()(subject, [example], batch_size=1, advance=silent)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_likelihood_equals_one_text_at_a_time(size):
    subject = gpt2()
    texts = sentences(7)
    examples = [Example(str(i), {"text": text}, "") for i, text in enumerate(texts)]
    responses = Likelihood()(subject, examples, batch_size=size, advance=silent)
    for text, response in zip(texts, responses, strict=True):
        words, ids = next_words(subject, text), subject.tokenizer(text).input_ids
        expected = -sum(float(words[place, token]) for place, token in enumerate(ids[1:]))
        assert response.scores["nll"] == pytest.approx(expected, abs=1e-4)
        assert response.tokens == len(ids) - 1
        assert response.metadata["bytes"] == len(text)


@pytest.mark.parametrize("window", [2, 5, 8])
@pytest.mark.parametrize("length", [3, 7, 8, 9, 23, 60])
def test_windows_score_every_token_once_and_with_what_stands_before_it(window, length):
    subject = gpt2()
    text = " ".join(random.Random(length).choices(WORDS, k=length))
    (response,) = Likelihood(window)(
        subject, [Example("0", {"text": text}, "")], batch_size=2, advance=silent
    )
    ids = subject.tokenizer(text).input_ids
    step, total, scored = window // 2, 0.0, 1
    for start in range(0, len(ids), step):  # the slow way: every window alone
        part = ids[start : start + window]
        with torch.no_grad():
            words = subject.model(**subject.prepare(text=[part])).logits[0].float().log_softmax(-1)
        for place in range(1, len(part)):
            if start + place == scored:
                total -= float(words[place - 1, part[place]])
                scored += 1
    assert scored == len(ids)
    assert response.tokens == len(ids) - 1
    assert response.scores["nll"] == pytest.approx(total, abs=1e-3)


def test_a_window_that_holds_the_text_changes_nothing():
    subject, text = gpt2(), " ".join(WORDS)
    whole, cut = (
        Likelihood(window)(subject, [Example("0", {"text": text}, "")], batch_size=1, advance=silent)[0]
        for window in (None, len(WORDS) + 1)
    )
    assert whole == cut


def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary(tmp_path):
    subject = gpt2(scale=0.0)
    path = tmp_path / "text.txt"
    path.write_text("a cat sat\non the mat\n\n\n  \nthe cat\n")
    found = hw.evaluate(subject, Perplexity(data=path))
    assert found.frame["prompt"].to_list() == ["a cat sat\non the mat", "the cat"]
    assert found.value == pytest.approx(20, rel=1e-5)
    assert found.estimates["loss"].value == pytest.approx(math.log(20), rel=1e-5)
    expected = 8 * math.log2(20) / len("a cat sat\non the matthe cat")
    assert found.estimates["bits_per_byte"].value == pytest.approx(expected, rel=1e-5)
    assert found.frame["words"].to_list() == [6, 2]
    assert found.estimates["word_perplexity"].value == pytest.approx(20, rel=1e-5)
    assert found.estimates["byte_perplexity"].value == pytest.approx(2**expected, rel=1e-5)


def test_perplexity_pools_tokens_not_texts(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "a cat sat on the mat .", "id": "long"}\n{"text": "mat"}\n')
    found = hw.evaluate(gpt2(), Perplexity(data=path))
    frame = found.frame
    assert frame["id"].to_list() == ["long", "line 2"]
    assert found.value == pytest.approx(math.exp(frame["nll"].sum() / frame["tokens"].sum()))
    assert found.value != pytest.approx(float(np.exp(frame["nll"] / frame["tokens"]).mean()))


def test_perplexity_of_a_text_of_one_token_without_an_opening_one_is_not_defined(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("mat")
    subject = gpt2()
    subject.tokenizer.backend_tokenizer.post_processor = None
    found = hw.evaluate(subject, Perplexity(data=path))
    assert math.isnan(found.value)
    assert math.isnan(found.estimates["word_perplexity"].value)
    assert (found.frame["bytes"].to_list(), found.frame["words"].to_list()) == ([0], [0])


@pytest.mark.parametrize(
    ("text", "scored", "words"),
    [
        ("a cat sat", 9, 3),
        ("a cat sat", 8, 2),
        ("cats sat", 5, 2),
        (" a\n cat \n", 9, 4),
        ("é cat", 6, 2),
        ("é", 1, 1),
    ],
)
def test_words_are_those_that_were_scored(text, scored, words):
    """As lm_eval counts them where all was: what is between blanks, and nothing at either end is a word, too."""
    response = hw.evaluation.Response(text, 3, {"nll": 6.0}, {"bytes": scored})
    assert Perplexity().score(Example("0", {"text": text}, ""), response)["words"] == words


@pytest.mark.slow
def test_perplexities_are_those_of_the_harness(tmp_path):
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
    from lm_eval.models.huggingface import HFLM

    texts = [" ".join(random.Random(n).choices(WORDS, k=n)) for n in (3, 8, 20)] + ["cat\n on  mat "]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    subject = gpt2()
    found = hw.evaluate(subject, Perplexity(data=path))
    scorer = HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=1, max_length=24)
    scorer.tok_encode = lambda text, **_: subject.tokenizer(text, add_special_tokens=False).input_ids
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    costs = scorer.loglikelihood_rolling(requests, disable_tqdm=True)
    words = weighted_perplexity(
        [(cost, len(re.split(r"\s+", text))) for cost, text in zip(costs, texts, strict=True)]
    )
    assert found.estimates["word_perplexity"].value == pytest.approx(words, rel=1e-5)
    pairs = [(cost, len(text.encode())) for cost, text in zip(costs, texts, strict=True)]
    assert found.estimates["byte_perplexity"].value == pytest.approx(weighted_perplexity(pairs), rel=1e-5)
    assert found.estimates["bits_per_byte"].value == pytest.approx(bits_per_byte(pairs), rel=1e-5)


@pytest.mark.parametrize(("name", "fact"), [("a.csv", r"\.txt or \.jsonl"), ("a.jsonl", "line 1")])
def test_perplexity_refuses_other_files(tmp_path, name, fact):
    path = tmp_path / name
    path.write_text('{"words": "a"}\n')
    with pytest.raises(InputError, match=fact):
        Perplexity(data=path).draw(None, 0)
    with pytest.raises(InputError, match="window"):
        Perplexity(window=1)


def questions(tmp_path, *rows: dict) -> MultipleChoiceQuestions:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return MultipleChoiceQuestions(data=path, template="{question} : {options} ?", option="{letter} {text}")


def test_multiple_choice_reads_indices_and_letters(tmp_path):
    row = {"question": "what is {text} this", "options": ["cat", "mat", "{question}"]}
    task = questions(tmp_path, {**row, "answer": 2, "id": "x"}, {**row, "answer": "b"})
    one, two = task.draw(None, 0)
    assert one.inputs["text"] == "what is {text} this : A cat\nB mat\nC {question} ?"
    assert (one.id, one.answer, two.id, two.answer) == ("x", " C", "line 2", " B")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"answer": 3}, "answer 3 names none of the 3"),
        ({"answer": "D"}, "'D' names none"),
        ({"answer": True}, "True names none"),
        ({"options": ["cat"]}, "not a list of two or more"),
        ({"options": ["cat", "", "mat"]}, "option is not a text"),
        ({"question": 1}, "'question' is not a text"),
    ],
)
def test_bad_questions_are_named_by_line(tmp_path, change, fact):
    row = {"question": "what", "options": ["cat", "mat", "sat"], "answer": 0}
    task = questions(tmp_path, row, {**row, **change})
    with pytest.raises(InputError, match=f"{fact}.*line 2"):
        task.draw(None, 0)


def test_multiple_choice_is_scored_among_letters_and_in_the_whole_vocabulary():
    task = MultipleChoiceQuestions()
    example = task.draw(1, 0)[0]
    scores = {letter: -1.0 - (letter != example.answer) for letter in example.metadata["candidates"]}
    response = hw.evaluation.Response("the", 1, scores, {"said": ""})
    row = task.score(example, response)
    assert (row["accuracy"], row["full_accuracy"]) == (True, False)
    assert row["probability"] == pytest.approx(math.exp(-1))


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ({" cat": -3.0, " a very long mat": -9.0}, (0, 1)),  # -1 and -0.6 a character
        ({" a very long mat": -2.0, " cat": -3.0}, (1, 1)),
        ({" cat": -1.0, " a very long mat": -15.0}, (0, 0)),
        ({" cat": -3.0, " mat": -2.0}, (1, 1)),
    ],
)
def test_long_options_are_chosen_by_their_characters(scores, found):
    task = MultipleChoiceQuestions(candidates="texts")
    answer = next(name for name in scores if name.endswith("mat"))
    example = Example("0", {"text": "?"}, answer, {"candidates": tuple(scores)})
    row = task.score(example, hw.evaluation.Response("", 1, scores, {"said": ""}))
    assert (row["accuracy"], row["acc_norm"]) == found
    assert [metric.name for metric in task.metrics] == [
        "accuracy",
        "acc_norm",
        "full_accuracy",
        "probability",
    ]


def test_options_are_scored_by_their_texts(tmp_path):
    row = {"question": "what", "options": ["cat", "the mat"], "answer": "B"}
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(row))
    texts = MultipleChoiceQuestions(data=path, candidates="texts", template="{question} ?", option="")
    (example,) = texts.draw(None, 0)
    assert (example.inputs["text"], example.answer) == ("what ?", " the mat")
    assert example.metadata["candidates"] == (" cat", " the mat")
    path.write_text(json.dumps({**row, "options": ["cat", "cat"]}))
    with pytest.raises(InputError, match=r"same text.*line 1"):
        texts.draw(None, 0)
    lettered, named = (MultipleChoiceQuestions(candidates=kind).draw(5, 0) for kind in ("letters", "texts"))
    for one, other in zip(lettered, named, strict=True):
        assert one.inputs == other.inputs
        assert f"{one.answer.strip()}. {other.answer.strip()}\n" in f"{one.inputs['text']}\n"


@pytest.mark.slow
def test_accuracies_are_those_of_the_harness(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rng = random.Random(0)
    rows = [
        {
            "question": " ".join(rng.choices(WORDS, k=4)),
            "options": [" ".join(rng.sample(WORDS, k=length)) for length in (1, 2, 4, 6)],
            "answer": rng.randrange(4),
        }
        for _ in range(40)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        **{"task": "texts", "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice"},
        **{"dataset_kwargs": {"data_files": {"test": "questions.jsonl"}}, "doc_to_text": "{{question}}"},
        **{"doc_to_choice": "{{options}}", "doc_to_target": "{{answer}}", "target_delimiter": " "},
        "metric_list": [{"metric": name, "aggregation": "mean"} for name in ("acc", "acc_norm")],
    }
    (tmp_path / "texts.yaml").write_text(json.dumps(config))
    subject = gpt2()
    task = MultipleChoiceQuestions(data=path, candidates="texts", template="{question}")
    own = hw.evaluate(subject, task)
    theirs = harness(subject, tmp_path / "texts.yaml").metrics.set_index("metric")["value"]
    assert own.estimates["accuracy"].value == pytest.approx(theirs["acc"])
    assert own.estimates["acc_norm"].value == pytest.approx(theirs["acc_norm"])
    assert own.value != own.estimates["acc_norm"].value


def test_default_questions_are_the_zoos_word_for_word():
    rng = random.Random("multiple-choice/test/3")
    expected = [multiple_choice_prompt(rng, "test") for _ in range(4)]
    found = MultipleChoiceQuestions().draw(4, 3)
    assert [item.inputs["text"] for item in found] == [item.prompt for item in expected]
    assert [item.answer for item in found] == [item.answer for item in expected]


def test_a_template_must_hold_question_and_options():
    with pytest.raises(InputError, match=r"leaves out {options}"):
        MultipleChoiceQuestions(template="{question}")
    with pytest.raises(InputError, match="no such candidates"):
        MultipleChoiceQuestions(candidates="words")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"leaves out {letter}"):
        MultipleChoiceQuestions(option="{text}")


@pytest.mark.parametrize(
    "task", [Ioi(), ColoredObjects(), ColoredObjects(shots=0), Recall(), Recall(pairs=7)]
)
def test_drawn_prompts_have_stable_ids_and_hold_their_candidates(task):
    one, two = task.draw(20, 5), task.draw(20, 5)
    assert one == two
    assert len({item.id for item in one}) == 20
    assert task.draw(10, 5) == one[:10]
    assert task.draw(20, 6) != one
    assert all({item.answer, item.metadata["wrong"]} <= set(item.metadata["candidates"]) for item in one)


def test_contrast_of_a_file_equals_the_difference_of_logits(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "the cat sat on the", "answer": " mat", "wrong": " cat"}\n')
    subject = gpt2()
    found = hw.evaluate(subject, Ioi(data=path))
    with torch.no_grad():
        logits = subject.model(**subject.prepare(text="the cat sat on the")).logits[0, -1]
    mat, cat = subject.tokenizer.convert_tokens_to_ids(["mat", "cat"])
    difference = float(logits[mat] - logits[cat])
    assert found.frame["logit_difference"][0] == pytest.approx(difference, abs=1e-5)
    assert found.frame["preferred"][0] == (difference > 0)
    path.write_text('{"prompt": "the", "answer": " cat", "wrong": " cat"}\n')
    with pytest.raises(InputError, match=r"the same.*line 1"):
        Ioi(data=path).draw(None, 0)


@pytest.mark.parametrize("size", [1, 5])
def test_copying_counts_what_follows_the_first_token_of_the_second_copy(size):
    subject = gpt2()
    found = hw.evaluate(subject, Copying(period=6), n=5, batch_size=size)
    for row in found.frame.itertuples():
        ids = repeated(subject, row.id, 6)
        assert len(ids) == 13
        assert ids[0] == 1
        assert ids[1:7] == ids[7:]
        assert len(set(ids[1:7])) == 6
        with torch.no_grad():
            said = subject.model(input_ids=torch.tensor([ids])).logits[0].argmax(-1).tolist()
        assert row.right == sum(said[place] == ids[place + 1] for place in range(7, 12))
        assert row.asked == 5
    assert found.value == pytest.approx(found.frame["right"].sum() / 25)


def test_a_model_that_looks_one_period_back_copies_everything():
    subject = gpt2()

    def induction(input_ids, **_):
        places = torch.arange(input_ids.shape[1])
        seen = input_ids[:, (places - 6 + 1).clamp_min(0)]  # what followed the same token the first time
        logits = torch.zeros(*input_ids.shape, 20).scatter(-1, seen[..., None], 1.0)
        return SimpleNamespace(logits=logits)

    subject.model.forward = induction
    found = hw.evaluate(subject, Copying(period=6), n=4)
    assert (found.value, found.estimates["whole"].value) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("recall", {"pairs": 1}),
        ("recall", {"split": "dev"}),
        ("copying", {"period": 1}),
        ("colored-objects", {"shots": 2}),
        ("ioi", {"split": "dev"}),
    ],
)
def test_options_are_checked(name, options):
    with pytest.raises(InputError):
        find_task(name, **options)


def test_a_period_longer_than_the_vocabulary_is_refused():
    with pytest.raises(InputError, match="vocabulary is too small"):
        hw.evaluate(gpt2(), Copying(period=17), n=1)


@pytest.mark.filterwarnings("ignore:The tokenizer knows almost nothing")  # words of another world, on purpose
def test_every_language_task_runs_on_a_model_of_its_own_words():
    subject = language(word_tokenizer())
    for task in (Copying(period=4), Recall(pairs=2)):
        assert 0 <= hw.evaluate(subject, task, n=3).value <= 1
