"""Pictures, sounds and times that a data file names: within its folder or the one that is given, or refused by line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from headwise.errors import InputError
from headwise.evaluation import find_task, task_names
from headwise.evaluation.task import Task

ANSWERS = {"answers": [{"answer": "a"}] * 10, "question_id": 1}


def lines(folder: Path, **row: object) -> Path:
    path = folder / "q.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")
    return path


def document(folder: Path, name: str, content: object) -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder / name


def table(folder: Path, **row: str) -> Path:
    (folder / "clips.tsv").write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n", newline="")
    return folder / "clips.tsv"


def pope(folder: Path, name: str, **options: object) -> Task:
    data = lines(folder, question_id=1, image=name, text="a dog?", label="yes")
    return find_task("pope", data=data, **options)


def yes_no(folder: Path, name: str, **options: object) -> Task:
    data = lines(folder, image=name, question="a dog?", answer="Yes")
    return find_task("yes-no", data=data, **options)


def mme(folder: Path, name: str, **options: object) -> Task:
    (folder / "texts").mkdir(exist_ok=True)
    (folder / "texts" / "color.txt").write_text(f"{name}\ta?\tYes\n{name}\tb?\tNo\n", newline="")
    return find_task("yes-no", data=folder / "texts", **{"images": folder, **options})


def vqa(folder: Path, name: str, **options: object) -> Task:
    question = {"question_id": 1, "image_id": 1, "question": "a?", "image": name}
    data = document(folder, "questions.json", {"questions": [question]})
    answers = document(folder, "answers.json", {"annotations": [ANSWERS]})
    return find_task("vqa", data=data, annotations=answers, **options)


def vqa_by_id(folder: Path, name: str, **options: object) -> Task:
    question = {"question_id": 1, "image_id": name, "question": "a?"}
    data = document(folder, "questions.json", {"questions": [question]})
    answers = document(folder, "answers.json", {"annotations": [ANSWERS]})
    return find_task("vqa", data=data, annotations=answers, file_name="{image_id}", **options)


def chair(folder: Path, name: str, **options: object) -> Task:
    images = [{"id": 1, "file_name": name}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    return find_task("chair", data=document(folder, "instances.json", content), **options)


def transcription(folder: Path, name: str) -> Task:
    return find_task("transcription", data=table(folder, id="one", audio=name, tgt_text="a"))


def word_times(folder: Path, name: str) -> Task:
    (folder / "times.ctm").write_text("one 1 0 0.5 a\n")
    return find_task(
        "word-times", data=table(folder, id="one", audio=name, tgt_text="a"), times=folder / "times.ctm"
    )


def words_of_clip(folder: Path, name: str) -> Task:
    if name.endswith(".wav"):
        name = name.replace(".wav", ".ctm")
    return find_task("word-times", data=table(folder, id="one", audio="in.wav", tgt_text="a", words=name))


PICTURES = (pope, yes_no, mme, vqa, vqa_by_id, chair)
SOUNDS = (transcription, word_times, words_of_clip)
NAMES = (
    *("PRIVATE", "../private/id", "sub/../../private/id", "link", "folder/id", "~/id", "C:\\id", "C:/id"),
    *("https://example.org/id", "file:///id", "\\\\host\\share\\id", "/dev/zero", "/dev/stdin", "fifo"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture, a sound and its times, links that leave it, and the private ones beside it."""
    own, private = tmp_path / "task", tmp_path / "private"
    for place, name in ((own / "sub", "in"), (own, "in"), (private, "id")):
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(place / f"{name}.png")
        soundfile.write(place / f"{name}.wav", np.zeros(1600), 16000)
        (place / f"{name}.ctm").write_text("one 1 0 0.5 a\n")
    (own / "folder").symlink_to(private)
    for suffix in (".png", ".wav", ".ctm"):
        (own / f"link{suffix}").symlink_to(private / f"id{suffix}")
        os.mkfifo(own / f"fifo{suffix}")
    return own


@pytest.mark.parametrize("build", [*PICTURES, *SOUNDS])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_outside_is_refused_with_the_line(folder: Path, name: str, build: Callable[..., Task]) -> None:
    suffix = "" if name.startswith("/dev") else ".png" if build in PICTURES else ".wav"
    named = name.replace("PRIVATE", str(folder.parent / "private" / "id")) + suffix
    with pytest.raises(InputError, match=r"no path|leads out|There is no|no regular file") as error:
        build(folder, named).draw(1, 0)
    assert re.search(
        r"(q\.jsonl|color\.txt|clips\.tsv), line \d|questions\[0\]|instances\.json, image 1", str(error.value)
    )


@pytest.mark.parametrize("build", PICTURES)
def test_the_folder_that_is_given_is_the_one_that_counts(folder: Path, build: Callable[..., Task]) -> None:
    (example,) = build(folder, "in.png", images=folder / "sub").draw(1, 0)
    pictures = example.inputs["image"]
    assert set(pictures if isinstance(pictures, list) else [pictures]) == {folder / "sub" / "in.png"}
    with pytest.raises(InputError, match="leads out of"):
        build(folder, "../in.png", images=folder / "sub").draw(1, 0)


@pytest.mark.parametrize("build", SOUNDS)
@pytest.mark.parametrize("name", ["in.wav", "./in.wav", "sub/in.wav"])
def test_sounds_beside_the_table_or_below(folder: Path, name: str, build: Callable[..., Task]) -> None:
    (example,) = build(folder, name).draw(1, 0)
    assert example.metadata["rate"] == 16000


@pytest.mark.parametrize("name", ["yes-no", "word-times"])
def test_a_folder_of_files_has_no_links_out(folder: Path, name: str) -> None:
    texts, suffix = folder / "texts", {"yes-no": ".txt", "word-times": ".TextGrid"}[name]
    texts.mkdir()
    private = folder.parent / "private" / f"a{suffix}"
    private.write_text("in.png\ta?\tYes\nin.png\tb?\tNo\n")
    (texts / f"a{suffix}").symlink_to(private)
    options = {"data": texts, "images": folder} if name == "yes-no" else {"times": texts}
    if name == "word-times":
        options["data"] = table(folder, id="one", audio="in.wav", tgt_text="a")
    with pytest.raises(InputError, match="leads out of"):
        find_task(name, **options).draw(1, 0)


@pytest.mark.slow
def test_every_task_that_takes_pictures_or_sound_stands_here() -> None:
    kinds = {"pope", "yes-no", "vqa", "chair", "transcription", "word-times"}
    drawn = {"scene-color", "scene-count", "scene-existence"}
    variants = {"pope-adversarial", "pope-popular", "pope-random"}
    found = {name for name in task_names() if {"image", "audio"} & set(find_task(name).draw(1, 0)[0].inputs)}
    assert found == kinds | drawn | variants
