"""`headwise serve`: the server of transformers as a process, patched from the first token."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import headwise as hw
from headwise.cli._run_serve import cache_share
from headwise.cli.session import session
from headwise.model.location import short_name
from tests.kit.cli import run

TEXT = "The function returns"
SCALE = hw.fixes.ScaleHeads(heads=((1, 0), (1, 3), (2, 1)), factor=0.0)
ACT = hw.fixes.ACT(heads=tuple((1, head) for head in range(8)), tau=0.05, beta=0.0, min_rows=1)


def spec(fix: Any, folder: Path) -> Path:
    """A spec of zoo:lm."""
    path = folder / "spec.json"
    hw.save_spec(path, fix, hw.load("zoo:lm"))
    return path


def reply(fix: Any) -> str:
    """What `generate` writes under a fix."""
    subject = hw.load("zoo:lm")
    inputs = subject.prepare(text=TEXT)
    generate: Any = subject.model.generate
    with hw.patch(subject, fix):
        ids = generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return subject.tokenizer.decode(ids, skip_special_tokens=True)


@contextmanager
def served(*arguments: str) -> Iterator[str]:
    """A server on this machine alone, and its address."""
    with serving(*arguments) as (_, address):
        yield address


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The same, with its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "headwise", "serve", "zoo:lm", *arguments]
    place = ["--host", "127.0.0.1", "--port", port, "--dtype", "float32", "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *place], env=environment, stderr=subprocess.PIPE)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (process.communicate()[1] or b"").decode()[-2000:]
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield process, address
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)


def completion(address: str) -> str:
    """What the server writes."""
    asked = {
        "model": short_name(str(hw.zoo.zoo_folder("lm"))),
        "prompt": TEXT,
        "max_tokens": 8,
        "temperature": 0.0,
    }
    request = urllib.request.Request(
        f"{address}/v1/completions", json.dumps(asked).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["text"]


@pytest.mark.slow
@pytest.mark.parametrize(("fix", "options"), [(SCALE, []), (ACT, []), (SCALE, ["--continuous-batching"])])
def test_the_server_of_transformers_is_patched_from_the_first_token(
    fix: Any, options: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    wanted = reply(fix)
    assert wanted != reply(hw.fixes.ZeroHeads(heads=()))
    with served("--spec", str(spec(fix, tmp_path)), *options) as address:
        assert [completion(address) for _ in range(3)] == [wanted] * 3
        other = urllib.request.Request(
            f"{address}/v1/completions",
            b'{"model": "x", "prompt": "a"}',
            {"content-type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(other, timeout=60)
        assert str(hw.zoo.zoo_folder("lm").parent) not in refused.value.read().decode()


@pytest.mark.parametrize(
    ("options", "limited"),
    [
        (["--device", "cpu"], True),
        (["--device=mps"], True),
        (["--device", "cuda:0"], False),
        (["--device", "cpu", "--cb-max-memory-percent=0.3"], False),
        (["--device", "cpu", "--cb-num-blocks", "64"], False),
    ],
)
def test_the_cache_takes_a_few_gigabytes_of_a_cpu_and_what_the_user_says(
    options: list[str], limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    psutil = pytest.importorskip("psutil", reason="memory is measured with psutil")
    for gigabytes, share in ((4, 0.6), (8, 0.5), (32, 0.125), (512, 0.0078)):
        memory = SimpleNamespace(total=gigabytes * 2**30)
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        assert cache_share(options) == (share if limited else None)


@pytest.mark.slow
def test_a_server_with_continuous_batching_says_what_it_takes_and_takes_no_more(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    psutil = pytest.importorskip("psutil", reason="memory is measured with psutil")
    with serving("--spec", str(spec(SCALE, tmp_path)), "--continuous-batching") as (process, address):
        assert completion(address) == reply(SCALE)
        assert psutil.Process(process.pid).memory_info().rss < 6 * 2**30
        process.terminate()
        said = process.communicate(timeout=30)[1].decode()
    assert "--cb-max-memory-percent takes another share" in said


@pytest.mark.slow
def test_a_server_says_what_it_serves_and_ends_quietly_on_ctrl_c(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    path = spec(SCALE, tmp_path)
    with serving("--spec", str(path)) as (process, _):
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130
    assert f"in force from the first token: {path} (ScaleHeads)" in said
    assert f"requests name the model: {short_name(str(hw.zoo.zoo_folder('lm')))}" in said
    assert "error" not in said
    assert "Abort" not in said


def test_ctrl_c_within_a_command_of_another_package_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), session(debug=False):
        raise typer.Abort from KeyboardInterrupt()
    with pytest.raises(typer.Exit), session(debug=False):
        raise typer.Exit(130)


@pytest.mark.slow
def test_what_cannot_be_served_is_refused_before_the_first_request(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    path = str(spec(ACT, tmp_path))
    for name, options, words in (
        ("zoo:lm", ["--continuous-batching"], "ACT cannot act in continuous batching"),
        ("zoo:lm@early", [], "takes what follows for a revision"),
        ("zoo:nmt", [], "architecture: the spec has"),
    ):
        done = run("serve", name, "--spec", path, "--dtype", "float32", "--device", "cpu", *options)
        assert done.exit_code == 2
        assert words in done.stderr


def test_a_spec_that_is_not_there_is_said_before_anything_is_loaded() -> None:
    done = run("serve", "zoo:lm", "--spec", "nowhere.json", "--port", "1")
    assert done.exit_code == 2
    assert "no such spec file" in done.stderr


def test_a_folder_that_asks_for_a_kernel_is_not_served(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"_attn_implementation": "org/kernel"}', encoding="utf-8")
    done = run("serve", tmp_path / "m", "--spec", spec(SCALE, tmp_path))
    assert done.exit_code == 2
    assert "asks for code from the hub" in done.stderr
