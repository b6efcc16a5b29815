"""`headwise compare`, `headwise fit` and `headwise search`."""

from __future__ import annotations

import json

import pytest

import headwise as hw
from headwise.evaluation import load_comparison
from headwise.evaluation.comparison._compare import compare
from headwise.fixes import ScaleHeads, ZeroHeads
from headwise.fixes.spec.specs import load_spec, save_spec
from tests.kit.cli import assert_one_line, run, save

ALL = "[[0,0],[0,1],[0,2],[0,3],[1,0],[1,1],[1,2],[1,3],[2,0],[2,1],[2,2],[2,3],[3,0],[3,1],[3,2],[3,3]]"
SILENT = f"ZERO_HEADS:heads={ALL}"
QUIET = "SCALE_HEADS:heads=[[0,0]],factor=0.9"


def test_compare_prints_a_block_per_metric_and_the_finding():
    result = run("compare", "zoo:lm", "--task", "recall", "--fix", SILENT, "--fix", QUIET, "-n", 20)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "recall, n = 20, seed 0; 95 % intervals"
    assert "Holm's rule" in lines[1]
    assert lines[2] == "of accuracy over these and 2 arms; of others over all 4 tests"
    assert "among (share, more is better; Wilson)" in lines
    at = lines.index("accuracy (share, more is better; Wilson)")
    none, silent, quiet = lines[at + 1 : at + 4]
    assert none.split()[0] == "none"
    assert silent.endswith("p < 0.001")
    assert quiet.endswith("p 1.000")
    assert "   20 of 20 change: 0 repaired, 20 broken" in result.stdout
    assert ": 0 repaired, 0 broken" in result.stdout
    assert lines[-1].startswith("recall, n = 20: accuracy 1.000 without a fix; ZERO_HEADS")
    assert max(map(len, lines[:-1])) <= 100


def test_what_cannot_be_found_is_said_before_anything_is_asked():
    result = run("compare", "zoo:lm", "--task", "recall", "--fix", QUIET, "-n", 5)
    assert result.exit_code == 0
    said = "o difference can be found with n = 5 (p is 0.062 or more)."
    assert result.stderr == f"warning: N{said} Ask more, or compare fewer arms.\n"
    assert f"Whatever they do: n{said}" in result.stdout


def test_compare_as_json_is_the_python_result(tmp_path):
    out = tmp_path / "run.parquet"
    arguments = ("--task", "recall", "--fix", SILENT, "-n", 20, "--seed", 2, "--out", out, "--json")
    result = run("compare", "zoo:lm", *arguments)
    answer = json.loads(result.stdout)
    silent = ZeroHeads(heads=json.loads(ALL))
    found = compare(hw.load("zoo:lm"), "recall", {SILENT: silent}, n=20, seed=2)
    assert answer["arms"][1]["differences"] == [item.to_dict() for item in found[SILENT].differences.values()]
    assert answer["summary"] == found.summary
    assert answer["best"] is None
    assert answer["manifest"]["ids"] == found.manifest["ids"]
    assert load_comparison(out).frame.equals(found.frame)


@pytest.fixture(scope="module")
def muted(tmp_path_factory):
    """Folder of a vision-language model whose language heads write a twentieth of what they did."""
    folder = tmp_path_factory.mktemp("muted")
    vlm = hw.load("zoo:vlm")
    for layer in vlm.model.model.language_model.layers:
        layer.self_attn.o_proj.weight.data.mul_(0.05)
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


HEADS = json.dumps([[layer, head] for layer in range(4) for head in range(8)])
REPAIR = f"SCALE_HEADS:heads={HEADS},factor=20"
ASKED = ("--task", "scene-existence", "--set", "noise=0", "-n", 40)


@pytest.mark.slow
def test_the_best_arm_leaves_as_a_spec_that_patches_the_model(muted, tmp_path):
    spec = tmp_path / "winner.json"
    result = run("compare", muted, *ASKED, "--fix", QUIET, "--fix", REPAIR, "--save-best", spec)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"wrote {spec}"
    assert load_spec(spec).fixes[0].factor == 20
    again = run("compare", muted, *ASKED, "--fix", spec, "--min-gain", "accuracy=0.2")
    assert again.exit_code == 0
    assert "failed" not in again.stdout
    judged = run("compare", muted, *ASKED, "--fix", spec, "--min-gain", "accuracy=0.9")
    assert judged.exit_code == 1
    assert judged.stdout.splitlines()[-1].startswith("failed: no arm gains 0.9 in accuracy: ")


