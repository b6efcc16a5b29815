"""Every way in which a file of somebody else comes in: whole files to begin with, and what is done with one."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import headwise as hw
from headwise.evaluation import find_task
from headwise.folders import MARK, check_folder
from headwise.readers.yaml import parse_yaml
from headwise.subject.media import read_audio, read_image
from tests.kit.stored import STORED


@dataclass(frozen=True)
class Loader:
    """One way in."""

    name: str
    """Of the file that it reads, in a folder of its own."""
    seeds: tuple[bytes, ...]
    """Files as they should be."""
    read: Callable[[Path], Any]
    """What comes of it."""
    look: Callable[[Any], object] = repr
    """Shows all that came of it."""


TASK_FILES: Mapping[str, tuple[str, str]] = {
    "multiple-choice": (
        "data",
        '{"question": "Which?", "options": ["a", "b"], "answer": "B", "id": 1}\n' * 2,
    ),
    "perplexity": ("data", '{"text": "One paragraph."}\n{"text": "Two.", "id": "x"}\n'),
    "ioi": ("data", '{"prompt": "When Mary and John met", "answer": " Mary", "wrong": " John"}\n' * 2),
    "pope": (
        "data",
        "".join(
            json.dumps({"question_id": n, "image": f"{n}.png", "text": "a dog?", "label": "yes"}) + "\n"
            for n in (1, 2)
        ),
    ),
    "yes-no": (
        "data",
        '{"image": "1.png", "question": "a dog?", "answer": "Yes", "category": "color"}\n' * 2,
    ),
    "transcription": ("data", "id\taudio\ttgt_text\none\t1.wav\ta word\ntwo\t1.wav\tanother\n"),
    "translation": (
        "data",
        "id\tsrc\ttgt\tsrc_lang\ttgt_lang\none\tgood\tgut\ten\tde\ntwo\tday\tTag\ten\tde\n",
    ),
}
"""Task -> the option that names its file, and such a file."""
QUESTIONS = {"questions": [{"question_id": 1, "image_id": 1, "question": "a?"}]}
ANNOTATIONS = {
    "annotations": [{"question_id": 1, "answers": [{"answer": "a"}] * 4, "answer_type": "other"}],
}
INSTANCES = {
    "images": [{"id": 1, "file_name": "1.png"}],
    "annotations": [{"image_id": 1, "category_id": 1}],
    "categories": [{"id": 1, "name": "cat"}],
}
CAPTIONS = {"annotations": [{"image_id": 1, "caption": "a cat and two dogs"}]}
TEXT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "a"
"""
CHOICE = """task: t
dataset_path: json
dataset_kwargs: {data_files: {test: q.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [" A", " B"]
doc_to_target: answer
"""
"""A task of the harness over a file beside it."""
HARNESS = f"{CHOICE}metadata: {{version: 1, known: &a [1, 2.5, true, null], again: *a}}\n"
CONFIG = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 8,
    "vocab_size": 16,
    "n_positions": 8,
}
FIXES = (
    *("VAR", "VAR:p=0.4,layers=[1,2]", "ZERO_HEADS:heads=[[1,0],[0,1]]", "VAR+VHR", "MASK_KEYS:keys=[0,2]"),
    *("SCALE_HEADS:heads=[[0,0]],factor=0.5", "SET_ROWS:heads=[[0,0]],row=1,weights=[[0,0.5],[1,0.5]]"),
    *('ZERO_HEADS:heads=[[1,2]],tower="text"', "zero-heads:heads=[[1,0]]+scale_heads:heads=[[0,0]],factor=2"),
)
IMAGES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SOUNDS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
)


def loaders(group: str) -> dict[str, Loader]:
    """The ways in of a group, by name."""
    from tests.kit.model_folders import model_folders
    from tests.kit.task_files import task_files, templates

    groups = {
        "short": lambda: (*_short(), *templates()),
        "texts": _texts,
        "stored": _stored,
        "media": _media,
        "tasks": task_files,
        "folders": model_folders,
    }
    return dict(groups[group]())


def _short() -> Iterator[tuple[str, Loader]]:
    yield "fix", Loader("fix.txt", tuple(map(str.encode, FIXES)), _fix)
    yield "yaml", Loader("t.yaml", (HARNESS.encode(),), lambda path: parse_yaml(path.read_bytes(), where="t"))
    mark = {"written by": "headwise", "kind": "report", "files": {"index.html": ["0"], "data/a.js": ["0"]}}
    yield (
        "mark",
        Loader(MARK, (json.dumps(mark).encode(),), lambda path: check_folder(path.parent, kind="report")),
    )


