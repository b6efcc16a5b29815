"""Laws of the language model's data: exact answers, minimal corruptions, splits that share nothing."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.zoo.data import text
from headwise.zoo.data.ioi import TEMPLATES
from headwise.zoo.data.multiple_choice import fact, multiple_choice_prompt
from headwise.zoo.data.prompts import SPLITS, split_of
from headwise.zoo.data.recall import mqar, mqar_row, recall_prompt, repeated_tokens
from headwise.zoo.data.words import CATEGORIES, MEMBERS, NAMES
from tests.kit.prompts import DRAWS


def drawn(kind, split="test", n=200):
    rng = random.Random(f"{kind}/{split}")
    return [DRAWS[kind](rng, split) for _ in range(n)]


@pytest.mark.parametrize("kind", DRAWS)
def test_a_prompt_and_its_corruption_have_different_answers_and_differ_in_little(kind):
    for item in drawn(kind):
        assert item.answer != item.corrupted_answer
        assert item.corrupted_answer == item.wrong
        assert {item.answer, item.wrong} <= set(item.candidates)
        assert len(set(item.candidates)) == len(item.candidates)
        changed = [
            (a, b)
            for a, b in zip(item.prompt.split(), item.corrupted.split(), strict=True)
            if a != b and {a, b} != {"a", "an"}
        ]
        assert len(changed) == 1
        json.dumps(dict(item.meta))


@pytest.mark.parametrize("kind", DRAWS)
def test_the_same_seed_gives_the_same_prompts_and_another_seed_others(kind):
    draw = DRAWS[kind]
    assert draw(random.Random(3), "train") == draw(random.Random(3), "train")
    assert draw(random.Random(3), "train") != draw(random.Random(4), "train")


@pytest.mark.parametrize("kind", DRAWS)
def test_splits_share_no_prompt(kind):
    seen = {split: {item.prompt for item in drawn(kind, split)} for split in SPLITS}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_pairs_of_names_sets_of_objects_bindings_and_options_are_held_out():
    def content(kind, split):
        for item in drawn(kind, split, 400):
            meta = item.meta
            if kind == "ioi":
                yield frozenset((meta["giver"], meta["receiver"]))
            elif kind == "recall":
                yield from (tuple(pair) for pair in meta["pairs"])
            else:
                yield frozenset(meta["objects" if kind == "colored objects" else "options"])

    for kind in ("ioi", "recall", "colored objects", "multiple choice"):
        assert not set(content(kind, "train")) & set(content(kind, "test"))


def test_splits_are_about_eight_to_one_to_one():
    counts = Counter(split_of(number) for number in range(5000))
    assert {split: round(counts[split] / 5000, 1) for split in SPLITS} == {
        "train": 0.8,
        "validation": 0.1,
        "test": 0.1,
    }


@pytest.mark.parametrize("kind", DRAWS)
def test_an_unknown_split_is_refused(kind):
    with pytest.raises(InputError, match="no such split"):
        DRAWS[kind](random.Random(0), "dev")


def word(item, name):
    place = item.meta["positions"][name]
    words = item.prompt.split()
    return [words[p].strip(".,?") for p in place] if isinstance(place, list) else words[place].strip(".,?")


def test_ioi_positions_point_at_the_names_and_every_template_comes_in_both_orders():
    items = drawn("ioi", "train", 600)
    for item in items:
        assert word(item, "receiver") == item.meta["receiver"] == item.answer.strip()
        assert word(item, "giver") == word(item, "giver_again") == item.meta["giver"] == item.wrong.strip()
        assert [w.strip(".,") in NAMES for w in item.prompt.split()].count(True) == 3
    found = {(item.meta["template"], item.meta["order"]) for item in items}
    assert found == {(number, order) for number in range(len(TEMPLATES)) for order in ("ABBA", "BABA")}


@pytest.mark.parametrize("kind", ["colored objects", "colored objects, no example"])
def test_colored_objects_positions_answers_and_shots(kind):
    items = drawn(kind, "test", 300)
    for item in items:
        meta = item.meta
        assert word(item, "colors") == meta["colors"]
        assert word(item, "objects") == meta["objects"]
        assert word(item, "asked") == meta["objects"][meta["asked"]]
        assert item.answer.strip() == meta["colors"][meta["asked"]].title()
        scenes = item.prompt.split("\nQ:")
        assert len(scenes) == meta["shots"] + 1
        if meta["shots"]:
            assert not {c.title() for c in meta["colors"]} & set(scenes[0].title().replace(",", "").split())
    asked = Counter(item.meta["asked"] for item in items)
    assert min(asked.values()) > 60


@pytest.mark.parametrize("kind", ["multiple choice", "multiple choice in words"])
def test_one_option_alone_belongs_to_the_category(kind):
    items = drawn(kind, "test", 400)
    for item in items:
        options, category = item.meta["options"], item.meta["category"]
        assert [MEMBERS[option] for option in options].count(category) == 1
        assert MEMBERS[options[item.meta["asked"]]] == category == word(item, "category")
        assert word(item, "words") == options
        assert word(item, "letters") == ["A", "B", "C", "D"]
    assert min(Counter(item.meta["asked"] for item in items).values()) > 60


@pytest.mark.parametrize("options", [2, 3, 4])
def test_the_number_of_options_is_as_asked(options):
    item = multiple_choice_prompt(random.Random(0), options=options)
    assert len(item.candidates) == len(item.meta["options"]) == options
    assert item.prompt.count("\n") == options + 1


def test_words_have_one_category_and_facts_are_true():
    assert len(MEMBERS) == sum(map(len, CATEGORIES.values()))
    rng = random.Random(0)
    for _ in range(50):
        words = fact(rng).rstrip(".").split()
        assert MEMBERS[words[1]] == words[-1]


@pytest.mark.parametrize("pairs", [2, 4, 8])
def test_recall_positions(pairs):
    for seed in range(50):
        item = recall_prompt(random.Random(seed), pairs=pairs)
        assert word(item, "key") == word(item, "query") == item.prompt.split()[-1]
        assert f" {word(item, 'value')}" == item.answer


def test_copying_positions():
    for item in drawn("copying"):
        assert word(item, "before") == word(item, "query") == item.prompt.split()[-1]
        assert f" {word(item, 'answer')}" == item.answer


def test_repeated_tokens_repeat():
    ids = repeated_tokens(5, tokens=range(4, 90), period=7, start=1, seed=0, copies=3)
    assert ids.shape == (5, 22)
    assert (ids[:, 0] == 1).all()
    assert (ids[:, 1:8] == ids[:, 8:15]).all()
    assert (ids[:, 1:8] == ids[:, 15:]).all()
    assert ids[:, 1:].min() >= 4
    assert ids.max() < 90
    assert all(len(set(row)) == 7 for row in ids[:, 1:8].tolist())
    with pytest.raises(InputError, match="period"):
        repeated_tokens(1, tokens=[4, 5], period=3, start=1, seed=0)


def test_mqar_row_is_the_published_pattern():
    inputs, labels = mqar_row(np.array([2, 4]), np.array([8, 7]), np.array([4, 1]), length=16)
    assert inputs[:15].tolist() == [2, 8, 4, 7, 0, 0, 4, 0, 0, 0, 0, 0, 2, 0, 0]
    assert labels.tolist() == [-100] * 6 + [7] + [-100] * 5 + [8] + [-100] * 3


@given(
    pairs=st.integers(1, 6),
    passes=st.integers(1, 2),
    extra=st.integers(0, 10),
    power=st.floats(0.01, 1.0),
    filler=st.booleans(),
    seed=st.integers(0, 99),
)
def test_mqar_laws(pairs, passes, extra, power, filler, seed):
    length = 2 * pairs * (passes + 1) + 2 * extra
    drawn = {
        "vocabulary": 64,
        "length": length,
        "pairs": pairs,
        "passes": passes,
        "power": power,
        "seed": seed,
    }
    inputs, labels = mqar(3, random_filler=filler, **drawn)
    assert inputs.shape == labels.shape == (3, length)
    for row, label in zip(inputs, labels, strict=True):
        queries = np.flatnonzero(label != -100)
        assert len(queries) == pairs
        assert (queries % 2 == 0).all()
        assert (queries >= 2 * pairs * passes).all()
        context = row[: 2 * pairs * passes].reshape(passes, pairs, 2)
        assert (context == context[0]).all()
        keys, values = context[0].T
        assert len(set(keys)) == len(set(values)) == pairs
        assert keys.min() >= 1
        assert keys.max() < 32 <= values.min()
        assert values.max() < 64
        assert {row[q]: label[q] for q in queries} == dict(zip(keys, values, strict=True))
    again, _ = mqar(3, random_filler=filler, **drawn)
    assert (again == inputs).all()


def test_mqar_distances_follow_the_power_law():
    """With one key, slot g = 1 of 20 comes up with chance 0.2745 and the last with 0.0141."""
    _inputs, labels = mqar(4000, vocabulary=64, length=42, pairs=1, power=0.01, seed=0)
    slots = (np.argmax(labels != -100, axis=1) - 2) // 2
    counts = np.bincount(slots, minlength=20) / 4000
    assert counts[0] == pytest.approx(0.2745, abs=0.03)
    assert counts[19] == pytest.approx(0.0141, abs=0.008)


@pytest.mark.parametrize(
    "wrong", [{"length": 15}, {"length": 14}, {"vocabulary": 64}, {"pairs": 0}, {"passes": 0}]
)
def test_mqar_refuses_what_does_not_fit(wrong):
    with pytest.raises(InputError, match="laid out"):
        mqar(1, seed=0, **wrong)


def test_shipped_text_is_small_plain_and_of_the_test_split():
    paragraphs = text.shipped_test()
    assert len(paragraphs) > 300
    assert len(set(paragraphs)) == len(paragraphs)
    assert sum(map(len, paragraphs)) < 150_000
    assert all(p.isascii() and text.split_of(("text", p)) == "test" for p in paragraphs)


@pytest.mark.slow
def test_training_text_shares_no_run_of_sixty_characters_with_the_shipped_test(monkeypatch):
    found = text._paragraphs()
    monkeypatch.setattr(text, "_paragraphs", lambda: found)
    windows = {p[i : i + 60] for p in text.shipped_test() for i in range(len(p) - 59)}
    train, validation = text.corpus("train"), text.corpus("validation")
    for paragraph in (*train, *validation):
        assert windows.isdisjoint(paragraph[i : i + 60] for i in range(len(paragraph) - 59))
    assert not set(train) & set(validation)
    assert train == sorted(set(train))
    assert len(text.fingerprint(train)) == 64
    assert text.fingerprint(train) != text.fingerprint(train[1:])