def test_no_spec_is_written_of_an_arm_that_is_not_better(tmp_path):
    spec = tmp_path / "winner.json"
    result = run("compare", "zoo:lm", "--task", "recall", "--fix", QUIET, "-n", 10, "--save-best", spec)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "no spec was written: no arm is better than none with p < 0.05"
    assert not spec.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task", "poep", "--fix", "VAR"], "close: pope"),
        (["--task", "recall", "--fix", "VARR"], "no fix"),
        (["--task", "recall", "--fix", "VAR:q=1"], "no parameter 'q'"),
        (["--task", "recall", "--fix", "VAR", "--fix", "VAR"], "Two arms are called 'VAR'"),
        (["--task", "recall", "--fix", "no.json"], "no such spec"),
        (["--task", "recall", "--fix", "VAR", "--set", "pairs"], "OPTION=VALUE"),
        (["--task", "recall", "--fix", "VAR", "--min-gain", "f1=0"], "no metric 'f1'"),
        (["--task", "pope-random", "--fix", "VAR", "--min-gain", "yes_ratio=0"], "'yes_ratio' that can gain"),
        (["--task", "recall", "--fix", "VAR", "--min-gain", "accuracy"], "METRIC=VALUE"),
        (["--task", "recall", "--fix", "VAR", "--min-gain", "accuracy=nan"], "--min-gain needs a number"),
        (["--task", "recall", "--fix", "VAR", "--min-gain", "accuracy=inf"], "--min-gain needs a number"),
        (["--task", "recall", "--fix", "VAR", "--min-gain", "accuracy=x"], "--min-gain needs a number"),
        (["--task", "recall", "--fix", "VAR", "--smallest-effect", "-1"], "a distance, 0 or more"),
        (["--task", "recall", "--fix", "VAR", "--smallest-effect", "nan"], "a distance, 0 or more"),
        (["--task", "recall", "--fix", "VAR", "--out", "a.json", "--save-best", "./a.json"], "to one file"),
        (["--task", "recall", "--fix", "VAR", "--out", "a.json", "--out", "a.json"], "to one file"),
        (["--task", "recall", "--fix", "VAR", "--out", "a.docx"], "cannot be written as .docx"),
        (["--task", "recall", "--fix", "VAR", "--save-best", "a.csv"], "cannot be written as .csv"),
        (["--task", "recall", "--fix", "VAR", "--save-best", "no/such/a.json"], "does not exist"),
    ],
)
def test_bad_options_are_refused_before_the_model_is_loaded(options, said):
    result = run("compare", "no/such/model", *options)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, said)


def test_a_vision_fix_on_a_text_model_and_too_few_examples_are_one_line(tmp_path):
    result = run("compare", "zoo:lm", "--task", "recall", "--fix", "VAR", "-n", 5)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, "takes none")
    texts = tmp_path / "texts.txt"
    texts.write_text("One text.\n\nAnother text.\n\nA third one.\n", encoding="utf-8")
    result = run("compare", "zoo:lm", "--task", "perplexity", "--set", f"data={texts}", "--fix", "ACT")
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, "0 beside the 3 that are compared, and 200 are wanted")


def test_a_spec_of_another_model_is_one_line(tmp_path):
    spec = tmp_path / "spec.json"
    save(tmp_path / "tiny")
    save_spec(spec, ScaleHeads(heads=((0, 0),), factor=0.5), hw.load(tmp_path / "tiny"))
    result = run("compare", "zoo:lm", "--task", "recall", "--fix", spec, "-n", 5)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_fit_writes_a_spec_with_what_it_found(tmp_path):
    spec = tmp_path / "act.json"
    arguments = ("fit", "zoo:lm", "--fix", "ACT", "--task", "recall", "--set", "pairs=2", "-n", 10)
    result = run(*arguments, "--out", spec)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "act"
    assert lines[-1] == f"wrote {spec}"
    assert any("recall, validation, n = 10, seed 0" in line for line in lines)
    (fix,) = load_spec(spec).fixes
    assert fix.heads is not None
    answer = json.loads(run(*arguments, "--out", spec, "--json").stdout)
    assert answer["fix"] == "act"
    assert answer["path"] == str(spec)


def test_one_example_is_said_to_be_too_few():
    result = run("compare", "zoo:lm", "--task", "recall", "--fix", SILENT, "--fix", QUIET, "-n", 1)
    assert result.exit_code == 0
    assert "nan" not in result.stdout
    assert "; too few examples for a p)." in result.stdout.splitlines()[-1]
    assert "-1.0000 no interval (n = 1)  too few examples for a p" in result.stdout


