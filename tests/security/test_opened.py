"""What loading a file opens, starts and asks: what was named, as the interpreter and the system see it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import headwise as hw
from tests.kit.stored import harness_result, search
from tests.security.loads import HOSTILE, KINDS, MARK

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
PLACES = (sys.prefix, sys.base_prefix, REPOSITORY / "headwise", REPOSITORY / "tests" / "security")
OWN = tuple(os.path.realpath(place) + os.sep for place in PLACES)
"""The interpreter, installed packages, headwise, and the script that loads."""
SYSTEM = (
    *("/proc/", "/sys/devices/", "/sys/fs/cgroup/", "/sys/kernel/mm/"),
    *("/dev/null", "/dev/urandom", "/usr/share/zoneinfo/", "/etc/ssl/"),
)
"""What the machine says of itself: processors, memory, random numbers, the hour, its certificates."""
LIBRARIES = re.compile(
    r"/(usr/)?lib\S*/\S+\.so[\d.]*|/etc/ld\.so\.(cache|preload)|/usr/(lib|share)/locale/\S*"
)
"""Libraries of the system, which the linker opens."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One folder per kind, with the file of it."""
    root = Path(os.path.realpath(tmp_path_factory.mktemp("files")))
    at = {kind: root / kind for kind in (*KINDS, *HOSTILE)}
    for folder in at.values():
        folder.mkdir()
    _write_models(at)
    _write_results(at)
    _write_data(at)
    return root


def _write_models(at):
    subject = hw.load("zoo:lm")
    for kind in at:
        if "folder" in kind:
            subject.model.save_pretrained(at[kind] / "m")
            subject.tokenizer.save_pretrained(at[kind] / "m")
    named = {"model_type": "detr", "backbone": "microsoft/resnet-50", "use_timm_backbone": False}
    _change(at["folder that names a backbone"] / "m" / "config.json", **named)
    _change(at["folder that names a kernel"] / "m" / "config.json", _attn_implementation="org/kernel")
    tokenizer = {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "org/dac"}
    names = {"processor_class": "DiaProcessor", "audio_tokenizer": tokenizer}
    _change(at["folder with a tokenizer of the hub"] / "m" / "processor_config.json", **names)
    linked = at["folder with a link"] / "m" / "model.safetensors"
    linked.unlink()
    linked.symlink_to(at["model folder"] / "m" / "model.safetensors")


def _change(path, **settings):
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **settings}), encoding="utf-8")


def _write_results(at):
    subject = hw.load("zoo:lm")
    fix = hw.fixes.ScaleHeads(heads=((1, 0),), factor=0.5)
    hw.save_spec(at["spec"] / "spec.json", fix, subject)
    with hw.capture(subject) as trace:
        subject.model(**subject.prepare(text="The function returns"))
    trace.save(at["trace"] / "run.safetensors")
    found, compared = (
        hw.evaluate(subject, "multiple-choice", n=8),
        hw.compare(subject, "multiple-choice", [fix], n=8),
    )
    by_hand = ((search(), "search"), (harness_result(), "harness result"))
    for result, name in ((found, "evaluation"), (compared, "comparison"), *by_hand):
        result.save(at[name] / f"{name[0]}.json")
        result.save(at[f"{name} in Parquet"] / f"{name[0]}.parquet")


def _write_data(at):
    import numpy as np
    import soundfile
    from PIL import Image

    rows = [{"question": "Which one?", "options": ["boat", "lion"], "answer": number} for number in (0, 1)]
    _write_lines(at["task file"], rows)
    for kind, name in (
        ("task file with pictures", "a.png"),
        ("task file with pictures elsewhere", "../picture/a.png"),
    ):
        asked = {"image": name, "text": "a dog?", "label": "yes"}
        _write_lines(at[kind], [{"question_id": number, **asked} for number in (0, 1)])
    (at["text"] / "notes.txt").write_text("One line.\n\nTwo lines.\n", encoding="utf-8")
    for kind in ("picture", "task file with pictures"):
        Image.new("RGB", (32, 32)).save(at[kind] / "a.png")
    soundfile.write(at["sound"] / "a.wav", np.zeros(1600), 16000)
    script = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    (at["PostScript for a picture"] / "a.png").write_text(script, encoding="utf-8")
    (at["text for a sound"] / "a.wav").write_text("no sound", encoding="utf-8")


def _write_lines(folder, rows):
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _load_all(files, *before):
    """The loads in a process of their own, which may ask the hub as far as its environment goes."""
    home = files / "home"
    for folder in (home, files / "temporary"):
        folder.mkdir(exist_ok=True)
    keep = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    python = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home)}
    python["TMPDIR"] = str(files / "temporary")
    command = [*before, sys.executable, "-m", "tests.security.loads", str(files)]
    done = subprocess.run(
        command, env={**keep, **python}, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def seen(files):
    """Kind -> whether it was refused, and what the interpreter saw."""
    _load_all(files)
    return json.loads((files / "events.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def traced(files):
    """Kind -> what the system was asked for."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = files / "strace.txt"
    _load_all(files, "strace", "-f", "-qq", "-e", "trace=open,openat,execve,connect,socket", "-o", str(log))
    calls, kind = {}, None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if MARK in line:
            marked = re.search(f'{MARK}([^"]*)', line).group(1).replace("-", " ")
            kind = None if kind else marked
        elif kind:
            calls.setdefault(kind, []).append(line)
    return calls


def outside(paths, named):
    """Those of the paths that are neither the interpreter's nor what was named; a new file of `tempfile` is its own."""
    real = {os.path.realpath(path) for path in paths}
    allowed = (*OWN, *SYSTEM, str(named) + os.sep, str(named.parent / "temporary") + os.sep)
    return sorted(path for path in real if not path.startswith(allowed) and not os.path.isdir(path))


@pytest.mark.parametrize("kind", [*KINDS, *HOSTILE])
def test_the_interpreter_opens_what_was_named_and_nothing_else(files, seen, kind):
    assert bool(seen[kind]["refused"]) == (kind in HOSTILE), seen[kind]["refused"]
    events = [(event, shown) for event, shown in seen[kind]["events"] if not shown.startswith(MARK)]
    files_of = [
        shown for event, shown in events if event in ("open", "import", "ctypes.dlopen") and shown != "None"
    ]
    found = outside([shown for shown in files_of if os.sep in shown], files / kind)
    assert [
        path for path in found if not (kind in ASKING and path.endswith("/.cache/huggingface/token"))
    ] == []
    asked = [pair for pair in events if pair[0] not in ("open", "import", "ctypes.dlopen")]
    assert [pair for pair in asked if not (kind in ASKING and pair[0] == "socket.getaddrinfo")] == []


ASKING = ("folder that names a backbone", "folder with a tokenizer of the hub")
"""Where transformers begins to ask the hub: the interpreter says so, and the seal refuses before the system hears."""


@pytest.mark.parametrize("kind", [*KINDS, *HOSTILE])
def test_the_system_is_asked_for_what_was_named_and_nothing_else(files, traced, kind):
    lines = traced[kind]
    opened = [
        match.group(1) for line in lines if (match := re.search(r'open(?:at)?\([^"]*"([^"]*)".*= \d+$', line))
    ]
    assert opened or kind.startswith("folder")
    assert [path for path in outside(opened, files / kind) if not LIBRARIES.fullmatch(path)] == []
    assert [line for line in lines if re.search(r"\b(execve|connect|socket)\(", line)] == []
