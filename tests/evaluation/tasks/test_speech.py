"""Speech: error rates against jiwer, word times from planted attention, and the user's files."""

from __future__ import annotations

import itertools
import math

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation import Example, Response, find_task
from headwise.evaluation.scoring.normalisers import normaliser
from headwise.evaluation.solvers import word_times
from headwise.evaluation.solvers.word_times import word_starts
from headwise.evaluation.tasks.speech.transcription import Transcription
from headwise.evaluation.tasks.speech.word_times import WordTimes
from headwise.functional.time_warping import dtw_path, token_start_frames
from headwise.subject.media import read_audio
from headwise.subject.speech_prompt import heard_note
from tests.kit.subjects import multilingual_whisper, tone, whisper


def scored(pairs: list[tuple[str, str]], **options) -> dict[str, float]:
    """The metrics for references and what was written."""
    task = Transcription(**options)
    rows = [
        task.score(Example(str(n), {}, reference, {"seconds": 1.0, "rate": 16000}), Response(written, 1))
        for n, (reference, written) in enumerate(pairs)
    ]
    return {
        metric.name: metric.compute({name: [row[name] for row in rows] for name in metric.columns})
        for metric in task.metrics
    }


def test_errors_are_pooled_over_clips():
    found = scored([("a b c", "a x c d"), ("hello world", "hello")])
    assert found["wer"] == pytest.approx(0.6)
    assert found["cer"] == pytest.approx(jiwer.cer(["a b c", "hello world"], ["a x c d", "hello"]))
    assert found["exact"] == 0


WORDS = st.lists(st.sampled_from(["one", "two", "three", "Four!", "e"]), max_size=5).map(" ".join)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_error_rates_equal_jiwer(pairs):
    found = scored(pairs, normaliser="none")
    references, written = map(list, zip(*pairs, strict=True))
    nothing = not any(references) and not any(written)  # 0 errors of 0 words, which jiwer calls 0
    expected = (
        (math.nan,) * 2 if nothing else (jiwer.wer(references, written), jiwer.cer(references, written))
    )
    assert (found["wer"], found["cer"]) == pytest.approx(expected, nan_ok=True)


def test_an_empty_reference():
    assert scored([("", "a")])["wer"] == 1
    assert math.isnan(scored([("", "")])["wer"])
    assert scored([("", "a b"), ("c", "c")])["wer"] == 2


def test_normalisers():
    pair = [("Hello, world", "hello world")]
    assert scored(pair)["wer"] == 0
    assert scored(pair, normaliser="whisper")["wer"] == 0
    assert scored(pair, normaliser="none")["wer"] == 0.5
    assert normaliser("whisper")("  It's  [noise] ON! ") == "it s on"
    with pytest.raises(InputError, match="no such normaliser"):
        Transcription(normaliser="english")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "basic", "english"),
    [
        ("state-of-the-art", "state of the art", "state of the art"),
        ("twenty-one", "twenty one", "21"),
        ("and/or 3:30", "and or 3 30", "and or 3 30"),
        ("It costs 5.50.", "it costs 5 50", "it costs 5.50"),
        ("1,000 dogs – no, cats", "1000 dogs no cats", "1000 dogs no cats"),
        ("Mr. Smith can't", "mr smith cant", "mister smith can not"),
        ("Um, don't [noise]", "um dont noise", "do not"),
        ("five dollars and fifty cents", "five dollars and fifty cents", "$5.50"),
        ("", "", ""),
        ("?!", "", ""),
    ],
)
def test_words_are_set_apart_as_they_are_spoken(text, basic, english):
    assert normaliser("basic")(text) == basic
    assert normaliser("whisper-english")(text) == english


def test_english_of_whisper_equals_its_tokenizer(tmp_path):
    path = tmp_path / "normalizer.json"
    path.write_text('{"colour": "color", "grey": "gray"}')
    pair = [("The colour's grey", "the color is gray")]
    assert scored(pair, normaliser="whisper-english", spellings=path)["wer"] == 0
    assert scored(pair, normaliser="whisper-english")["wer"] == 0.5
    plain, spelled = (Transcription(normaliser="whisper-english", spellings=file) for file in (None, path))
    assert ["normalizer.json" in said for said in plain.remarks([])] == [True]
    assert spelled.remarks([]) == Transcription().remarks([]) == []
    assert spelled.options()["spellings"] == "normalizer.json"


