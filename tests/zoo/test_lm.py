"""The language model's recipe: its tokenizer, its rows, its prior and its loss."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from headwise.zoo.data import text
from headwise.zoo.data.ioi import ioi_prompt
from headwise.zoo.data.words import NAMES, task_words
from headwise.zoo.recipes import lm_rows
from headwise.zoo.recipes.lm import KINDS, ROWS, LanguageModel
from headwise.zoo.recipes.seeding import seed_previous_token
from tests.kit.prompts import DRAWS


@dataclass
class Built:
    """A recipe and what it builds."""

    recipe: LanguageModel
    model: Any
    tokenizer: Any


@pytest.fixture(scope="module")
def built():
    """The recipe with the shipped text in place of this Python's, which takes long to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "corpus", lambda split: text.shipped_test())
        torch.manual_seed(0)
        built = LanguageModel()
        model, tokenizer = built.build()
    return Built(built, model, tokenizer)


@pytest.fixture(scope="module")
def tokenizer(built):
    return built.tokenizer


def tokens(tokenizer, of):
    return tokenizer(of, add_special_tokens=False).input_ids


def test_every_task_word_is_one_token_after_a_space(tokenizer):
    assert [word for word in task_words() if len(tokens(tokenizer, f" {word}")) != 1] == []
    assert len(tokenizer) <= 1536


def test_the_tokenizer_starts_a_text_pads_on_the_left_and_gives_any_text_back(tokenizer):
    batch = tokenizer(["a", "naïve ∑ and a longer text"], padding=True)
    assert batch.input_ids[0][-2:] == [tokenizer.bos_token_id, *tokens(tokenizer, "a")]
    assert set(batch.input_ids[0][:-2]) == {tokenizer.pad_token_id}
    assert tokenizer.decode(batch.input_ids[1], skip_special_tokens=True) == "naïve ∑ and a longer text"


def test_the_tokenizer_is_the_same_every_time_and_after_saving(tokenizer, tmp_path):
    again = lm_rows.train_tokenizer(text.shipped_test())
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.padding_side == "left"
    assert saved("When Mary went").input_ids == tokenizer("When Mary went").input_ids


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_prompts_and_corruptions_have_the_same_number_of_tokens_and_answers_have_one(tokenizer, kind, split):
    rng = random.Random(kind)
    for _ in range(200):
        item = DRAWS[kind](rng, split)
        assert len(tokens(tokenizer, item.prompt)) == len(tokens(tokenizer, item.corrupted))
        for candidate in item.candidates:
            assert len(tokens(tokenizer, candidate)) == 1
            assert tokens(tokenizer, item.prompt + candidate)[:-1] == tokens(tokenizer, item.prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_full_start_with_the_start_token_and_hold_answers(built, kind):
    draw = built.recipe._rows.draw[kind]
    for seed in range(20):
        ids, weights = draw(random.Random(seed), seed / 20)
        assert len(ids) == len(weights) == (40 if kind == "short copy" else built.recipe.length)
        assert ids[0] == lm_rows.START
        assert weights[0] == 0
        assert max(weights) >= 1
        assert (ids, weights) == draw(random.Random(seed), seed / 20)


def test_training_rows_hold_no_name_pair_of_the_test_split(built):
    rng = random.Random(0)
    held_out = {
        frozenset((item.meta["giver"], item.meta["receiver"]))
        for item in (ioi_prompt(rng, "test") for _ in range(500))
    }
    for seed in range(20):
        ids, _ = built.recipe._rows.draw["ioi"](random.Random(seed), 0.0)
        for line in built.tokenizer.decode(ids[1:]).split("\n")[:-1]:
            names = {word.strip(".,") for word in line.split()} & set(NAMES)
            assert len(names) == 2
            assert frozenset(names) not in held_out


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_batches_depend_on_the_step_alone(built, number):
    phase = built.recipe.phases[number]
    batch, again, other = (
        built.recipe.batch(phase, 3),
        built.recipe.batch(phase, 3),
        built.recipe.batch(phase, 4),
    )
    for name, value in batch.items():
        assert torch.equal(value, again[name])
    assert not torch.equal(batch["input_ids"], other["input_ids"])
    assert batch["input_ids"].shape == batch["weights"].shape
    assert len(batch["kinds"]) == sum(ROWS[phase.name].values())


def test_the_loss_of_an_untrained_model_is_that_of_guessing_and_reaches_every_parameter(built):
    phase = built.recipe.phases[-1]
    loss, seen = built.recipe.loss(built.model, phase, built.recipe.batch(phase, 0))
    assert loss.item() == pytest.approx(torch.tensor(1536.0).log().item(), abs=1.5)
    assert set(seen) == set(ROWS[phase.name])
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.model.parameters())
    built.model.zero_grad()


def test_weights_fit_the_wheel(built):
    assert 2 * sum(p.numel() for p in built.model.parameters()) < 4_000_000


@pytest.mark.parametrize("groups", [4, 2])
def test_seeded_heads_look_one_or_two_tokens_back_whatever_the_tokens_and_the_others_do_not(groups):
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=groups,
        head_dim=32,
        attention_bias=True,
        initializer_range=0.02,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")
    seed_previous_token(
        model.model.layers, rotary_base=500.0, heads=((0, 0),), two_back=((1, 3),), strength=3.0
    )
    ids = torch.randint(50, (4, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        attention = torch.stack(model(ids, output_attentions=True).attentions)
    one, two = (attention.diagonal(-d, -2, -1)[..., 3:].mean((1, 3)) for d in (1, 2))
    assert one[0, 0] > 0.5
    assert two[1, 3] > 0.5
    one[0, 0] = two[1, 3] = 0
    assert one.max() < 0.4
    assert two.max() < 0.4


def test_seeding_without_biases_is_refused():
    config = LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(ValueError, match="attention_bias"):
        seed_previous_token(LlamaForCausalLM(config).model.layers, rotary_base=500.0)
