"""Every kind of file that holds a table: read whole, told from others and from other versions, nothing impossible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import headwise as hw
from headwise.errors import InputError
from headwise.results.store import FORMAT, READERS
from tests.kit import stored
from tests.kit.result_files import rewritten
from tests.kit.results import every_kind

KINDS = {
    "result": (every_kind()["heads"], hw.load_result),
    "evaluation": (stored.evaluation(), hw.load_evaluation),
    "comparison": (stored.comparison(), hw.load_comparison),
    "search": (stored.search(), hw.load_search),
    "harness result": (stored.harness_result(), hw.load_harness),
}
SUFFIXES = (".json", ".parquet")
NO_CONTENT = {
    "x.parquet": {
        b"": "it is empty",
        b"\xff\x00" * 40: "does not begin as Parquet",
        b"{": "does not begin as Parquet",
    },
    "x.json": {
        b"": "it is empty",
        b"\xff\x00" * 40: "not UTF-8",
        b"{": "not JSON",
        b"PAR1": "no Parquet file",
    },
    "X.PARQUET": {b"\n": "does not begin as Parquet", b"PAR1": "no Parquet file"},
}
"""Name of a file -> what is in it -> what is said."""


@pytest.mark.parametrize("name", NO_CONTENT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_content_is_said_to_be_what_it_is(kind, name, tmp_path):
    for content, said in NO_CONTENT[name].items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=said):
            KINDS[kind][1](tmp_path / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {
        (kind, suffix): found.save(folder / f"{kind}{suffix}")
        for kind, (found, _) in KINDS.items()
        for suffix in SUFFIXES
    }


def test_all_kinds_are_here():
    assert list(KINDS) == list(READERS)
    for kind, (_, load) in KINDS.items():
        assert READERS[kind] == f"hw.{load.__name__}"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_says_what_reads_it(files, kind, suffix):
    for other, (_, load) in KINDS.items():
        if other != kind:
            with pytest.raises(InputError, match=f"no {other} that.*which {READERS[kind]} reads"):
                load(files[kind, suffix])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1, 99, -1])
def test_another_version_is_named(files, tmp_path, kind, suffix, version):
    path = rewritten(
        files[kind, suffix], tmp_path / f"x{suffix}", lambda content: content.update({kind: version})
    )
    with pytest.raises(InputError, match=f"format {version}, and this version of headwise reads {FORMAT}"):
        KINDS[kind][1](path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_word_is_noticed(files, tmp_path, kind, suffix):
    whole = files[kind, suffix].read_bytes()
    word = b"by hand" if b"by hand" in whole else b"a model"
    path = tmp_path / f"x{suffix}"
    path.write_bytes(whole.replace(word, b"by h4nd", 1))
    with pytest.raises(InputError, match="changed after headwise wrote it"):
        KINDS[kind][1](path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_search_is_read_whole_but_for_the_fix_and_the_examples_of_the_judgement(files, suffix):
    found, back = stored.search(), hw.load_search(files["search", suffix])
    pd.testing.assert_frame_equal(back.frame, found.frame, check_exact=True)
    assert (back.task, back.metric, back.kind, back.best) == ("task", "accuracy", "VAR", found.best)
    assert back.manifest == found.manifest
    assert back.fix is None
    assert (back.summary, back.to_dict()) == (found.summary, found.to_dict())
    assert repr(back.comparison.arms) == repr(found.comparison.arms)
    pd.testing.assert_frame_equal(back.comparison.to_frame(), found.comparison.to_frame())
    assert (back.comparison.n, len(back.comparison.frame)) == (4, 0)
    assert "VAR" in back.comparison._repr_html_()
    assert back.plot().to_json() == found.plot().to_json()


def test_a_judgement_without_its_examples_is_no_file(files, tmp_path):
    judged = hw.load_search(files["search", ".json"]).comparison
    with pytest.raises(InputError, match=r"no examples.*read from the file of a search"):
        judged.save(tmp_path / "c.json")
    assert list(tmp_path.iterdir()) == []
    assert hw.report(judged, tmp_path / "c.html").stat().st_size > 10_000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_harness_result_is_read_whole(files, suffix):
    found, back = stored.harness_result(), hw.load_harness(files["harness result", suffix])
    for name in ("metrics", "differences", "frame"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(found, name), check_exact=True)
    assert back.manifest == found.manifest
    assert (back.lines(), repr(back)) == (found.lines(), repr(found))


DAMAGES = {
    "search": {
        "another best setting": (lambda file: file["best"].update(p=0.5), "not that of its best trial"),
        "no best setting": (lambda file: file.update(best=None), "do not belong together"),
        "no judgement": (lambda file: file.update(test=None), "do not belong together"),
        "no such trial": (lambda file: file["manifest"].update(best_trial=9), "trials are named"),
        "a trial below 0": (lambda file: file["manifest"].update(best_trial=-1), "best_trial"),
        "truth as trial": (lambda file: file["manifest"].update(best_trial=True), "best_trial"),
        "no such trial refused": (lambda file: file["manifest"]["refused"].update(x=[]), "trials are named"),
        "a range of texts": (lambda file: file["manifest"]["space"].update(p=["0", "1"]), "space.p.0"),
        "half a range": (lambda file: file["manifest"]["space"]["p"].pop(), "space.p"),
        "another parameter": (lambda file: file["manifest"]["space"].update(x=[0, 1]), "no trials"),
        "no unit": (lambda file: file["manifest"].pop("unit"), "unit"),
        "another metric": (lambda file: file.update(metric="f1"), "no trials"),
        "another task": (lambda file: file.update(task="x"), "another task"),
        "an unknown arm": (lambda file: file["test"]["arms"][1].update(label="x"), "do not belong together"),
        "one arm": (lambda file: file["test"]["arms"].pop(), "do not belong together"),
        "p above 1": (lambda file: file["test"]["arms"][1]["differences"][0].update(p=1.5), "p is 1.5"),
        "more than asked": (lambda file: file["test"]["arms"][1].update(changed=5), "changed is 5 of 4"),
        "ids of numbers": (lambda file: file["test"]["manifest"].update(ids=[1]), "ids.0"),
        "guards of texts": (lambda file: file["test"]["manifest"].update(guards="x"), "guards"),
        "a field more": (lambda file: file["test"].update(code=1), "code"),
        "a share of 7": (lambda file: file["trials"][1].__setitem__(3, 7.0), "value is 7.0 share"),
        "outside of its range": (lambda file: file["trials"][1].__setitem__(1, 7.0), "outside of 0.0 to 1.0"),
        "a trial twice": (lambda file: file["trials"][1].__setitem__(0, 0), "no trials"),
        "no trials": (lambda file: file["trials"].clear(), "trials are named"),
    },
    "harness result": {
        "an error below 0": (lambda file: file["metrics"][0].update(stderr=-0.5), "standard error -0.5"),
        "more than asked": (lambda file: file["metrics"][0].update(n=99), "n is 99"),
        "truth as count": (lambda file: file["metrics"][0].update(n=True), "n is True"),
        "a text as value": (lambda file: file["metrics"][0].update(value="1"), "value is '1'"),
        "a field more": (lambda file: file["metrics"][0].update(code=1), "MetricRow has the fields"),
        "a row of text": (lambda file: file["metrics"].append("x"), "no attribute"),
        "a metric twice": (lambda file: file["metrics"].append(file["metrics"][0]), "do not belong together"),
        "no metrics": (lambda file: file["metrics"].clear(), "do not belong together"),
        "no arm without a fix": (
            lambda file: file["metrics"].__delitem__(slice(2)),
            "do not belong together",
        ),
        "another difference": (lambda file: file["differences"][0].update(value=0.25), "is 0.25"),
        "a difference of 7": (lambda file: file["differences"][0].update(value=7.0), "value is 7.0 share"),
        "shares of 7": (
            lambda file: [
                file["metrics"][place].update(value=value) for place, value in ((0, 6.5), (2, 7.0))
            ],
            "value is 6.5 share",
        ),
        "a difference of another arm": (lambda file: file["differences"][0].update(arm="x"), "'x'"),
        "p above 1": (lambda file: file["differences"][0].update(p=1.5), "p is 1.5"),
        "a text as seed": (lambda file: file["manifest"].update(seed="0"), "manifest: seed"),
        "no version": (lambda file: file["manifest"]["versions"].pop("lm_eval"), "lm_eval"),
        "an example twice": (lambda file: file["examples"][1].__setitem__(3, "0"), "id do not name its rows"),
        "a log-probability of 3": (
            lambda file: file["examples"][0][8].__setitem__(0, 3.0),
            "a log-probability is 3.0",
        ),
        "log-probabilities of text": (
            lambda file: file["examples"][0].__setitem__(8, "abc"),
            "not supported",
        ),
        "no examples": (lambda file: file["examples"].clear(), "n is 2"),
    },
    "evaluation": {
        "warnings of numbers": (lambda file: file["manifest"]["notes"].update(warnings=[1]), "warnings.0"),
        "counts of text": (lambda file: file["manifest"].update(empty="1"), "empty"),
    },
    "comparison": {
        "guards of texts": (lambda file: file["manifest"]["guards"].update(fallen=["x"]), "guards.fallen"),
        "counts of text": (lambda file: file["manifest"]["empty"].update(replies=1), "empty.replies"),
        "ids of numbers": (lambda file: file["manifest"].update(ids=[1]), "ids.0"),
    },
}
OF_ROWS = (
    "a share of 7",
    "outside of its range",
    "a trial twice",
    "no trials",
    "an example twice",
    "a log-probability of 3",
    "log-probabilities of text",
    "no examples",
)
"""Damages of what a Parquet file holds in columns."""
CASES = [
    (kind, name, suffix)
    for kind, damages in DAMAGES.items()
    for name in damages
    for suffix in SUFFIXES
    if suffix == ".json" or name not in OF_ROWS
]


@pytest.mark.parametrize(("kind", "name", "suffix"), CASES)
def test_what_cannot_be_is_refused(files, tmp_path, kind, name, suffix):
    damage, said = DAMAGES[kind][name]
    path = rewritten(files[kind, suffix], tmp_path / f"x{suffix}", damage)
    with pytest.raises(InputError, match=f"no {kind} that") as error:
        KINDS[kind][1](path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_would_not_be_read_again_is_not_saved(tmp_path):
    found = stored.search()
    high = replace(found, frame=found.frame.assign(accuracy=[0.5, 7.0, 0.75, 1.0]))
    arm = found.comparison.arms[1]
    judged = replace(arm, estimates={"accuracy": replace(arm.estimates["accuracy"], value=7.0)})
    wrong = replace(found.comparison, arms=(found.comparison.arms[0], judged))
    for search in (high, replace(found, comparison=wrong)):
        with pytest.raises(InputError, match="impossible in its unit"):
            search.save(tmp_path / "s.json")
