"""The kinds of files that headwise writes and reads again, one of each, and all that can be read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import headwise as hw
from headwise.evaluation.harness.result import HarnessResult
from headwise.evaluation.results.arm import Arm, Cost
from headwise.evaluation.results.comparison import Comparison
from headwise.evaluation.results.evaluation import Evaluation
from headwise.evaluation.results.search import Search
from headwise.evaluation.statistics.estimate import Estimate
from headwise.evaluation.statistics.paired import Difference
from headwise.probes.attach.sites import Site
from headwise.results.result import load_result
from tests.kit.results import every_kind
from tests.kit.traces import META, axis, causal, make_trace, random_pattern


@dataclass(frozen=True)
class Stored:
    """One kind of file."""

    suffix: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    told: Callable[[Any], str]
    """Every number, name and unit, to the last digit."""
    look: Callable[[Any], object]
    """Its sentence, table, cell in a notebook, figure."""


@cache
def evaluation() -> Evaluation:
    """Four examples of a task, by hand."""
    accuracy = Estimate("accuracy", 0.75, 0.25, 1.0, 4, "share", True, "percentile bootstrap")
    missing = Estimate("words", 3.5, float("nan"), float("nan"), 1, "words", None, "none: too few examples")
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "prompt": "Which?",
            "answer": "A",
            "response": ["A", "", "A", "\u00e4\u2028"],
            "accuracy": [True, False, True, True],
            "words": [3.5, None, None, None],
            "count": [1, 2, 3, 4],
        }
    )
    manifest = {"model": {"name": "by hand"}, "seed": 0, "ids": list(frame["id"]), "versions": {"torch": "2"}}
    manifest |= {"notes": {"warnings": ["one"]}, "empty": {"replies": 1, "references": 0}}
    return Evaluation("task", {"accuracy": accuracy, "words": missing}, frame, manifest)


@cache
def comparison() -> Comparison:
    """The same task without a fix and with one."""
    before, nan = evaluation(), float("nan")
    facts, test = (4, "share", True), "paired bootstrap; exact permutation test, 2 exchanges"
    change = Difference("accuracy", 0.25, -0.25, 0.5, 1.0, 1.0, *facts, test)
    other = Difference("words", 0.5, nan, nan, nan, nan, 1, "words", None, "none")
    numbers = {
        "accuracy": replace(before.estimates["accuracy"], value=1.0),
        "words": replace(before.estimates["words"], value=4.0),
    }
    cost, costs = Cost(1.5, 1.25, 12, 1.0, 1.0), Cost(3.0, 2.5, 12, 2.0, 2.0)
    arms = (
        Arm("none", before.estimates, {}, cost),
        Arm("VAR", numbers, {"accuracy": change, "words": other}, costs, 2, 1, 0, True),
    )
    after = before.frame.assign(accuracy=True, words=[4.0, None, None, None])
    tables = zip(arms, (before.frame, after), strict=True)
    frame = pd.concat([table.assign(arm=arm.label, tokens=3) for arm, table in tables], ignore_index=True)
    guards = {"heeded": True, "metrics": ["accuracy"], "fallen": {"VAR": {"words": "words undefined"}}}
    empty = {"replies": {"none": 1, "VAR": 1}, "references": 0}
    manifest = {"fixes": {"VAR": ["VAR()"]}, "guards": guards, "empty": empty}
    return Comparison("task", arms, frame, {**before.manifest, **manifest})


@cache
def search() -> Search:
    """Four settings of a fix with two parameters; the third is the best, the last lost a guard."""
    frame = pd.DataFrame(
        {
            "trial": range(4),
            "p": [None, 0.5, 0.25, 0.1],
            "layer": [0, 1, 1, 3],
            "accuracy": [0.5, 0.25, 0.75, 1.0],
        }
    )
    manifest = {**evaluation().manifest, "unit": "share", "space": {"p": [0.0, 1.0], "layer": [0, 3]}}
    manifest |= {"validation_ids": ["x", "y"], "best_trial": 2, "refused": {"3": ["words -1.000"]}}
    best = {"p": 0.25, "layer": 1}
    return Search("task", "accuracy", "VAR", frame, best, None, comparison(), manifest)


@cache
def harness_result() -> HarnessResult:
    """Two examples of one task, in two forms, without a fix and with one."""
    metrics, differences, rows = [], [], []
    for arm, accuracy, lost in (("none", 0.5, 2.0), ("weak", 1.0, 3.0)):
        about = ({"arm": arm, "task": "t"}, {"n": 2, "higher_is_better": True, "version": "1"})
        metrics += [
            {**about[0], "metric": "acc", "filter": "none", "value": accuracy, "stderr": 0.5, **about[1]},
            {**about[0], "metric": "ppl", "filter": "cut", "value": lost, "stderr": float("nan"), **about[1]},
        ]
        asked = {"prompt": "Which?", "answer": " a", "response": " \u00e4"}
        chosen = {"candidates": [" a", " \u00e4"], "log_probabilities": [-1.5, -0.5]}
        nothing = dict.fromkeys(chosen)
        rows += [
            {**about[0], "filter": "none", "id": str(n), **asked, **chosen, "acc": accuracy} for n in (0, 1)
        ]
        rows += [
            {**about[0], "filter": "cut", "id": str(n), **asked, **nothing, "ppl_json": "[1]"} for n in (0, 1)
        ]
    test = "by hand; exact permutation test, 4 exchanges"
    for name, of, value, unit in (("acc", "none", 0.5, "share"), ("ppl", "cut", 1.0, "")):
        change = Difference(name, value, -1.0 * value, value, 0.5, 1.0, 2, unit, True, test)
        differences.append({"arm": "weak", "task": "t", "filter": of, **asdict(change)})
    manifest = {"seed": 0, "versions": {"lm_eval": "0.4"}, "warnings": ["said"], "fixes": {"weak": []}}
    return HarnessResult(pd.DataFrame(metrics), pd.DataFrame(differences), pd.DataFrame(rows), manifest)


@cache
def trace() -> hw.Trace:
    """Two layers of two heads over two short texts."""
    roles = [["bos", "content", "content", "content"], ["padding", "bos", "content", "content"]]
    tokens = [["<s>", "a", "b", "\u00e4"], ["<pad>", "<s>", "c", "d"]]
    patterns = {
        Site("text", "self", n, f"layers.{n}"): causal(random_pattern(2, 2, 4, 4, seed=n)) for n in (0, 1)
    }
    return make_trace(patterns, {"text": axis("text", roles, tokens)}, meta=META)


def _write_spec(path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=16, n_positions=8)
    fixes = (hw.fixes.ScaleHeads(heads=((0, 1), (1, 0)), factor=0.625), hw.fixes.ZeroHeads(heads=((1, 1),)))
    hw.save_spec(path, fixes, GPT2LMHeadModel(config).eval())


def _frame(frame: pd.DataFrame) -> str:
    return repr((frame.to_dict("split"), [*map(str, frame.dtypes)]))


def _trace_told(found: hw.Trace) -> str:
    records = {
        site: {name: _tensor(value) for name, value in record.items()}
        for site, record in found.records.items()
    }
    axes = {
        name: {
            key: _tensor(value) if isinstance(value, torch.Tensor) else value
            for key, value in vars(item).items()
        }
        for name, item in found.layout.axes.items()
    }
    return repr((records, axes, dict(found.meta)))


def _tensor(value: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return str(value.dtype), tuple(value.shape), value.contiguous().view(torch.uint8).numpy().tobytes()


def _look_at_table(found: Any) -> object:
    return repr(found), found.summary, found._repr_html_(), found.plot()


def _look_at_trace(found: hw.Trace) -> object:
    from headwise.analyses import entropy, sinks

    found._repr_html_()
    for call in (entropy, sinks):
        try:
            repr(call(found))
        except hw.HeadwiseError:  # nothing to tell of is said
            continue
    return repr(found), [found.to_frame(level) for level in ("head", "query", "key")]


def _told(*parts: Callable[[Any], object]) -> Callable[[Any], str]:
    return lambda found: repr([part(found) for part in parts]) + _frame(found.frame)


def _of_comparison(found: Comparison) -> object:
    return found.task, found.manifest, [asdict(arm) for arm in found.arms]


def _of_search(found: Search) -> object:
    judged = found.comparison and _of_comparison(found.comparison)
    return found.task, found.metric, found.kind, found.best, found.manifest, judged, found.summary


def _kinds() -> Mapping[str, Stored]:
    found = {
        "spec": Stored(".json", _write_spec, hw.load_spec, lambda spec: repr(asdict_of(spec)), repr),
        "trace": Stored(
            ".safetensors", lambda path: trace().save(path), hw.load_trace, _trace_told, _look_at_trace
        ),
    }
    results = every_kind()
    for suffix in (".json", ".parquet"):
        for name in ("heads", "classes", "edges", "rows"):
            found[f"result of {name} {suffix}"] = Stored(
                suffix, results[name].save, load_result, _told(lambda one: one.to_dict()), _look_at_table
            )
        found[f"evaluation {suffix}"] = Stored(
            suffix,
            lambda path: evaluation().save(path),
            hw.load_evaluation,
            _told(lambda one: (one.task, one.manifest, {k: asdict(v) for k, v in one.estimates.items()})),
            _look_at_table,
        )
        found[f"comparison {suffix}"] = Stored(
            suffix,
            lambda path: comparison().save(path),
            hw.load_comparison,
            _told(_of_comparison),
            _look_at_table,
        )
        found[f"search {suffix}"] = Stored(
            suffix,
            lambda path: search().save(path),
            hw.load_search,
            _told(_of_search),
            lambda one: (_look_at_table(one), one.comparison and _look_at_table(one.comparison)),
        )
        found[f"harness result {suffix}"] = Stored(
            suffix,
            lambda path: harness_result().save(path),
            hw.load_harness,
            _told(lambda one: (one.manifest, _frame(one.metrics), _frame(one.differences))),
            lambda one: (_look_at_table(one), one.lines()),
        )
    return found


def asdict_of(spec: hw.Spec) -> dict[str, Any]:
    """What a spec holds but the path that it was read from."""
    return {name: value for name, value in vars(spec).items() if name != "path"}


STORED = _kinds()
"""Every kind by name."""
