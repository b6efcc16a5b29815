"""What two examples share is found by content: whatever the file, its format, the capitals, the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation import Example, find_task
from headwise.evaluation.comparison.calibration import calibration
from headwise.evaluation.data.components import FileSplit
from headwise.evaluation.data.content import ContentReader, plain_text
from headwise.evaluation.data.groups import group_of, groups_of
from headwise.evaluation.data.splits import in_validation, without_shared
from headwise.evaluation.task_run import TaskRun
from tests.kit.comparisons import Learned, Next, small_subject

RATE = 16000
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
SAMPLES = np.random.default_rng(1).integers(-9000, 9000, 400) / 2**15


def picture(folder, name, pixels=PIXELS, **options):
    Image.fromarray(pixels).save(folder / name, **options)
    return folder / name


def sound(folder, name, samples=SAMPLES):
    soundfile.write(folder / name, samples, RATE)
    return folder / name


def parts(example):
    return {(kind, name) for kind, names in ContentReader().parts(example) for name in names}


SAME = {
    "a copy of a picture": ("image", lambda at: picture(at, "1.png"), lambda at: picture(at, "2.png")),
    "saved again": (
        "image",
        lambda at: picture(at, "1.png"),
        lambda at: picture(at, "2.png", compress_level=0, optimize=False),
    ),
    "another format": ("image", lambda at: picture(at, "1.png"), lambda at: picture(at, "2.bmp")),
    "in memory": ("image", lambda at: picture(at, "1.png"), lambda at: Image.fromarray(PIXELS)),
    "an array": ("image", lambda at: Image.fromarray(PIXELS), lambda at: PIXELS.copy()),
    "one of several": ("image", lambda at: PIXELS, lambda at: [1 - PIXELS // 255, [PIXELS]]),
    "missing, of one name": ("image", lambda at: at / "a" / "1.png", lambda at: str(at / "b" / "1.png")),
    "a copy of a sound": ("audio", lambda at: sound(at, "1.wav"), lambda at: sound(at, "2.wav")),
    "FLAC": ("audio", lambda at: sound(at, "1.wav"), lambda at: sound(at, "2.flac")),
    "two channels": (
        "audio",
        lambda at: sound(at, "1.wav"),
        lambda at: sound(at, "2.wav", np.stack([SAMPLES, SAMPLES], axis=1)),
    ),
    "samples": ("audio", lambda at: sound(at, "1.wav"), lambda at: (SAMPLES, RATE)),
    "a trailing blank": ("text", lambda at: "A cat.", lambda at: "A cat. "),
    "capitals": ("text", lambda at: "Straße", lambda at: "STRASSE"),
    "forms of Unicode": ("text", lambda at: "caf\u00e9 １", lambda at: "cafe\u0301  1"),
}
OTHER = {"image": 255 - PIXELS, "audio": (SAMPLES[::-1], RATE), "text": "A dog."}


@pytest.mark.parametrize("name", SAME)
def test_the_same_content_is_the_same_however_it_is_given(name, tmp_path):
    kind, one, two = SAME[name]
    asked = [{}, {}] if kind == "text" else [{"text": "Is there a cat?"}, {"text": "And a dog?"}]
    first, second, other = (
        Example(str(number), {**asked[number % 2], kind: given}, "yes" if kind == "image" else "")
        for number, given in enumerate((one(tmp_path), two(tmp_path), OTHER[kind]))
    )
    assert parts(first) & parts(second)
    assert not parts(other) & (parts(first) | parts(second))
    assert without_shared([second, other], [first]) == [other]
    if name != "one of several":
        assert group_of(first) == group_of(second) != group_of(other)
        assert in_validation([first]) == in_validation([second])
        assert len(set(in_validation([first, second]))) == 1


LETTERS = st.text("abcdxyzäöß012.,+-", max_size=12)


@given(
    LETTERS, LETTERS, st.lists(st.sampled_from(["", " ", "\n", "\t ", "\u3000"]), min_size=12, max_size=12)
)
def test_blanks_and_capitals_do_not_count_and_everything_else_does(one, two, blanks):
    spread = "".join(map("".join, zip(one, blanks, strict=False))).swapcase()
    assert plain_text(spread) == plain_text(one)
    assert (plain_text(one) == plain_text(two)) == (one.replace("ß", "ss") == two.replace("ß", "ss"))


def test_the_prompt_beside_a_sound_is_not_content_and_the_sentence_is(tmp_path):
    asked = [
        Example(str(number), {"text": "Write down:", "audio": (samples, RATE)}, said)
        for number, (samples, said) in enumerate(
            [(SAMPLES, "Go left!"), (SAMPLES[::-1], "go  left"), (SAMPLES[::2], "go right"), (SAMPLES, "")]
        )
    ]
    assert [item.id for item in without_shared(asked[1:], asked[:1])] == ["2"]
    assert group_of(asked[0]) == group_of(asked[1])
    assert "repeated" not in groups_of(asked[:2]).record  # another voice
    again = replace(asked[0], id="again")
    assert (
        groups_of([*asked[:3], again]).record["groups"] == "4 examples about 2 sentences, 1 of them repeated"
    )


def test_questions_that_are_asked_twice_are_said():
    asked = [
        Example(str(number), {"text": text, "image": PIXELS}, "yes")
        for number, text in enumerate(("A cat?", "a cat ?", "A dog?"))
    ]
    found = groups_of(asked).record
    assert found == {"groups": "3 examples about 1 pictures, 1 of them repeated", "repeated": 1}
    assert groups_of([Example("1", {}, "", group="a"), Example("2", {}, "", group="a")]).record == {
        "groups": "2 examples about 1 groups"
    }


def _perplexity(folder, rows):
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in rows), encoding="utf-8")
    return find_task("perplexity", data=folder / "a.jsonl")


def _multiple_choice(folder, rows):
    lines = [
        {"question": f"Which {text}?", "options": [f"one {text}", "two", "three"][:: 1 - 2 * (place % 2)]}
        for place, text in enumerate(rows)
    ]
    lines = [json.dumps(line | {"answer": 0}) for line in lines]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return find_task("multiple-choice", data=folder / "a.jsonl")


def _translation(folder, rows):
    lines = [f"{place}\t{text}\tla {text}" for place, text in enumerate(rows)]
    (folder / "a.tsv").write_text("\n".join(["id\tsrc\ttgt", *lines]), encoding="utf-8")
    return find_task("translation", data=folder / "a.tsv", source="en", target="fr")


def _transcription(folder, rows):
    lines = []
    for place, text in enumerate(rows):
        samples = np.random.default_rng(place).uniform(-0.5, 0.5, 50)
        lines.append(f"{place}\t{sound(folder, f'{place}.wav', samples).name}\t{text}")
    (folder / "a.tsv").write_text("\n".join(["id\taudio\ttgt_text", *lines]), encoding="utf-8")
    return find_task("transcription", data=folder / "a.tsv", prompt="Write down:")


def _pictures(folder, rows):
    names = []
    for place, text in enumerate(rows):
        pixels = np.random.default_rng(sum(plain_text(text).encode())).integers(0, 256, (4, 4, 3))
        name = picture(folder, f"{place}.png", pixels.astype(np.uint8), compress_level=place % 10).name
        names.append(name)
    return names


def _yes_no(folder, rows):
    lines = [f"{name}\tIs it {word}?\tYes" for name in _pictures(folder, rows) for word in ("a", "b")]
    (folder / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    return find_task("yes-no", data=folder / "a.txt")


def _pope(folder, rows):
    lines = [
        json.dumps({"question_id": place, "image": name, "text": f"Is there a {place}?", "label": "yes"})
        for place, name in enumerate(_pictures(folder, rows))
    ]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return find_task("pope", data=folder / "a.jsonl")


OVER_FILES = (_perplexity, _multiple_choice, _translation, _transcription, _yes_no, _pope)


@pytest.mark.parametrize("made", OVER_FILES)
def test_no_copy_of_what_a_file_tests_with_is_fitted_on(made, tmp_path):
    texts = [f"word {number * number}" for number in range(20)]
    task = made(tmp_path, texts + [f"{text.upper()} " for text in texts])
    examples = list(task.examples())
    held = sum(in_validation(examples))
    assert 0 < held < 40
    assert held % 2 == 0  # both copies
    for n, exclude in ((40 - held, None), (40 - held + 1, None), (40 - held + 1, "test")):
        test = task.draw(n, 0)
        fitted_on = task.validation(held - 2 if exclude else held // 2, 0, exclude=test if exclude else ())
        shared = set().union(*map(parts, test)) & set().union(*map(parts, fitted_on))
        assert not shared or (n > 40 - held and not exclude)
        assert not exclude or fitted_on.left_out == 1
    with pytest.raises(InputError, match=r"0 beside the 40|; 1 more share a picture, sound or text"):
        task.validation(held - 1, 0, exclude=task.draw(40 - held + 1, 0))


def test_pictures_that_many_examples_share_are_divided_and_an_example_about_both_sides_is_of_neither():
    pixels = [np.full((2, 2, 3), value, np.uint8) for value in range(40)]
    pairs = [
        Example(str(number), {"image": [pixels[number], pixels[(number * 7 + step) % 40]]}, "")
        for number in range(40)
        for step in (1, 2)
    ]
    pairs = [replace(example, id=str(place)) for place, example in enumerate(pairs)]
    split = FileSplit(pairs)
    sides = [split.side(example) for example in pairs]
    assert {split.component(example) for example in pairs} == {0}
    assert set(sides) == {True, False, None}
    one, other = (
        set().union(*(parts(example) for example, side in zip(pairs, sides, strict=True) if side is which))
        for which in (True, False)
    )
    assert not one & other


@pytest.mark.slow
def test_clips_whose_sentence_is_tested_are_left_out_and_counted():
    task = find_task("transcription", prompt="Write down:")
    test = task.draw(100, 0)
    found = task.validation(100, 0, exclude=test)
    assert {item.answer for item in test}.isdisjoint(item.answer for item in found)
    assert found.left_out > 20


class Doubled(Next):
    """Every text once more, in capitals."""

    def examples(self):
        found = super().examples()
        return found + [
            replace(item, id=f"{item.id}x", inputs={"text": f" {item.inputs['text'].upper()}"})
            for item in found
        ]


def test_what_was_left_out_is_said_and_stands_in_the_json(tmp_path):
    subject, task = small_subject(), Doubled()
    held = sum(in_validation(task.examples()))
    n = 80 - held + 1
    found = hw.compare(subject, task, Learned(), n=n, calibrate=held - 2)
    assert found.manifest["fitted"]["left_out"] == 1
    assert "without 1 that share content" in found.manifest["fitted"]["on"]
    assert "Not fitted on, since they share content with these: 1 examples." in found.summary
    loaded = hw.load_comparison(found.save(tmp_path / "found.json"))
    assert loaded.summary == found.summary
    data = calibration(TaskRun.create(subject, task), held - 2, 0, exclude=task.draw(n, 0))
    assert data.left_out == 1
    assert data.groups is not None
    quiet = hw.compare(subject, task, Learned(), n=20, calibrate=4)
    assert quiet.manifest["fitted"]["left_out"] == 0
    assert "Not fitted on" not in quiet.summary


def test_a_search_says_what_it_left_out():
    pytest.importorskip("optuna", reason="hw.search tries settings with Optuna")
    task = Doubled()
    held = sum(in_validation(task.examples()))
    head = hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5)
    found = hw.search(
        small_subject(), task, head, space={"factor": (0, 1)}, trials=2, n=80 - held + 1, calibrate=held - 2
    )
    assert found.manifest["left_out"] == 1
    assert "Not chosen on, since they share content with the test: 1 examples." in found.summary


def test_a_split_of_a_task_that_holds_what_is_compared_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Leaking(Next):
        name: ClassVar[str] = "leaking"

        def draw(self, n, seed):
            return self.examples()[:n]

        def validation(self, n, seed, *, exclude=()):
            return [replace(item, id=f"v{item.id}") for item in self.examples()[-n:]]

    with pytest.raises(InputError, match=r"leaking holds what is compared.*2 of 10"):
        hw.compare(small_subject(), Leaking(), Learned(), n=32, calibrate=10)
