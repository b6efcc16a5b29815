"""Bad input on the command line: one line with cause and remedy, exit status 2, no partial file."""

from __future__ import annotations

import shutil

import pytest
import torch

from headwise.readers import limits
from tests.kit.cli import TEXT, assert_one_line, process, run, save


def _bad(kind, model, tmp_path):
    """Arguments, and what the one line says."""
    text = ["--text", TEXT]
    if kind == "missing folder":
        return [tmp_path / "none", *text], "There is no folder"
    if kind == "folder without config":
        (tmp_path / "empty").mkdir()
        return [tmp_path / "empty", *text], "holds no config.json"
    if kind == "too long":
        return [model, "--text", "cat " * 30], "31 tokens long and the model has 24 positions"
    if kind == "image for a text model":
        from PIL import Image

        Image.new("RGB", (8, 8)).save(tmp_path / "red.png")
        return [model, "--image", tmp_path / "red.png"], "takes no image"
    if kind == "empty string":
        return [model, "--text", " "], "The text is empty"
    if kind == "unequal kinds":
        return [model, "--text", "a", "--text", "cat", "--target", "a"], "differ in number"
    if kind == "NaN weights":
        from safetensors.torch import load_file, save_file

        folder = tmp_path / "nan"
        shutil.copytree(model, folder)
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.0.self_attn.q_proj.weight"][0, 0] = torch.nan
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return [folder, *text], "not finite"
    if kind == "no input":
        return [model], "nothing to read"
    if kind == "missing file":
        return [model, "--text-file", tmp_path / "none.txt"], "input file does not exist"
    (tmp_path / "latin.txt").write_bytes("déjà".encode("latin-1"))
    return [model, "--text-file", tmp_path / "latin.txt"], "not UTF-8"


KINDS = (
    "missing folder",
    "folder without config",
    "too long",
    "image for a text model",
    "empty string",
    "unequal kinds",
    "NaN weights",
    "no input",
    "missing file",
    "not UTF-8",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["report", "trace"])
def test_bad_input_is_one_line_and_status_2(command, kind, model, tmp_path, out):
    arguments, said = _bad(kind, model, tmp_path)
    done = run(command, *arguments, "--out", out)
    assert done.exit_code == 2
    assert_one_line(done.stdout, done.stderr, said)
    assert list(out.parent.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_as_a_process(kind, model, tmp_path, out):
    arguments, said = _bad(kind, model, tmp_path)
    done = process("report", *arguments, "--out", out)
    assert done.returncode == 2
    assert_one_line(done.stdout, done.stderr, said)
    assert list(out.parent.iterdir()) == []


@pytest.mark.slow
def test_maps_of_a_long_text_are_refused_as_a_process(tmp_path, out):
    folder = save(tmp_path / "long", positions=40_000)
    source = tmp_path / "long.txt"
    source.write_text("cat " * 32_000, encoding="utf-8")
    done = process("trace", folder, "--text-file", source, "--maps", "--out", out)
    assert done.returncode == 2
    assert_one_line(done.stdout, done.stderr, "map_limit")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "trace"])
def test_the_output_path_is_checked_before_the_model_is_loaded(command, tmp_path, monkeypatch):
    monkeypatch.setattr("headwise.load", lambda name: pytest.fail("loaded"), raising=False)
    for path, said in ((tmp_path / "none" / "r.html", str(tmp_path / "none")), (tmp_path, "is a folder")):
        done = run(command, "nowhere", "--text", TEXT, "--out", path)
        assert done.exit_code == 2
        assert_one_line(done.stdout, done.stderr, said)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_output_folder_as_a_process(tmp_path):
    done = process("report", "nowhere", "--text", TEXT, "--out", tmp_path / "none" / "r.html")
    assert done.returncode == 2
    assert_one_line(done.stdout, done.stderr, "folder to write into does not exist")


def test_generation_is_checked(model, out):
    done = run("trace", model, "--text", TEXT, "--out", out, "--generate", 20)
    assert done.exit_code == 2
    assert_one_line(done.stdout, done.stderr, "24 positions. (8 + 20 tokens)")


def test_generation_needs_a_model_that_generates(minilm, out):
    done = run("trace", minilm, "--text", TEXT, "--out", out, "--generate", 2)
    assert_one_line(done.stdout, done.stderr, "generates nothing. (BertModel)")


def test_a_threshold_that_cannot_be_judged_is_bad_input(model, out):
    done = run("report", model, "--text", "a", "--out", out, "--max-sink-share", 0.5)
    assert done.exit_code == 2
    assert_one_line(done.stdout, done.stderr, "no sink can be judged")
    assert list(out.parent.iterdir()) == []


def test_usage_errors_are_status_2():
    assert run("report").exit_code == 2
    assert run("nonsense").exit_code == 2
    assert run("report", "x", "--max-sink-share", "2").exit_code == 2


@pytest.mark.parametrize("times", ["0", "-1", "nan", "inf", "1e300"])
def test_the_factor_of_file_limits_is_a_number(times, model, out):
    done = run(f"--file-limits={times}", "report", model, "--text", TEXT, "--out", out)
    assert done.exit_code == 2
    assert_one_line(done.stdout, done.stderr, "The factor of file limits")


def test_file_limits_hold_for_one_command(model, tmp_path, out):
    source = tmp_path / "text.txt"
    source.write_text("a cat" + "\n" * 9000, encoding="utf-8")
    command = ("trace", model, "--text-file", source, "--out", out)
    token = limits._LIMITS.set(limits.FileLimits(text_bytes=5000))
    try:
        done, raised, again = (run(*given, *command) for given in ((), ("--file-limits", 4), ()))
    finally:
        limits._LIMITS.reset(token)
    assert_one_line(done.stdout, done.stderr, "bytes: 9,005, and the limit is 5,000")
    assert (raised.exit_code, again.exit_code) == (0, 2), raised.output


@pytest.mark.slow
@pytest.mark.parametrize("times", ["1e-9", "2"])
def test_file_limits_reach_the_readers_of_a_process(times, model, tmp_path, out):
    source = tmp_path / "text.txt"
    source.write_text(TEXT, encoding="utf-8")
    done = process("--file-limits", times, "trace", model, "--text-file", source, "--out", out)
    assert done.returncode == (0 if times == "2" else 2)