@pytest.mark.parametrize("content", [None, "[]", '{"colour": 1}', "{"])
def test_spellings_that_are_none_are_refused_before_the_model_is_run(tmp_path, content):
    path = tmp_path / "normalizer.json"
    if content is not None:
        path.write_text(content)
    task = find_task("transcription", normaliser="whisper-english", spellings=str(path))
    with pytest.raises(InputError, match=r"normalizer\.json"):
        hw.evaluate(whisper(), task, n=1)
    with pytest.raises(InputError, match="belong to the normaliser"):
        Transcription(spellings=path)


def brute_force(cost: np.ndarray) -> float:
    """The cheapest monotone path, by trying all."""
    rows, columns = cost.shape
    best = math.inf
    for length in range(max(rows, columns), rows + columns):
        for steps in itertools.product([(1, 0), (0, 1), (1, 1)], repeat=length - 1):
            place, total = (0, 0), cost[0, 0]
            for down, right in steps:
                place = (place[0] + down, place[1] + right)
                if place[0] >= rows or place[1] >= columns:
                    break
                total += cost[place]
            else:
                if place == (rows - 1, columns - 1):
                    best = min(best, total)
    return best


def cost_of(cost: np.ndarray, entered: np.ndarray) -> float:
    """The cheapest path that enters each row at these columns."""
    rows, columns = cost.shape
    totals = []
    ends = [
        range(entered[row] if row + 1 == rows else max(entered[row], entered[row + 1] - 1), columns)
        for row in range(rows)
    ]
    for last in itertools.product(*ends):
        steps_on = all(last[row] in (entered[row + 1] - 1, entered[row + 1]) for row in range(rows - 1))
        if last[-1] == columns - 1 and steps_on:
            totals.append(sum(cost[row, entered[row] : last[row] + 1].sum() for row in range(rows)))
    return min(totals, default=math.inf)


@pytest.mark.parametrize("seed", range(4))
def test_the_path_is_the_cheapest(seed):
    cost = np.random.default_rng(seed).normal(size=(3, 4))
    entered = dtw_path(cost)
    assert (np.diff(entered) >= 0).all()
    assert entered[0] == 0
    assert cost_of(cost, entered) == pytest.approx(brute_force(cost))


def test_equal_costs_step_to_the_left():
    assert dtw_path(np.zeros((2, 3))).tolist() == [0, 0]


def test_planted_attention_is_timed_to_a_frame():
    frames, rows = 60, 5
    weights = torch.full((2, rows + 1, frames), 1e-3)
    for row in range(rows):
        weights[:, row + 1, 10 * row : 10 * row + 10] = 1.0
    found = token_start_frames(weights / weights.sum(-1, keepdim=True), first=1, frames=50)
    assert np.abs(found - 10 * np.arange(rows)).max() <= 1
    assert found.max() < 50
    shorter = token_start_frames(weights, first=1, frames=30)
    assert shorter.max() < 30


def test_one_row_or_few_frames_do_not_crash():
    assert token_start_frames(torch.rand(1, 1, 9), first=0, frames=9).tolist() == [0]
    assert token_start_frames(torch.rand(1, 2, 2), first=0, frames=2).tolist()[0] == 0
    with pytest.raises(ValueError, match="nothing to align"):
        token_start_frames(torch.rand(1, 2, 9), first=2, frames=9)


def test_word_starts_of_pieces():
    assert word_starts(["s", "set", "set ", "set t", "set timer", "set timer a"]) == [0, 3, 5]


def manifest(tmp_path, *lines: str):
    path = tmp_path / "clips.tsv"
    path.write_text("\n".join(["id\taudio\ttgt_text", *lines]) + "\n")
    return path


