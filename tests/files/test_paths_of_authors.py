"""What headwise writes names files and models, and never says where they lie on the author's disk."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path

import pytest

import headwise as hw
from headwise.files import file_name
from headwise.fixes.baking import bake
from headwise.model.location import short_name
from tests.kit.cli import run

SECRET = b"alice"


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


@pytest.mark.slow
def test_no_file_says_where_its_author_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, out = tmp_path / "alice" / "secret-project", tmp_path / "out"
    home.mkdir(parents=True)
    out.mkdir()
    lent = hw.load("zoo:lm")
    lent.model.save_pretrained(home / "m")
    lent.tokenizer.save_pretrained(home / "m")
    rows = [{"question": f"Which {i}?", "options": ["a", "b"], "answer": i % 2} for i in range(8)]
    (home / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "in.txt").write_text("The function")

    subject, fix = hw.load(str(home / "m")), hw.fixes.ZeroHeads(heads=((1, 0),))
    assert subject.name == str(home / "m")
    hw.save_spec(home / "s.json", fix, subject)
    (out / "s.json").write_bytes((home / "s.json").read_bytes())
    task = hw.evaluation.find_task("multiple-choice", data=home / "q.jsonl")
    evaluation = hw.evaluate(subject, task, n=6)
    comparison = hw.compare(subject, task, [fix, str(home / "s.json")], n=6)
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
    data = ["--task", "multiple-choice", "--set", f"data={home / 'q.jsonl'}", "-n", "4"]
    for command, place, more in (
        ("report", "cli.html", ["--text-file", home / "in.txt", "--fix", home / "s.json", *data]),
        ("eval", "cli.json", data),
        ("compare", "cli_c.json", ["--fix", home / "s.json", *data]),
        ("trace", "cli.safetensors", ["--text", "The function"]),
    ):
        done = run(command, home / "m", *more, "--out", home / place)
        assert done.exit_code == 0, done.stderr
        (home / place).rename(out / place)
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 12
    assert [path.name for path in written if any(SECRET in part for part in _contents(path))] == []
