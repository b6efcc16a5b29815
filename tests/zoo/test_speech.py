"""The recipe of the speech model: tokens, features, batches, alignment heads, and a short training run."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.zoo.data import clips, utterances
from headwise.zoo.data.utterances import RATE
from headwise.zoo.recipe import Phase
from headwise.zoo.recipes import speech
from headwise.zoo.train import train

SHIPPED = clips.shipped_clips()


class Short(speech.Speech):
    """Four steps on the clips that are shipped: no synthesiser is needed."""

    phases = (Phase(name="speech", steps=4, rate=1e-3, warm_up=0.5),)
    clips, judges, size = 12, 3, 4

    def speak(self, split, n):
        yield from itertools.islice(itertools.cycle(SHIPPED), n)


@pytest.fixture(scope="module")
def recipe():
    made = Short()
    made.model, _ = made.build()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train(Short(), tmp_path_factory.mktemp("speech"), device="cpu")


@pytest.fixture(scope="module")
def tokenizer():
    return speech.make_tokenizer()


@given(words=st.lists(st.sampled_from(utterances.WORDS), min_size=1, max_size=8))
def test_every_word_is_one_token_and_text_comes_back(tokenizer, words):
    ids = tokenizer(" ".join(words)).input_ids
    assert len(ids) == speech.PROMPT + len(words) + 1
    assert ids[: speech.PROMPT] == tokenizer.prefix_tokens
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == words


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_other_text_is_spelled_out(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert set(ids) <= set(range(len(tokenizer)))


@pytest.mark.parametrize("step", [0, 7])
def test_a_batch_depends_on_phase_and_step_alone(recipe, step):
    (phase,) = recipe.phases
    again = Short()
    again.build()
    one, other = recipe.batch(phase, step), again.batch(phase, step)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["input_features"], recipe.batch(phase, step + 1)["input_features"])


def test_the_decoder_predicts_the_next_word_and_the_end(recipe):
    batch = recipe.batch(recipe.phases[0], 3)
    tokenizer = recipe._processor.tokenizer
    for fed, wanted in zip(batch["decoder_input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        n = sum(label != speech.IGNORED for label in wanted)
        assert wanted[0] == speech.IGNORED
        assert fed[: speech.PROMPT] == tokenizer.prefix_tokens
        assert fed[speech.PROMPT : speech.PROMPT + n - 1] == wanted[1:n]
        assert wanted[n] == tokenizer.eos_token_id


def test_features_of_a_batch_are_those_of_single_clips():
    extractor = speech.make_extractor()
    together = speech.mel([clip.samples for clip in SHIPPED[:3]], extractor)
    assert together.shape == (3, speech.MELS, 300)
    for clip, row in zip(SHIPPED[:3], together, strict=True):
        torch.testing.assert_close(speech.mel([clip.samples], extractor)[0], row)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_disturbing_is_seeded_and_keeps_the_time_of_every_sound(seed):
    """One loud frame stays the loudest, unless it falls into the masked stretch."""
    features = torch.zeros(4, speech.MELS, 300)
    features[:, :, 100] = 4.0
    before = features.clone()
    first = speech.disturb(features, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(speech.disturb(features, torch.Generator().manual_seed(seed)), first)
    torch.testing.assert_close(features, before)
    loud = first.mean(1)
    for row in loud:
        assert row.argmax() == 100 or row[100] < 1.0


def test_heads_that_look_at_the_word_are_chosen():
    """Planted: head 3 of layer 1 looks at every word from its start to its end, the others look anywhere."""
    generator = torch.Generator().manual_seed(0)
    rows = max(len(clip.words) for clip in SHIPPED) + speech.PROMPT
    layers = [torch.rand(len(SHIPPED), 4, rows, 150, generator=generator) for _ in range(2)]
    time = torch.arange(150) * speech.POSITION
    for number, clip in enumerate(SHIPPED):
        spans = [*clip.spans, (clip.spans[-1][1], 3.0)]  # the end of the text is told by the silence after it
        for word, (start, end) in enumerate(spans):
            inside = (time >= start - speech.POSITION / 2) & (time < end)
            layers[1][number, 3, speech.PROMPT - 1 + word] = torch.where(inside, 1.0, 0.01)
    layers = [layer / layer.sum(-1, keepdim=True) for layer in layers]
    right = speech.start_errors(layers, SHIPPED, [[1, 3]])
    wrong = speech.start_errors(layers, SHIPPED, [[0, 3]])
    assert len(right) == sum(len(clip.words) for clip in SHIPPED)
    later = [error for clip, error in _by_clip(right)]
    assert np.mean(later) < 0.03
    assert np.mean(wrong) > 0.1


def _by_clip(errors):
    """Errors of all but each clip's first word: the path begins with the sound, whatever the first row says."""
    rest = iter(errors)
    for clip in SHIPPED:
        row = [next(rest) for _ in clip.words]
        yield from ((clip, error) for error in row[1:])


@pytest.mark.filterwarnings(
    "ignore:__array_wrap__:DeprecationWarning"
)  # in transformers, for unequal lengths
def test_a_trained_folder_opens_with_plain_transformers(folder):
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, WhisperProcessor

    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, WhisperProcessor)
    assert processor.tokenizer.get_vocab() == speech.make_tokenizer().get_vocab()
    waves = [clip.samples for clip in SHIPPED[:2]]
    batch = processor(waves, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
    assert batch["attention_mask"].sum(-1).tolist() == [-(-len(wave) // 160) for wave in waves]
    with torch.no_grad():
        heard = model.generate(**batch, num_beams=2, return_token_timestamps=True)
    assert heard["sequences"].shape == heard["token_timestamps"].shape
    heads = model.generation_config.alignment_heads
    assert heads
    assert all(0 <= layer < 2 and 0 <= head < 4 for layer, head in heads)


def test_headwise_reads_a_file_and_a_target(folder):
    subject = hw.load(folder, dtype=torch.float32)
    clip = SHIPPED[0]
    inputs = subject.prepare(audio=[clip.path, clip.path], target=[clip.text, clip.text])
    assert inputs["input_features"].shape == (2, speech.MELS, 300)
    words = inputs["decoder_input_ids"][0, speech.PROMPT :]
    assert subject.tokenizer.decode(words).split() == list(clip.words)
    with torch.no_grad():
        assert subject.model(**inputs).logits.shape[:2] == inputs["decoder_input_ids"].shape
