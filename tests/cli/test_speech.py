"""Sound on the command line: language and task, and recordings longer than a window."""

from __future__ import annotations

import json

import pytest
import soundfile

import headwise as hw
from headwise.subject.speech_prompt import heard_note
from tests.kit.cli import run
from tests.kit.subjects import multilingual_whisper, tone


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A folder with a multilingual Whisper, a sound of its window's length and a long one."""
    folder = tmp_path_factory.mktemp("speech")
    subject = multilingual_whisper()
    subject.model.save_pretrained(folder)
    subject.processor.save_pretrained(folder)
    for name, seconds in (("short", 0.8), ("long", 2.5)):
        soundfile.write(folder / f"{name}.wav", *tone(seconds))
    return folder


def tokens(path):
    return hw.load_trace(path).layout.axes["decoder"].ids


@pytest.mark.parametrize("generate", [(), ("--generate", "4")])
def test_trace_obeys_language_and_task(speech, tmp_path, generate):
    out = tmp_path / "trace.safetensors"
    asked = ("--language", "fr", "--speech-task", "translate")
    done = run("trace", speech, "--audio", speech / "short.wav", *asked, *generate, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    assert not any("language" in text for text in json.loads(done.stdout)["warnings"])
    assert tokens(out)[0, :4].tolist() == [28, 30, 31, 33]


@pytest.mark.parametrize("generate", [(), ("--generate", "4")])
def test_trace_says_which_language_was_detected(speech, tmp_path, generate):
    out = tmp_path / "trace.safetensors"
    done = run("trace", speech, "--audio", speech / "short.wav", *generate, "--out", out, "--json")
    (note,) = [text for text in json.loads(done.stdout)["warnings"] if "language" in text]
    assert note == heard_note([{29: "en", 30: "fr"}[int(tokens(out)[0, 1])]])


@pytest.mark.slow
def test_a_long_recording(speech, tmp_path):
    out = tmp_path / "trace.safetensors"
    sound = ("--audio", speech / "long.wav")
    done = run("trace", speech, *sound, "--out", out)
    assert done.exit_code == 2
    assert "longer than what one forward of this model hears" in done.output
    done = run("trace", speech, *sound, "--generate", "6", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    done = run("report", speech, *sound, "--generate", "6", "--out", tmp_path / "page.html", "--json")
    assert done.exit_code == 0, done.output
    assert any("heard the language" in text for text in json.loads(done.stdout)["warnings"])


def test_patch_says_the_language_that_it_was_not_given(speech, tmp_path):
    spec = tmp_path / "spec.json"
    hw.save_spec(spec, hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5), hw.load(speech))
    sound = ("--audio", speech / "short.wav", "--generate", "4")
    for more, count in (((), 1), (("--language", "en"), 0)):
        done = run("patch", speech, spec, *sound, *more, "--json")
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)["warnings"]
        assert len([text for text in said if "heard the language" in text]) == count


def test_eval_says_which_language_was_detected(speech):
    table = speech / "table.tsv"
    table.write_text("id\taudio\ttgt_text\none\tshort.wav\tab\n", encoding="utf-8")
    asked = ("eval", speech, "--task", "transcription", "--set", f"data={table}", "--set", "max_new_tokens=4")
    done = run(*asked)
    assert done.exit_code == 0, done.output
    assert "warning: The model heard the language" in done.stdout
    assert "--set language=CODE" in done.stdout
    assert "no interval (n = 1)" in done.stdout
    assert "nan" not in done.stdout
    assert "warning:" not in run(*asked, "--set", "language=fr").stdout


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--language", "de"), "This model has no language 'de'"),
        (("--speech-task", "sing"), "There is no task 'sing'"),
    ],
)
def test_languages_and_tasks_that_there_are_not(speech, tmp_path, asked, message):
    done = run("trace", speech, "--audio", speech / "short.wav", *asked, "--out", tmp_path / "t.safetensors")
    assert done.exit_code == 2
    assert message in done.output


def test_a_language_without_sound(speech, tmp_path):
    picture = ("--image", speech / "short.wav")
    done = run("trace", speech, *picture, "--language", "en", "--out", tmp_path / "t.safetensors")
    assert done.exit_code == 2
    assert "belongs to sound, or to text that is translated" in done.output
    done = run(
        "trace", speech, "--text", "a", "--speech-task", "translate", "--out", tmp_path / "t.safetensors"
    )
    assert done.exit_code == 2
    assert "A task belongs to sound" in done.output
