"""Rows of token-by-source pictures: named by the token that they write, or said to be named by what they read."""

from __future__ import annotations

import pytest
import torch

import headwise as hw
from headwise.probes.attach.sites import Site
from headwise.reports.collect import examples as collected
from headwise.reports.collect.build import build_content
from headwise.reports.collect.example_runs import example_runs
from headwise.reports.collect.patterns import pattern_thumbnails
from headwise.reports.collect.shares import key_shares
from headwise.reports.content.content import Content
from headwise.reports.page.page import render_example
from headwise.zoo.data.clips import shipped_clips
from headwise.zoo.own_inputs import sample
from tests.kit.comparisons import small_subject
from tests.kit.traces import axis, causal, make_trace, random_pattern
from tests.tiny import ARCHITECTURES

WORDS = ["<s>", "ein", "Haus", "am", "See"]
READ, SEEN = len(WORDS), 7
DECODER, CROSS = Site("decoder", "self", 0), Site("decoder", "cross", 0)


def crossing(before=0, behind=0, *, looks_ahead=False):
    """A decoder with padding before and behind its words, which looks at an encoder."""
    roles = ["padding"] * before + ["bos"] + ["content"] * (READ - 1) + ["padding"] * behind
    tokens = ["[PAD]"] * before + WORDS + ["[PAD]"] * behind
    length = len(roles)
    inward = random_pattern(1, 2, length, length)
    patterns = {
        Site("encoder", "self", 0): random_pattern(1, 2, SEEN, SEEN),
        DECODER: inward if looks_ahead else causal(inward),
        CROSS: random_pattern(1, 2, length, SEEN, seed=1),
    }
    trace = make_trace(patterns, {"decoder": axis("decoder", [roles], [tokens])}, causal=not looks_ahead)
    return trace, patterns[CROSS][0].mean(0)[before : before + READ]


def examples(trace):
    return collected.examples_of(trace, key_shares(trace), pattern_thumbnails(trace, {}), {})


def strip_of(example, tower="decoder"):
    return {
        token.position: token.text
        for strip in example.strips
        for token in strip.tokens
        if strip.tower == tower
    }


@pytest.mark.parametrize(("before", "behind"), [(0, 0), (3, 0), (0, 2), (2, 3)])
def test_a_row_is_named_by_the_token_behind_the_one_it_reads_wherever_padding_stands(before, behind):
    trace, weights = crossing(before, behind)
    (example,) = examples(trace)
    matrix = example.matrix
    assert matrix.written
    assert matrix.rows == (*WORDS[1:], collected.NEVER_READ)
    torch.testing.assert_close(torch.as_tensor(matrix.weights), weights)
    strip = strip_of(example)
    beside = [strip.get(matrix.first_row + place, collected.NEVER_READ) for place in range(READ)]
    assert tuple(beside) == matrix.rows


def test_a_long_text_is_cut_without_a_row_that_writes_what_is_not_known(monkeypatch):
    monkeypatch.setattr(collected, "MOST_TOKENS", 3)
    (example,) = examples(crossing()[0])
    assert example.matrix.rows == tuple(WORDS[1:4])
    assert len(example.matrix.weights) == 3


def test_a_tower_that_sees_what_comes_names_rows_by_what_they_read_and_says_so():
    content, (example,) = Content("t"), examples(crossing(looks_ahead=True)[0])
    assert not example.matrix.written
    assert example.matrix.rows == tuple(WORDS)
    assert strip_of(example)[example.matrix.first_row] == WORDS[0]
    assert "the token that a row reads, its query (down)" in render_example(content, example)
    (written,) = examples(crossing()[0])
    assert "the token that a row writes (down)" in render_example(content, written)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "writes"), [("bart", True), ("t5", True), ("mllama", True), ("blip", True), ("blip2", False)]
)
@pytest.mark.parametrize("inputs", ["plain", "padded"])
def test_what_writes_is_known_of_every_kind_of_cross_attention(name, writes, inputs):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    with hw.capture(model, maps=True) as trace, torch.no_grad():
        model(**architecture.inputs[inputs]())
    for example in examples(trace):
        matrix = example.matrix
        assert matrix.written == writes
        if writes:
            (tower,) = {strip.tower for strip in example.strips} & {"text", "decoder"}
            strip = strip_of(example, tower)
            beside = [strip.get(matrix.first_row + row, collected.NEVER_READ) for row in range(len(strip))]
            assert matrix.rows == tuple(beside)


def test_what_a_language_model_wrote_last_is_known():
    subject = small_subject()
    runs = example_runs(subject, [{"text": "a cat sat on"}], generate=3)
    out = subject.model.generate(**subject.prepare(text="a cat sat on"), max_new_tokens=3, do_sample=False)
    assert runs.before.last == (subject.tokenizer.convert_ids_to_tokens(int(out[0, -1])),)


GENERATED = [("speech", 3, "Ġsix"), ("speech", 8, "(end)"), ("nmt", 4, ","), ("nmt", 40, "</s>")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "generate", "end"), GENERATED)
def test_the_row_that_writes_the_end_of_a_generation_is_named_by_it(name, generate, end):
    (example,) = build_content(example_runs(hw.load(f"zoo:{name}"), generate=generate)).examples
    strip, matrix = strip_of(example), example.matrix
    assert matrix.rows == (*list(strip.values())[1:], end)
    assert len(matrix.weights) == len(strip)


@pytest.mark.slow
def test_without_a_generation_nobody_knows_what_the_last_row_writes():
    runs = example_runs(hw.load("zoo:nmt"), dict(sample("nmt").inputs))
    assert runs.before.last == (None,)
    assert build_content(runs).examples[0].matrix.rows[-1] == collected.NEVER_READ


def hits(clips, generate=0):
    """Words, and how many have the peak of the row named by them, or of the row that reads them, in their time."""
    words = named = reading = 0
    subject = hw.load("zoo:speech")
    examples = [
        {"audio": clip.path} if generate else {"audio": clip.path, "target": clip.text} for clip in clips
    ]
    shown = build_content(example_runs(subject, examples, generate=generate)).examples
    for clip, example in zip(clips, shown, strict=True):
        matrix = example.matrix
        peaks = (matrix.weights.argmax(1) + 0.5) * matrix.seconds / matrix.weights.shape[1]
        assert [row.removeprefix("Ġ") for row in matrix.rows[1:-1]] == list(clip.words)
        for row, (start, end) in enumerate(clip.spans, start=1):
            words += 1
            named += start <= peaks[row] <= end
            reading += start <= peaks[row + 1] <= end
    return words, named, reading


def test_a_word_lies_over_its_own_sound():
    clip = next(clip for clip in shipped_clips() if clip.text == "garden lights red")
    assert hits([clip], generate=8) == (3, 3, 1)


@pytest.mark.slow
def test_words_lie_over_their_own_sound_far_more_often_than_what_a_row_reads():
    clips = shipped_clips()
    found = [hits(clips[:13]), hits(clips[13:])]  # a page shows up to 16 examples
    words, named, reading = map(sum, zip(*found, strict=True))
    assert words == 83
    assert named >= 74
    assert reading <= 27
