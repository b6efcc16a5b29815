"""Analyses as records: what they need and take is said once, and everyone who runs them reads it."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pandas as pd
import pytest
import torch

import headwise as hw
from headwise import analyses, plugins
from headwise.analyses import HEAD, analysis, load_result
from headwise.analyses.calls import analysis_call, needs_of
from headwise.errors import CaptureError, InputError
from headwise.reports.collect.build import build_content
from tests.kit.cli import TEXT, run, save
from tests.tiny import ARCHITECTURES

IDS = torch.tensor([[5, 17, 23, 9, 31, 44], [7, 8, 50, 11, 3, 29]])


@analysis(
    kind="heads",
    keys=HEAD,
    value="norm",
    unit="norm",
    needs=("heads",),
    description="Norm of a head's output at the last row.",
    summary=lambda frame: f"The largest norm is {frame['norm'].max():.2f}.",
)
def output_norm(trace):
    """Norm of what every head writes at the last row."""
    rows = []
    for site in trace.sites:
        norms = trace.records[site]["z"][:, -1].norm(dim=-1)
        rows += [
            (example, site.tower, site.kind, site.layer, site.call, head, norms[example, head].item())
            for example in range(norms.shape[0])
            for head in range(norms.shape[1])
        ]
    return pd.DataFrame(rows, columns=[*HEAD, "norm"])


@analysis(
    kind="heads",
    keys=HEAD,
    value="change",
    unit="nats",
    inputs="pair",
    description="Entropy after less entropy before, above {least:g}.",
    summary=lambda frame, least: f"{len(frame)} heads change by more than {least:g}.",
)
def entropy_change(before, after, least: float = 0.0):
    """Change of the row entropy between two captures."""
    old, new = (trace.to_frame("head")[[*HEAD, "entropy"]] for trace in (before, after))
    frame = old.merge(new, on=list(HEAD), suffixes=("_old", "_new"))
    frame["change"] = frame.pop("entropy_new") - frame.pop("entropy_old")
    return frame[frame["change"].abs() > least].reset_index(drop=True)


@pytest.fixture
def installed(monkeypatch):
    points = [
        EntryPoint(name, f"{__name__}:{name}", "headwise.analyses")
        for name in ("output_norm", "entropy_change")
    ]
    points.append(EntryPoint("plain", "builtins:len", "headwise.analyses"))
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: EntryPoints(points if "analyses" in group else ())
    )


@pytest.fixture(scope="module")
def model():
    return ARCHITECTURES["llama"].build()


def traced(model, **keep):
    with hw.capture(model, **keep) as trace, torch.no_grad():
        model(input_ids=IDS)
    return trace


def test_what_is_missing_is_named_with_the_call_that_gives_it(model):
    with pytest.raises(CaptureError, match=r"no head outputs.*needs them.*hw.capture\(subject, heads=True\)"):
        output_norm(traced(model))
    found = output_norm(traced(model, heads=True))
    assert found.kind == "heads"
    assert found.summary.startswith("The largest norm is")


def test_plug_ins_are_found_by_name_everywhere(model, installed):
    assert hw.analyses.output_norm is output_norm
    assert "entropy_change" in dir(hw.analyses)
    subject = hw.wrap(model)
    page = build_content(traced(model, heads=True), analyses=["output-norm"])
    assert [metric.title for metric in page.metrics][-1] == "Output norm"
    assert subject.name
    with pytest.raises(InputError, match=r"'plain' has no record.*Decorate"):
        hw.analyses.get("plain")


ZEROED = "ScaleHeads(heads=((0, 0),), factor=0.0, tower=None, kind='self')"


def test_a_pair_is_two_traces(model):
    before = traced(model)
    with hw.patch(model, hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.0)):
        after = traced(model)
    found = entropy_change(before, after, least=0.001)
    assert found.provenance["parameters"] == {"least": 0.001}
    assert found.provenance["compared_with"]["patched"] == [ZEROED]
    assert found.description.endswith("above 0.001.")
    assert set(found.frame["layer"]) == {1}
    page = build_content([before, after], analyses=[entropy_change])
    assert [metric.title for metric in page.metrics] == ["Strongest key of each head", "Entropy change"]
    with pytest.raises(InputError, match="takes before and after"):
        build_content(before, analyses=[entropy_change])


def test_a_page_of_a_subject_captures_what_its_analyses_need(model, tmp_path, installed):
    subject = hw.wrap(model)
    page = hw.report(
        subject, tmp_path / "r.html", examples=[{"text": IDS[0].tolist()}], analyses=["output_norm"]
    )
    text = page.read_text(encoding="utf-8")
    assert "The largest norm is" in text
    assert "Row entropy as a share" not in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sinks:epsilon", "no parameter of sinks"),
        ("sinks:eps=1", "no parameter 'eps'"),
        ("sinks:epsilon=much", "cannot be 'much'"),
        ("mass:by=colour", "cannot be 'colour'"),
        ("synks", "close: sinks"),
        ("", "There is no analysis ''"),
    ],
)
def test_a_wrong_name_or_parameter_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        analysis_call(text)


def test_names_and_parameters():
    call = analysis_call("sinks:epsilon=0.2, min_rows=8")
    assert call.parameters == {"epsilon": 0.2, "min_rows": 8}
    assert analysis_call("sink-rate").analysis is analyses.sink_rate
    assert needs_of([call, analysis_call(output_norm)]) == {"stats": True, "heads": True}
    with pytest.raises(InputError, match="needs that headwise does not know"):
        analysis(kind="heads", keys=HEAD, value="v", unit="v", description="", summary=str, needs=("gold",))(
            lambda trace: None
        )


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda frame: None, r"gave no table\. \(it gave NoneType\)"),
        (lambda frame: frame["norm"], r"gave no table\. \(it gave Series\)"),
        (lambda frame: frame.drop(columns="norm"), "has no column 'norm'"),
        (lambda frame: frame.drop(columns=["layer", "head"]), "has no column 'layer', 'head'"),
        (lambda frame: frame.assign(layer=np.nan), "8 rows without a name"),
        (lambda frame: frame.assign(norm="x"), "'norm' holds no numbers"),
    ],
)
def test_a_table_is_checked_before_its_sentence_is_made(model, gives, said):
    told = []

    @analysis(kind="heads", keys=HEAD, value="norm", unit="norm", description="", summary=told.append)
    def broken(trace):
        return gives(pd.DataFrame({name: range(8) for name in (*HEAD, "norm")}))

    with pytest.raises(InputError, match=f"broken.*{said}"):
        broken(traced(model))
    assert told == []


RECORD = {
    "kind": "heads",
    "keys": HEAD,
    "value": "norm",
    "unit": "norm",
    "description": "",
    "summary": lambda frame: ".",
}


@pytest.mark.parametrize(
    ("decorate", "said"),
    [
        (lambda: analysis(len), "without parentheses"),
        (lambda: analysis("heads", **RECORD), "without parentheses"),
        (lambda: analysis(**RECORD, sumary=str)(len), "sumary"),
        (
            lambda: analysis(**RECORD | {"summary": "a sentence"})(len),
            "got builtin_function_or_method and str",
        ),
        (lambda: analysis(**RECORD)("norm"), "got str and function"),
        (
            lambda: analysis(**RECORD | {"kind": "head"})(len),
            "says kind that headwise does not know.*'head'.*heads",
        ),
        (lambda: analysis(**RECORD, inputs="traces")(len), "says inputs that.*'traces'"),
        *[
            (
                lambda name=name: analysis(**{k: v for k, v in RECORD.items() if k != name})(len),
                f"missing.*'{name}'",
            )
            for name in RECORD
        ],
    ],
)
def test_a_record_that_is_written_otherwise_is_refused_in_words(decorate, said):
    with pytest.raises(InputError, match=said):
        decorate()


class TestIds:
    def test_results_join_with_the_table_of_an_evaluation(self, model):
        found = hw.analyses.entropy(traced(model, ids=["a", "b"]))
        assert list(found.frame.columns[:2]) == ["example", "id"]
        scores = pd.DataFrame({"id": ["b", "a"], "correct": [0.0, 1.0]})
        joined = found.frame.merge(scores, on="id")
        assert joined.groupby("example")["correct"].first().tolist() == [1.0, 0.0]
        assert "id" not in found.mean()
        assert list(traced(model, ids=["a", "b"]).to_frame("key")["id"].unique()) == ["a", "b"]

    def test_wrong_ids_are_refused(self, model):
        with pytest.raises(InputError, match="3 ids, 2 examples"):
            traced(model, ids=["a", "b", "c"])
        with pytest.raises(InputError, match="the same id"):
            traced(model, ids=["a", "a"])
        with pytest.raises(InputError, match="a list of names"):
            traced(model, ids="ab")
        for name in (None, float("nan"), "", True, b"a"):
            with pytest.raises(InputError, match="neither a text nor a whole number"):
                traced(model, ids=["a", name])
        assert traced(model, ids=np.array([3, 12])).meta["ids"] == ["3", "12"]

    def test_ids_come_back_from_a_file(self, model, tmp_path):
        trace = traced(model, ids=["a", "b"])
        trace.save(tmp_path / "t.safetensors")
        back = hw.load_trace(tmp_path / "t.safetensors")
        pd.testing.assert_frame_equal(hw.analyses.entropy(back).frame, hw.analyses.entropy(trace).frame)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("model")))


class TestCommand:
    def test_it_prints_and_saves(self, folder, tmp_path):
        out, other = tmp_path / "e.json", tmp_path / "s.csv"
        command = ("analyse", folder, "entropy", "sinks:epsilon=0.2", "--text", TEXT, "--out", out)
        one = run(*command)
        assert (one.exit_code, out.exists()) == (2, False)
        assert "not as many files as analyses. (1 files, 2 analyses)" in one.stderr
        done = run(*command, "--out", other, "--rows", 2)
        assert "token" in other.read_text()
        assert "entropy: Heads use" in done.stdout
        assert "alpha > 0.2" in done.stdout
        assert load_result(out).summary in done.stdout

    def test_json_and_list(self, folder):
        answer = json.loads(run("analyse", folder, "mass", "--text", TEXT, "--json").stdout)
        assert answer["results"][0]["keys"][-1] == "role"
        assert "sinks" in run("analyse").stdout

    def test_a_saved_trace(self, folder, tmp_path):
        file = tmp_path / "t.safetensors"
        run("trace", folder, "--text", TEXT, "--out", file)
        assert "distance: Heads look" in run("analyse", file, "distance").stdout
        refused = run("analyse", file, "distance", "--text", TEXT)
        assert refused.exit_code == 2
        assert "captured already" in refused.stderr

    def test_two_saved_traces_are_a_pair(self, model, folder, tmp_path, installed):
        before, after, other = (tmp_path / f"{name}.safetensors" for name in ("before", "after", "other"))
        traced(model).save(before)
        with hw.patch(model, "ScaleHeads:heads=[[0,0]],factor=0"):
            traced(model).save(after)
        with hw.capture(model) as trace, torch.no_grad():
            model(input_ids=IDS + 1)
        trace.save(other)
        done = run("analyse", before, after, "entropy_change:least=0.001", "--out", tmp_path / "c.json")
        found = load_result(tmp_path / "c.json")
        assert found.provenance["compared_with"]["patched"] == [ZEROED]
        assert found.summary in done.stdout
        for arguments, said in (
            (
                (before, other, "entropy_change"),
                "different inputs. (example 0 of the text tower has “5” at position 0",
            ),
            ((before, "entropy_change"), "takes before and after. (got 1) Give two traces"),
            ((before, after, other, "entropy_change"), "takes before and after. (got 3)"),
            ((before, after, "entropy"), "entropy takes trace. (got 2)"),
            ((before, tmp_path / "none.safetensors", "entropy"), "There is no such trace file"),
            ((before, after), "No analysis is named"),
            ((folder, after, "entropy_change", "--text", TEXT), "A saved trace stands behind a model"),
        ):
            refused = run("analyse", *arguments)
            assert refused.exit_code == 2
            assert said in refused.stderr

    @pytest.mark.parametrize("name", ["bad.json", "bad.safetensors", "bad.bin"])
    @pytest.mark.parametrize("content", [b"", b'{"rows": [', b"\xff" * 40])
    @pytest.mark.parametrize("inputs", [(), ("--text", TEXT)])
    def test_a_damaged_file_is_said_to_be_no_trace(self, name, content, inputs, tmp_path):
        (tmp_path / name).write_bytes(content)
        refused = run("analyse", tmp_path / name, "entropy", *inputs)
        assert refused.exit_code == 2
        assert "not a safetensors file" in refused.stderr
        assert "Give a whole file that trace.save wrote" in refused.stderr