def test_fit_leaves_out_what_will_be_compared(tmp_path):
    spec, texts = tmp_path / "act.json", tmp_path / "texts.txt"
    texts.write_text("\n\n".join(f"A text that is number {count}." for count in range(20)), encoding="utf-8")
    arguments = ("fit", "zoo:lm", "--fix", "ACT:layers=[2]", "--task", "perplexity", "--out", spec)
    result = run(*arguments, "-n", 3)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, "Give exclude=task.draw(N, seed) (--exclude N)")
    result = run(*arguments, "-n", 3, "--exclude", 545)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, "1 beside the 545 that are compared, and 3 are wanted")
    over_file = (*arguments, "--set", f"data={texts}")
    result = run(*over_file, "-n", 20)
    assert result.exit_code == 2
    assert_one_line(
        result.stdout,
        result.stderr,
        "and 20 are wanted; the validation split, a fifth",
    )
    assert not spec.exists()
    assert "perplexity, validation, n = 3, seed 0" in run(*over_file, "-n", 3).stdout
    assert load_spec(spec).fixes[0].source.endswith("n = 3, seed 0")


@pytest.mark.slow
def test_a_fit_that_finds_nothing_says_so(tmp_path, monkeypatch):
    spec = tmp_path / "act.json"
    arguments = ("fit", "zoo:lm", "--task", "recall", "-n", 10, "--out", spec)
    monkeypatch.setattr("headwise.fixes.head_search.better", lambda gain, rule: False)
    result = run(*arguments, "--fix", "ACT:layers=[2]")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-2:] == ["found nothing: the fix changes nothing", f"wrote {spec}"]
    answer = json.loads(run(*arguments, "--fix", "ACT:layers=[2]", "--json").stdout)
    assert (answer["found_nothing"], answer["neutral"]) == (True, True)
    monkeypatch.setattr("headwise.fixes.head_search.better", lambda gain, rule: True)
    assert "changes nothing" not in run(*arguments, "--fix", "ACT:layers=[2]").stdout
    result = run(*arguments, "--fix", "ACT:layers=[2],beta=1")
    assert result.stdout.splitlines()[-2] == "the fix changes nothing"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fix", "ZERO_HEADS:heads=[[0,0]]", "--out", "a.json"], "has nothing to fit"),
        (["--fix", "ACTT", "--out", "a.json"], "no fix"),
        (["--fix", "ACT", "--out", "a.txt"], "cannot be written as .txt"),
    ],
)
def test_a_bad_fit_is_one_line(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("fit", "zoo:lm", "--task", "recall", *options)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_search_finds_the_repair_and_writes_it(muted, tmp_path):
    spec, out = tmp_path / "winner.json", tmp_path / "search.json"
    fix = f"SCALE_HEADS:heads={HEADS},factor=10"
    options = ("--space", "factor=0.5:30", "--trials", 3, "--calibrate", 20)
    result = run("search", muted, *ASKED, "--fix", fix, *options, "--out", out, "--save-best", spec)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-2:] == [f"wrote {out}", f"wrote {spec}"]
    assert "on 40 test examples" in result.stdout
    assert load_spec(spec).fixes[0].factor > 5
    assert len(json.loads(out.read_text(encoding="utf-8"))["trials"]) == 3
    answer = json.loads(run("search", muted, *ASKED, "--fix", fix, *options, "--json").stdout)
    assert answer["better"] is True


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--space", "p"], "NAME=LOW:HIGH"),
        (["--space", "p=1"], "needs two numbers"),
        (["--space", "p=a:b"], "needs two numbers"),
        (["--out", "a.pdf"], "cannot be written as .pdf"),
        (["--out", "a.json", "--save-best", "a.json"], "written to one file"),
    ],
)
def test_a_bad_search_is_one_line(options, said):
    result = run("search", "no/such/model", "--task", "recall", "--fix", "ACT", *options)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, said)


def test_a_search_that_finds_nothing_says_so(tmp_path):
    spec = tmp_path / "winner.json"
    arguments = ("--task", "recall", "--fix", SILENT.replace("ZERO", "SCALE") + ",factor=0", "--trials", 2)
    space = ("--space", "factor=0:1", "-n", 5, "--calibrate", 5, "--save-best", spec)
    result = run("search", "zoo:lm", *arguments, *space)
    assert result.exit_code == 0
    assert (
        "none of 1 settings of ScaleHeads is better than no change on 5 validation examples" in result.stdout
    )
    assert "no spec was written" in result.stdout
    assert not spec.exists()
