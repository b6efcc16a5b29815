"""The recipe of the translation model: its tokenizer, its batches, its loss, and a short training run."""

import random
from functools import cache, cached_property
from typing import Any

import pytest
import torch
from torch.nn import functional

import headwise as hw
from headwise.zoo.data.languages import LANGUAGES, OTHERS, TAGS
from headwise.zoo.data.phrases import shipped_pairs
from headwise.zoo.recipe import Phase
from headwise.zoo.recipes import nmt
from headwise.zoo.train import train


@cache
def small_tokenizer():
    return nmt.train_tokenizer(random.Random(0), pairs=3000)


class Short(nmt.Translation):
    """Four steps, and a tokenizer from few phrases."""

    phases = (Phase(name="phrases", steps=4, rate=1e-3, warm_up=0.5),)

    @cached_property
    def tokenizer(self):
        return small_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train(Short(), tmp_path_factory.mktemp("nmt"), device="cpu")


def tags_of(tokenizer: Any) -> list[int]:
    return tokenizer.convert_tokens_to_ids(list(TAGS))


def phrases():
    for code in OTHERS:
        for pair in shipped_pairs(code, "validation")[:40]:
            yield from (pair.source, pair.target)


def test_no_piece_crosses_two_segments():
    tokenizer = small_tokenizer()
    for phrase in phrases():
        cuts = {end for _, end in phrase.spans}
        for start, end in tokenizer(phrase.text, return_offsets_mapping=True).offset_mapping:
            start += phrase.text[start:end].startswith(" ")
            assert not any(start < cut < end for cut in cuts), phrase.text[start:end]


def test_text_comes_back_from_its_pieces():
    tokenizer = small_tokenizer()
    for phrase in phrases():
        ids = tokenizer(phrase.text).input_ids
        assert nmt.UNKNOWN not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == phrase.text


def test_digits_stand_alone():
    pieces = small_tokenizer().tokenize("March 14, 2021: 5.50 euros.")
    assert all(len(piece) == 1 for piece in pieces if any(letter.isdigit() for letter in piece))


@pytest.mark.slow
def test_training_the_tokenizer_again_gives_the_same():
    again = nmt.train_tokenizer(random.Random(0), pairs=3000)
    assert again.get_vocab() == small_tokenizer().get_vocab()
    texts = [phrase.text for phrase in phrases()]
    assert again(texts).input_ids == small_tokenizer()(texts).input_ids


def test_the_tokenizer_reloads_with_its_languages(folder):
    from transformers import AutoTokenizer, NllbTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, NllbTokenizer)
    tokenizer.src_lang, tokenizer.tgt_lang = "swh_Latn", "zho_Hans"
    both = tokenizer("Kenya", text_target="肯尼亚")
    written = [tokenizer.convert_ids_to_tokens(ids) for ids in (both["input_ids"], both["labels"])]
    assert [(tokens[0], tokens[-1]) for tokens in written] == [("swh_Latn", "</s>"), ("zho_Hans", "</s>")]
    assert tokenizer("Kenya").input_ids == both["input_ids"]
    assert len(set(tags_of(tokenizer)) - {nmt.UNKNOWN}) == len(LANGUAGES)
    assert len(tokenizer) <= nmt.VOCABULARY + len(TAGS) + 1


def test_a_batch_depends_on_its_step_alone():
    recipe, other = Short(), Short()
    (phase,) = recipe.phases
    other.batch(phase, 0)
    first, again, next_one = recipe.batch(phase, 1), other.batch(phase, 1), recipe.batch(phase, 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], next_one[name]) for name in first)


def test_rows_of_a_batch_begin_with_tags_and_end():
    recipe = Short()
    tags = set(tags_of(recipe.tokenizer))
    english = recipe.tokenizer.convert_tokens_to_ids("eng_Latn")
    batch = recipe.batch(recipe.phases[0], 0)
    for part in range(nmt.PARTS):
        sources, labels = batch[f"source_{part}"], batch[f"labels_{part}"]
        assert len(sources) == len(labels) == nmt.ROWS // nmt.PARTS
        for source, label in zip(sources, labels, strict=True):
            source, label = source[source != nmt.PAD], label[label != -100]
            assert {source[0].item(), label[0].item()} <= tags
            assert (source[0] == english) != (label[0] == english)
            assert source[-1] == label[-1] == nmt.END


def test_the_loss_does_not_depend_on_padding():
    recipe = Short()
    (phase,) = recipe.phases
    model, _ = recipe.build()
    batch = recipe.batch(phase, 0)
    with torch.no_grad():
        loss, seen = recipe.loss(model, phase, batch)
        total, weight, right, words = 0.0, 0.0, 0, 0
        for part in range(nmt.PARTS):
            for source, label in zip(batch[f"source_{part}"], batch[f"labels_{part}"], strict=True):
                source, label = source[source != nmt.PAD], label[label != -100]
                given = torch.cat([torch.tensor([nmt.END]), label[:-1]])
                logits = model(input_ids=source[None], decoder_input_ids=given[None]).logits[0]
                losses = functional.cross_entropy(
                    logits, label, label_smoothing=nmt.SMOOTHING, reduction="none"
                )
                total += (nmt.TAG_WEIGHT * losses[0] + losses[1:].sum()).item()
                weight += nmt.TAG_WEIGHT + len(label) - 1
                right += (logits.argmax(-1) == label)[1:].sum().item()
                words += len(label) - 1
    assert loss.item() == pytest.approx(total / weight, rel=1e-5)
    assert seen["token_accuracy"] == pytest.approx(right / words)


def test_the_folder_translates_with_plain_transformers(folder):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, src_lang="eng_Latn")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 4_000_000
    inputs = tokenizer(["Kenya", "Sunday, March 14, 2021"], return_tensors="pt", padding=True)
    turkish = tokenizer.convert_tokens_to_ids("tur_Latn")
    for beams in (1, 3):
        written = model.generate(**inputs, forced_bos_token_id=turkish, num_beams=beams, max_new_tokens=6)
        assert written[:, :2].tolist() == [[nmt.END, turkish]] * 2


def test_headwise_starts_the_target_in_the_language_asked_for(folder):
    subject = hw.load(str(folder))
    tag = subject.tokenizer.convert_tokens_to_ids("hin_Deva")
    asked = subject.prepare(text="Kenya", target=[[nmt.END, tag]])
    assert asked["decoder_input_ids"].tolist() == [[nmt.END, tag]]
    assert asked["input_ids"][0, 0] == subject.tokenizer.convert_tokens_to_ids("eng_Latn")
    swahili = subject.tokenizer.convert_tokens_to_ids("swh_Latn")
    assert subject.prepare(text="Kenya", target="Kenya")["decoder_input_ids"][0, 1] == swahili
    subject.tokenizer.tgt_lang = "hin_Deva"
    forced = subject.prepare(text="Kenya", target="केन्या")
    assert forced["decoder_input_ids"][0, :2].tolist() == [nmt.END, tag]
    assert forced["decoder_input_ids"][0, -1] != nmt.END
