"""What headwise writes names files and models, and never says where they lie on the author's disk."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

import headwise as hw
from headwise.files import file_name
from headwise.fixes.baking import bake
from headwise.model.location import short_name
from tests.kit.cli import run
from tests.kit.loaders import CHOICE

SECRET = b"secret-project"
FILES = ("path", "folder")
"""Answers of commands say where they wrote what they were asked to write, in the words of the command."""

TASK = f"{CHOICE}metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]\n"


@pytest.mark.parametrize(
    "path",
    [
        "/home/alice/m",
        "~/m",
        "~alice/m",
        "../alice/m",
        "../../home/alice/m",
        "C:\\Users\\alice\\m",
        "C:/alice/m",
    ],
)
def test_a_path_that_leads_elsewhere_is_its_name(path: str) -> None:
    assert file_name(path) == short_name(path) == "m"


@pytest.mark.parametrize("name", ["zoo:lm", "org/model", "gpt2", "VAR:p=0.4,layers=[1,2]", "data/q.jsonl"])
def test_other_names_are_left_alone(name: str) -> None:
    assert file_name(name) == short_name(name) == name


def _contents(path: Path) -> list[bytes]:
    """The bytes of a file, what is packed into them, and the metadata of a table."""
    content = path.read_bytes()
    found = [content]
    for text in re.findall(rb"[A-Za-z0-9+/]{200,}={0,2}", content):
        if len(text) % 4 == 1:  # a long word of a script before or behind it
            text = text[:-1]
        packed = base64.b64decode(text + b"=" * (-len(text) % 4))
        found.append(packed)
        for bits in (zlib.MAX_WBITS, zlib.MAX_WBITS | 16, -zlib.MAX_WBITS):
            try:
                found.append(zlib.decompress(packed, bits))
            except zlib.error:
                continue
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        table = parquet.read_table(path)
        found += [repr(table.schema.metadata).encode(), table.to_pandas().to_csv().encode()]
    return found


@pytest.mark.parametrize(
    ("places", "labels"),
    [
        (("one/s.json", "two/s.json"), ["one/s.json", "two/s.json"]),
        (("one/s.json", "one/in/s.json"), ["s.json", "in/s.json"]),
        (("one/s.json", "two/t.json"), ["s.json", "t.json"]),
    ],
)
@pytest.mark.parametrize("given", ["absolute", "relative", "a list"])
def test_specs_of_one_name_are_told_apart_by_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: tuple[str, ...], labels: list[str], given: str
) -> None:
    from headwise.evaluation.comparison.arms import parse_arms
    from tests.kit.stored import STORED

    home = tmp_path / "alice"
    paths = [home / place for place in places]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        STORED["spec"].write(path)
    (home / "here").mkdir()
    monkeypatch.chdir(home / "here")
    if given == "relative":
        paths = [Path("..", place) for place in places]
    arms = parse_arms([[str(path), "VAR"] for path in paths] if given == "a list" else [*map(str, paths)])
    assert [arm.label.removesuffix(" + VAR") for arm in arms] == labels
    with pytest.raises(hw.InputError, match="Two arms are called"):
        parse_arms([str(paths[0]), str(paths[0])])


@pytest.mark.slow
def test_no_file_says_where_its_author_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, out = tmp_path / SECRET.decode(), tmp_path / "out"
    home.mkdir()
    out.mkdir()
    lent = hw.load("zoo:lm")
    lent.model.save_pretrained(home / "m")
    lent.tokenizer.save_pretrained(home / "m")
    rows = [{"question": f"Which {i}?", "options": ["a", "b"], "answer": i % 2} for i in range(100)]
    (home / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "in.txt").write_text("The function")

    subject, fix = hw.load(str(home / "m")), hw.fixes.ZeroHeads(heads=((1, 0),))
    assert subject.name == str(home / "m")
    hw.save_spec(home / "s.json", fix, subject)
    (out / "s.json").write_bytes((home / "s.json").read_bytes())
    task = hw.evaluation.find_task("multiple-choice", data=home / "q.jsonl")
    evaluation = hw.evaluate(subject, task, n=12)
    comparison = hw.compare(subject, task, [fix, str(home / "s.json")], n=12)
    for suffix in ("json", "parquet"):
        evaluation.save(out / f"e.{suffix}")
        comparison.save(out / f"c.{suffix}")
    hw.report(comparison, out / "c.html")
    hw.report(subject, out / "r.html", examples=[{"text": "The function"}], fixes=str(home / "s.json"))
    with hw.capture(subject) as trace:
        subject.model(**subject.prepare(text="hello"))
    trace.save(out / "t.safetensors")
    hw.report(trace, out / "t.html")
    bake(subject, (fix,), out / "baked")
    data = ["--task", "multiple-choice", "--set", f"data={home / 'q.jsonl'}", "-n", "10"]
    (home / "again").mkdir()
    (home / "again" / "s.json").write_bytes((home / "s.json").read_bytes())
    fixes = ["--fix", home / "s.json", "--fix", home / "again" / "s.json"]
    (home / "t.yaml").write_text(TASK)
    words = ["--text", "The function"]
    answers = []
    for command, place, more in (
        ("report", "cli.html", ["--text-file", home / "in.txt", "--fix", home / "s.json", *data]),
        ("eval", "cli.json", data),
        ("compare", "cli_c.json", [*fixes, *data]),
        ("compare", "cli_c.html", [*fixes, *data]),
        ("trace", "cli.safetensors", words),
        ("fit", "cli_f.json", ["--fix", "ACT", *data]),
        (
            "search",
            "cli_s.parquet",
            [
                "--fix",
                "SCALE_HEADS:heads=[[1,0]],factor=0.5",
                "--space",
                "factor=0:1",
                "--trials",
                "3",
                "--calibrate",
                "20",
                *data,
            ],
        ),
        ("harness", "cli_h.json", ["--task", home / "t.yaml", *fixes, "--limit", "2"]),
        ("harness", "cli_h.csv", ["--task", home / "t.yaml", "--limit", "2"]),
        ("patch", None, [home / "s.json", *words]),
        ("patch", None, [home / "s.json", "--bake", home / "cli_baked"]),
        ("doctor", None, []),
    ):
        done = run(command, home / "m", *more, *(["--out", home / place] if place else []), "--json")
        assert done.exit_code == 0, (command, done.stderr)
        answers.append({name: value for name, value in json.loads(done.stdout).items() if name not in FILES})
        if place:
            (home / place).rename(out / place)
    assert [answer for answer in answers if SECRET in json.dumps(answer).encode()] == []
    for found in (evaluation, comparison, hw.analyses.entropy(trace)):
        found.save(out / f"{type(found).__name__}.html")
        assert SECRET.decode() not in f"{found!r}{found._repr_html_()}"
    assert SECRET.decode() not in f"{trace!r}{trace._repr_html_()}"
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 12
    assert [path.name for path in written if any(SECRET in part for part in _contents(path))] == []


@pytest.mark.slow
@pytest.mark.parametrize(("zoo", "given"), [("zoo:vlm", "image"), ("zoo:speech", "audio")])
def test_no_file_says_where_pictures_and_sounds_lie(tmp_path: Path, zoo: str, given: str) -> None:
    import numpy as np
    import soundfile
    from PIL import Image

    home, out = tmp_path / SECRET.decode(), tmp_path / "out"
    home.mkdir()
    out.mkdir()
    files = {"image": home / "p.png", "audio": home / "s.wav"}
    Image.new("RGB", (64, 48), (200, 30, 30)).save(files["image"])
    soundfile.write(files["audio"], np.sin(np.arange(8000) / 9).astype("float32"), 16000)
    subject = hw.load(zoo)
    inputs: dict[str, Any] = {given: str(files[given])} | (
        {"text": "is there a ball in the image ?"} if given == "image" else {}
    )
    run_model: Any = subject.model if given == "image" else subject.model.generate
    with hw.capture(subject, maps=True) as trace:
        run_model(**subject.prepare(**inputs))
    trace.save(out / "t.safetensors")
    hw.analyses.entropy(trace).save(out / "e.json")
    hw.report(trace, out / "t.html", examples=[inputs], subject=subject)
    hw.report(subject, out / "r.html", examples=[inputs], generate=2)
    hw.report(subject, out / "folder.html", examples=[inputs], limit=1)
    flags = [part for name, value in inputs.items() for part in (f"--{name}", value)]
    answers = []
    for command, place in (("report", "cli.html"), ("trace", "cli.safetensors")):
        done = run(command, zoo, *flags, "--out", home / place, "--json")
        assert done.exit_code == 0, (command, done.stderr)
        answers.append({name: value for name, value in json.loads(done.stdout).items() if name not in FILES})
        (home / place).rename(out / place)
    assert [answer for answer in answers if SECRET in json.dumps(answer).encode()] == []
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 7
    assert [path.name for path in written if any(SECRET in part for part in _contents(path))] == []
    assert SECRET.decode() not in f"{trace!r}{trace._repr_html_()}{hw.view(trace).about}"