def test_sound_at_another_rate_is_resampled_and_said_so(tmp_path):
    samples, _ = tone(0.5, 8000)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    soundfile.write(tmp_path / "b.flac", np.stack([tone(0.3)[0]] * 2, 1), 16000)
    path = manifest(tmp_path, "one\ta.wav\tab c", "two\tb.flac\t")
    found = hw.evaluate(whisper(), Transcription(data=path, max_new_tokens=4))
    assert found.frame["rate"].to_list() == [8000, 16000]
    assert found.frame["seconds"].to_list() == pytest.approx([0.5, 0.3])
    assert found.manifest["notes"]["sampling rates"] == {"8000": 1, "16000": 1}
    assert found.frame["words"].to_list() == [2, 0]


def test_bad_sounds_are_named_by_line(tmp_path):
    soundfile.write(tmp_path / "good.wav", tone()[0], 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    for name, fact in [
        ("none.wav", "There is no file"),
        ("empty.wav", "has no samples"),
        ("text.wav", "cannot be read as sound"),
        ("", "'audio' is not a text"),
    ]:
        path = manifest(tmp_path, "one\tgood.wav\tab", f"two\t{name}\tab")
        with pytest.raises(InputError, match=f"{fact}.*line 3"):
            Transcription(data=path).examples()


def test_the_decoder_is_not_asked_for_more_tokens_than_it_has(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone()[0], 16000)
    found = hw.evaluate(whisper(), Transcription(data=manifest(tmp_path, "one\ta.wav\tab")))
    assert found.frame["tokens"][0] <= 20


@pytest.mark.slow
def test_shipped_clips_and_their_noise():
    quiet, loud = (Transcription(snr=snr).examples() for snr in (None, 0.0))
    assert len(quiet) == 350
    assert len({item.id for item in quiet}) == 350
    assert not np.array_equal(quiet[0].inputs["audio"][0], loud[0].inputs["audio"][0])
    again = Transcription().examples()[0].inputs["audio"][0]
    np.testing.assert_array_equal(quiet[0].inputs["audio"][0], again)


def planted(subject, inputs, *, check):
    """Every row looks at five frames (0.1 s), each row at those after the row before."""
    examples, rows = inputs["decoder_input_ids"].shape
    weights = torch.full((examples, 1, rows, 50), 1e-3)
    for row in range(3, rows):
        weights[:, :, row, 5 * (row - 3) : 5 * (row - 3) + 5] = 1.0
    return {0: weights / weights.sum(-1, keepdim=True)}


@pytest.mark.parametrize("size", [1, 2])
def test_word_times_of_planted_attention(tmp_path, monkeypatch, size):
    monkeypatch.setattr(word_times, "cross_attention", planted)
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", tone(0.9)[0], 16000)
    (tmp_path / "times.ctm").write_text("a 1 0.0 0.2 ab\na 1 0.30 0.3 c\nb 1 0.05 0.2 c\n")
    path = manifest(tmp_path, "a\ta.wav\tunused", "b\tb.wav\tunused")
    task = WordTimes(data=path, times=tmp_path / "times.ctm")
    found = hw.evaluate(whisper(), task, batch_size=size)
    assert found.frame["answer"].to_list() == ["ab c", "c"]
    # letters are tokens and so is the space: a 0.0, b 0.1, space 0.2, c 0.3
    assert found.frame["clip_error"].to_list() == pytest.approx([0.0, 0.05], abs=0.021)
    assert found.frame["near_100"].to_list() == [2, 1]
    assert found.estimates["timed"].value == 1


def test_generated_words_are_timed_where_they_are_right():
    task = WordTimes(text="generated")
    example = Example("0", {}, "one two three", {"words": ["One", "two", "three"], "starts": [0.0, 1.0, 2.0]})
    metadata = {"words": ["one", "too", "three", "four"], "starts": [0.15, 1.0, 2.05, 3.0]}
    row = task.score(example, Response("one too three four", 4, {}, metadata))
    assert (row["words"], row["timed_words"], row["near_100"], row["near_200"]) == (3, 2, 1, 2)
    assert row["error"] == pytest.approx(0.2)
    nothing = task.score(example, Response("", 0, {}, {"words": [], "starts": []}))
    assert (nothing["timed_words"], nothing["words"]) == (0, 3)
    assert math.isnan(nothing["clip_error"])


def test_word_times_run_on_what_the_model_writes(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.5)[0], 16000)
    (tmp_path / "a.tsv").write_text("id\tword_idx\tword\tstart\tend\na\t0\tab\t0\t0.2\n")
    path = tmp_path / "clips.tsv"
    path.write_text("id\taudio\ttgt_text\twords\na\ta.wav\tab\ta.tsv\n")
    found = hw.evaluate(whisper(), WordTimes(data=path, text="generated"))
    assert found.frame["words"].to_list() == [1]
    with pytest.raises(InputError, match="no head L0H2"):
        hw.evaluate(whisper(), WordTimes(data=path, heads=((0, 2),)))


