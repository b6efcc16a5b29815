"""Running a model for a report: examples one by one, before and after a fix, patterns made small."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import headwise as hw
from headwise.errors import InputError, NotFitted
from headwise.functional.entropy import entropy_without
from headwise.layout import TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from headwise.reports.collect import example_runs as running
from headwise.reports.collect.build import build_content
from headwise.reports.collect.example_runs import example_runs
from headwise.reports.collect.heads import sink_keys
from headwise.reports.collect.patterns import join_thumbnails, pattern_thumbnails
from headwise.reports.collect.windows import windows_of
from headwise.subject.generation import Generation
from headwise.subject.media import read_audio
from tests.kit.comparisons import SILENT, small_subject
from tests.kit.subjects import multilingual_whisper, tone
from tests.kit.traces import causal, make_trace, plain_axis, random_pattern

TEXTS = ("a cat sat on the mat .", "what is this ?")
EXAMPLES = [{"text": text} for text in TEXTS]


def test_examples_are_run_one_by_one_and_stand_behind_one_another():
    subject = small_subject()
    runs = example_runs(subject, EXAMPLES)
    assert runs.before.trace.examples == 2
    assert runs.after is None
    for number, example in enumerate(EXAMPLES):
        with hw.capture(subject) as trace, torch.no_grad():
            subject.model(**subject.prepare(**example))
        alone = hw.analyses.entropy(trace).frame
        frame = hw.analyses.entropy(runs.before.trace).frame
        together = frame[frame["example"] == number]
        np.testing.assert_allclose(together["entropy"], alone["entropy"], atol=1e-6)


def test_the_second_run_is_with_the_fix_and_the_model_is_untouched():
    subject = small_subject()
    inputs = subject.prepare(**EXAMPLES[0])
    with torch.no_grad():
        before = subject.model(**inputs).logits
    fix = hw.fixes.MaskKeys(keys=[0])
    runs = example_runs(subject, EXAMPLES, fixes=fix)
    frame = runs.after.trace.to_frame("key")
    first = frame[(frame["position"] == 0) & (frame["n_queries"] > 1)]
    kept = first["received"] - 1  # the first row has nowhere else to look
    np.testing.assert_allclose(kept, 0, atol=1e-6)
    assert runs.fix == "MaskKeys"
    assert '"mask_keys"' in runs.spec
    with torch.no_grad():
        assert torch.equal(subject.model(**inputs).logits, before)


def test_a_fix_that_cannot_be_written_as_a_spec_is_shown_all_the_same():
    class Own:
        def edit(self, pattern, site, context):
            return pattern

    runs = example_runs(small_subject(), EXAMPLES[:1], fixes=[Own()])
    assert runs.spec == ""
    assert runs.fix == "Own"


def test_replies_are_what_the_model_says():
    subject = small_subject()
    runs = example_runs(subject, EXAMPLES, generate=3, fixes=SILENT)
    inputs = subject.prepare(**EXAMPLES[1])
    out = subject.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    said = subject.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert runs.before.replies[1] == said
    assert len(runs.after.replies) == 2
    roles = runs.before.trace.layout.to_frame()
    assert "generated" in set(roles["role"])


def test_progress_counts_both_runs():
    told = []
    example_runs(
        small_subject(), EXAMPLES, fixes=SILENT, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (None, "nothing to run"),
        ([], "nothing to run"),
        ("a text", "nothing to run"),
        ([{"text": ["a cat", "a mat"]}], "this one is a batch"),
        ([{"words": "a"}], "words"),
        ([{"text": "a cat"}, {"text": "a cat", "image": "cat.png"}], "of one kind"),
    ],
)
def test_bad_examples_are_refused(examples, said):
    with pytest.raises((InputError, TypeError), match=said):
        example_runs(small_subject(), examples)


def test_a_fix_that_lacks_its_constants_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(running, "_run", lambda *_: pytest.fail("it ran"))
    with pytest.raises(NotFitted):
        example_runs(hw.load("zoo:lm"), fixes=["ACT"])


def test_patterns_that_would_take_too_much_memory_are_left_out_and_said(monkeypatch):
    monkeypatch.setattr(running, "MOST_MAPS", 100)
    runs = example_runs(small_subject(), EXAMPLES)
    assert runs.before.thumbnails is None
    (note,) = runs.before.notes
    assert note.startswith("Patterns were left out")
    content = build_content(runs)
    assert note in content.warnings
    assert content.groups[0].patterns is None
    assert content.groups[0].received is not None


def test_a_model_of_the_zoo_shows_its_own_input():
    runs = example_runs(hw.load("zoo:nmt"))
    assert runs.given == (hw.zoo.sample("nmt").inputs,)


def padded(pattern, padding):
    axes = {"text": plain_axis("text", len(pattern), pattern.shape[-1], padding)}
    return make_trace({Site("text", "self", 0): pattern}, axes)


def test_padding_and_batching_change_nothing_in_the_small_patterns():
    short, long = causal(random_pattern(1, 2, 5, 5)), causal(random_pattern(1, 2, 8, 8, seed=1))
    both = torch.zeros(2, 2, 8, 8)
    both[:1, :, 3:, 3:], both[1:] = short, long
    together = pattern_thumbnails(padded(both, (3, 0)), {})
    alone = join_thumbnails(
        [pattern_thumbnails(padded(one, (0,)), {}, longest={"text": 8}) for one in (short, long)]
    )
    (site,) = together.pixels
    torch.testing.assert_close(together.pixels[site], alone.pixels[site])
    assert together.bins[site] == alone.bins[site] == (1, 1)
    assert together.pixels[site][0, :, 5:].sum() == 0


def test_a_pixel_is_the_root_of_the_largest_weight_it_stands_for():
    pattern = causal(random_pattern(1, 1, 150, 150))
    thumbnails = pattern_thumbnails(padded(pattern, (0,)), {})
    (site,) = thumbnails.pixels
    assert thumbnails.bins[site] == (3, 3)
    pixels = thumbnails.pixels[site][0, 0].numpy()
    assert pixels.shape == (50, 50)
    plain = pattern[0, 0].numpy().reshape(50, 3, 50, 3).max((1, 3))
    np.testing.assert_array_equal(pixels, np.rint(255 * np.sqrt(plain)))


def test_entropy_without_sinks_against_plain_loops():
    maps = causal(random_pattern(2, 3, 9, 9, seed=4))
    sinks = torch.zeros(2, 9, dtype=torch.bool)
    sinks[0, 0] = sinks[1, 3] = True
    every = torch.ones(2, 9, dtype=torch.bool)
    every[1, :2] = False
    maps[1, :, :, :2] = 0
    found = entropy_without(maps, sinks, rows=every, keys=every)
    for example in range(2):
        for head in range(3):
            rates = []
            for row in range(9):
                if not every[example, row]:
                    continue
                kept = [
                    maps[example, head, row, key].item()
                    for key in range(9)
                    if every[example, key] and not sinks[example, key]
                ]
                kept = [weight for weight in kept if weight > 0]
                if sum(kept) > 1e-6 and len(kept) >= 2:
                    shares = np.array(kept) / sum(kept)
                    rates.append(-(shares * np.log(shares)).sum() / np.log(len(kept)))
            assert found[example, head].item() == pytest.approx(np.mean(rates), abs=1e-5)


def test_a_head_that_parks_on_a_sink_is_told_from_one_that_picks_something_out():
    length = 12
    parked = torch.full((length, length), 0.2 / (length - 1))
    parked[:, 0] = 0.8
    picking = torch.full((length, length), 1e-4)
    picking[:, 0], picking[:, 5] = 0.5, 0.5 - 1e-4 * (length - 2)
    pattern = torch.stack([parked, picking])[None]
    axes = {"text": plain_axis("text", 1, length)}
    trace = make_trace({Site("text", "self", 0): pattern}, axes)
    keys = sink_keys(trace, hw.analyses.sinks(trace, epsilon=0.6))
    metric = next(m for m in build_content(trace).metrics if m.key == "entropy_without_sinks")
    assert keys[Site("text", "self", 0)][0].nonzero().flatten().tolist() == [0]
    thumbnails = pattern_thumbnails(trace, keys)
    parked_rest, picking_rest = thumbnails.entropy_without[Site("text", "self", 0)][0].tolist()
    assert parked_rest == pytest.approx(1.0, abs=1e-4)
    assert picking_rest < 0.05
    assert metric.panels[0].group == "text"


def test_the_reply_of_a_speech_model_begins_with_its_first_word():
    subject = hw.load("zoo:speech")
    audio = hw.zoo.sample("zoo:speech").inputs["audio"]
    with torch.no_grad():
        written = subject.model.generate(**subject.prepare(audio=audio), max_new_tokens=8, do_sample=False)
    expected = subject.tokenizer.decode(written[0], skip_special_tokens=True).strip()
    assert len(expected.split()) > 2
    assert example_runs(subject, {"audio": audio}, generate=8).before.replies == (expected,)


@pytest.mark.slow
def test_a_translation_is_read_in_its_own_languages():
    subject = hw.load("zoo:nmt")
    before = subject.tokenizer.src_lang
    task = hw.evaluation.find_task("translation")
    found = hw.compare(subject, task, [SILENT_DECODER], n=8)
    examples = hw.reports.changed_examples(found, task, 4)
    runs = example_runs(subject, examples, generate=40)
    frame = found.frame[found.frame["arm"] == "none"].set_index("prompt")["response"]
    assert [runs.before.replies[i] for i in range(4)] == [frame[one["text"]] for one in examples]
    assert subject.tokenizer.src_lang == before


SILENT_DECODER = hw.fixes.ZeroHeads(heads=((0, 0),))


@pytest.mark.parametrize("name", ["zoo:nmt", "zoo:speech"])
def test_the_zoo_writes_its_own_words_when_it_generates(name):
    runs = example_runs(hw.load(name), generate=15)
    assert runs.before.replies[0] == hw.zoo.sample(name).inputs["target"]


def test_fixes_that_are_on_already_are_said():
    subject = small_subject()
    with hw.patch(subject, SILENT):
        content = build_content(example_runs(subject, EXAMPLES[:1]))
    assert any("ZeroHeads" in warning for warning in content.warnings)
    assert not any(
        "ZeroHeads" in warning for warning in build_content(example_runs(subject, EXAMPLES[:1])).warnings
    )


def test_traces_of_different_inputs_are_no_before_and_after():
    subject = small_subject()
    traces = [example_runs(subject, [{"text": text}]).before.trace for text in ("a cat sat", "on the mat")]
    with pytest.raises(InputError, match="different inputs"):
        build_content(traces)


@pytest.mark.slow
def test_a_long_recording_is_shown_window_by_window(tmp_path):
    subject = hw.load("zoo:speech")
    clip = read_audio(hw.zoo.sample("speech").inputs["audio"], 16000)
    example = {"audio": (np.resize(clip, 16000 * 7), 16000)}
    seen = example_runs(subject, example, generate=12)
    assert seen.before.trace.examples == len(seen.given) == len(seen.before.replies) >= 3
    assert all(seen.before.replies)
    trace = seen.before.trace
    starts = torch.arange(trace.examples) * 2.5
    encoder = replace(
        trace.layout.axes["encoder"], offset=starts, recording=torch.zeros(trace.examples, dtype=torch.long)
    )
    placed = Trace(trace.records, TokenLayout({**trace.layout.axes, "encoder": encoder}), trace.meta)
    windows = windows_of(subject, [example], [Generation({})], placed)
    for (shown, _), start in zip(windows, starts.tolist(), strict=True):
        at = round(start * 16000)
        assert np.array_equal(shown["audio"][0], example["audio"][0][at : at + 48000])
    page = tmp_path / "page.html"
    hw.report(subject, page, examples=[example], generate=12)
    offsets = trace.layout.axes["encoder"].offset.tolist()
    assert offsets[0] == 0 < offsets[1]
    rulers = re.findall(r'<div class="seconds".*?</figcaption>', page.read_text(), re.DOTALL)
    assert len(rulers) == len(offsets)
    for ruler, given, start in zip(rulers, seen.given, offsets, strict=True):
        assert (f"from second {start:.2f} of the recording" in ruler) == (start > 0)
        length = len(given["audio"][0]) / 16000
        times = [
            (float(left), float(second)) for left, second in re.findall(r"left:(.+?)%\">(.+?) s<", ruler)
        ]
        assert len(times) > 1
        for left, second in times:
            assert abs(left / 100 * length + start - second) < 0.01
    with pytest.raises(hw.InputError, match=r"longer than what one forward of this model hears.*--generate"):
        example_runs(subject, example)


def test_a_language_is_given_or_detected_and_said():
    subject = multilingual_whisper()
    samples = tone(0.7)
    detected = example_runs(subject, {"audio": samples}, generate=4)
    (said,) = detected.before.notes
    assert said.startswith("The model heard the language")
    assert example_runs(subject, {"audio": samples}).before.notes == (said,)
    for language, token in (("en", 29), ("fr", 30)):
        given = example_runs(
            subject, {"audio": samples, "language": language, "task": "translate"}, generate=4
        )
        assert given.before.notes == ()
        assert given.before.trace.layout.axes["decoder"].ids[0, :3].tolist() == [28, token, 31]
        forward = example_runs(subject, {"audio": samples, "language": language})
        assert forward.before.trace.layout.axes["decoder"].ids[0].tolist() == [28, token, 32, 33]


def test_replies_of_unlike_lengths_stand_in_one_report():
    subject = hw.load("zoo:speech")
    sounds = [{"audio": sample.inputs["audio"]} for sample in hw.zoo.samples("speech", 3)]
    run = example_runs(subject, sounds, generate=12).before
    alone = [example_runs(subject, [sound], generate=12).before for sound in sounds]
    assert len({one.trace.layout.axes["decoder"].roles.shape[1] for one in alone}) > 1
    for site, pixels in run.thumbnails.pixels.items():
        assert len(pixels) == 3
        for number, one in enumerate(alone):
            assert torch.equal(pixels[number], one.thumbnails.pixels[site][0])