def _texts() -> Iterator[tuple[str, Loader]]:
    for task, (option, text) in TASK_FILES.items():
        suffix = ".tsv" if "\t" in text else ".jsonl"
        yield f"task {task}", Loader(f"a{suffix}", (text.encode(),), partial(_task, task, option))
    yield "task perplexity, text", Loader("a.txt", (b"One.\n\nTwo.\n",), partial(_task, "perplexity", "data"))
    mme = b"1.png\ta?\tYes\n1.png\tb?\tNo\n"
    yield "task yes-no, text", Loader("a.txt", (mme,), partial(_task, "yes-no", "data"))
    for name, option, document in (
        ("vqa", "data", QUESTIONS),
        ("vqa", "annotations", ANNOTATIONS),
        ("chair", "data", INSTANCES),
        ("chair", "captions", CAPTIONS),
    ):
        yield (
            f"task {name}, {option}",
            Loader("a.json", (json.dumps(document).encode(),), partial(_task, name, option)),
        )
    yield "words", Loader("w.txt", (b"cat, kitten\ndog, puppy\n",), partial(_task, "chair", "synonyms"))
    yield (
        "links",
        Loader("l.txt", (b"0-0 1p1\n0-1\n", b"1 0 1 S\n2 1 0 P\n"), partial(_task, "alignment", "gold")),
    )
    for suffix, text in (
        (".ctm", ";; words\none 1 0.0 0.5 a\none 1 0.5 0.2 b\n"),
        (".tsv", "id\tword_idx\tword\tstart\tend\none\t0\ta\t0.1\t0.3\n"),
        (".TextGrid", TEXT_GRID),
    ):
        yield (
            f"times {suffix}",
            Loader(f"one{suffix}", (text.encode(),), partial(_task, "word-times", "times")),
        )
    yield "config", Loader("config.json", (json.dumps(CONFIG).encode(),), _config)


def _stored() -> Iterator[tuple[str, Loader]]:
    for name, kind in STORED.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{kind.suffix}"
            kind.write(path)
            seed = path.read_bytes()
        yield name, Loader(path.name, (seed,), kind.read, kind.look)


def _media() -> Iterator[tuple[str, Loader]]:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    for name in IMAGES:
        seeds = []
        for image in (Image.fromarray(noise), Image.fromarray(noise).convert("P")):
            if name != "JPEG" or image.mode == "RGB":
                image.save(held := io.BytesIO(), format=name)
                seeds.append(held.getvalue())
        yield f"image {name}", Loader("a.png", tuple(seeds), lambda path: read_image(path).getpixel((0, 0)))
    import soundfile

    wave = np.sin(np.arange(1200) / 5).astype("float32")
    for name, subtype in SOUNDS:
        soundfile.write(
            held := io.BytesIO(), wave, 8000 if subtype == "FLOAT" else 16000, format=name, subtype=subtype
        )
        yield (
            f"sound {name} {subtype}",
            Loader("a.wav", (held.getvalue(),), lambda path: read_audio(path, 16000)),
        )


def _fix(path: Path) -> object:
    from headwise.fixes.parsing import parse_fix

    return repr(parse_fix(path.read_bytes().decode("utf-8", "replace")))


def _task(name: str, option: str, path: Path) -> object:
    """Draws from a task whose other files are as they should be."""
    folder = path.parent
    if not (folder / "1.png").exists():
        _beside(folder)
    rest: dict[str, Any] = {
        "vqa": {"data": "vqa.json", "annotations": "answers.json", "images": "", "file_name": "1.png"},
        "chair": {"data": "coco.json"},
        "pope": {"images": ""},
        "alignment": {"data": "pairs.tsv"},
        "word-times": {"data": "clips.tsv"},
    }.get(name, {})
    options = {key: folder / value if key != "file_name" else value for key, value in rest.items()}
    task = find_task(name, **{**options, option: path})
    return [repr(example)[:100] for example in task.draw(1, 0)], list(task.examples()), task.metrics


def _beside(folder: Path) -> None:
    """The files that data files name."""
    import soundfile
    from PIL import Image

    soundfile.write(folder / "1.wav", np.zeros(800, "float32"), 16000)
    for name, value in (("vqa", QUESTIONS), ("answers", ANNOTATIONS), ("coco", INSTANCES)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "pairs.tsv").write_text("id\tsrc\ttgt\none\ta b\tc d\ntwo\ta b\tc d\n")
    (folder / "clips.tsv").write_text("id\taudio\ttgt_text\none\t1.wav\ta b\n")
    for name in ("2.png", "1.png"):
        Image.new("RGB", (4, 4)).save(folder / name)


def _config(path: Path) -> object:
    """As far as a folder gets without weights: everything that `config.json` says is read before."""
    try:
        return hw.load(str(path.parent))
    except hw.LoadError as error:
        if "no file named" not in error.evidence:
            raise
        return None