def test_clips_without_times_are_named_by_line(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone()[0], 16000)
    path = manifest(tmp_path, "a\ta.wav\tab")
    (tmp_path / "times.ctm").write_text("other 1 0.0 0.2 ab\n")
    for times in (None, tmp_path / "times.ctm"):
        with pytest.raises(InputError, match=r"'a' have no times.*line 2"):
            WordTimes(data=path, times=times).examples()
    with pytest.raises(InputError, match="Times belong to data"):
        WordTimes(times=path)


@pytest.mark.parametrize("name", ["transcription", "word-times"])
def test_noise_is_a_level_and_for_the_clips_of_the_zoo(name, tmp_path):
    for level in ("inf", "nan"):
        with pytest.raises(InputError, match=r"should be a (valid|finite) number"):
            find_task(name, snr=level)
        with pytest.raises(InputError, match="no level"):
            {"transcription": Transcription, "word-times": WordTimes}[name](snr=float(level))
    with pytest.raises(InputError, match="zoo's clips only"):
        find_task(name, snr=3, data=tmp_path / "clips.tsv")


def recordings(tmp_path, *seconds):
    """A table of recordings of these lengths, made of the zoo's clip."""
    rate = 16000
    clip = read_audio(hw.zoo.sample("speech").inputs["audio"], rate)
    lines = ["id\taudio\ttgt_text"]
    for number, length in enumerate(seconds):
        wave = np.resize(clip, int(length * rate))
        soundfile.write(tmp_path / f"{number}.wav", wave, rate)
        lines.append(f"r{number}\t{number}.wav\tone two")
    table = tmp_path / "table.tsv"
    table.write_text("\n".join(lines) + "\n")
    return table


def test_recordings_longer_than_the_window_are_transcribed(tmp_path):
    table = recordings(tmp_path, 7, 2, 7)
    task = hw.evaluation.find_task("transcription", data=str(table))
    found = hw.evaluate(hw.load("zoo:speech"), task, batch_size=3)
    responses = found.frame["response"].tolist()
    assert len(responses[0].split()) > len(responses[1].split())
    assert responses[0] == responses[2]
    alone = hw.evaluate(hw.load("zoo:speech"), task, batch_size=1)
    assert alone.frame["response"].tolist() == responses


def test_a_recording_that_the_model_cannot_go_through_is_named(tmp_path, monkeypatch):
    task = hw.evaluation.find_task("transcription", data=str(recordings(tmp_path, 2, 7)))
    monkeypatch.setattr("headwise.evaluation.solvers.transcription.writes_long", lambda model: False)
    with pytest.raises(hw.InputError, match=r"r1 lasts 7.0 s and the model hears 3 s.*1\.wav"):
        hw.evaluate(hw.load("zoo:speech"), task)


def test_the_language_of_each_clip_is_in_the_table(tmp_path):
    subject = multilingual_whisper()
    table = recordings(tmp_path, 0.5, 0.9)
    found = hw.evaluate(subject, hw.evaluation.find_task("transcription", data=str(table), normaliser="none"))
    assert set(found.frame["language"]) <= {"en", "fr"}
    named = hw.evaluation.find_task("transcription", data=str(table), normaliser="none", language="fr")
    told = hw.evaluate(subject, named)
    assert set(told.frame["language"]) == {"fr"}
    assert told.warnings == ()
    (said,) = found.warnings
    assert said == heard_note(found.frame["language"].to_list(), "--set language=CODE")
    assert found.manifest["notes"]["warnings"] == [said]
    with pytest.raises(hw.InputError, match="no task 'sing'"):
        hw.evaluation.find_task("transcription", speech_task="sing")
