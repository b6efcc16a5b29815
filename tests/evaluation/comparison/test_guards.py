"""Models that say nothing, the question again, the same to everything, or only as much: never the best on any task."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

import headwise as hw
from headwise.errors import FixError, InputError
from headwise.evaluation import Example, compare, find_task, task_names
from headwise.evaluation.comparison.guards import fallen, fallen_between, guard_metrics, paired
from headwise.evaluation.replies import all_alike, empty, empty_counts, repeated
from headwise.evaluation.results.arm import Arm, no_p
from headwise.evaluation.results.comparison import Comparison
from headwise.evaluation.statistics.estimate import estimate
from headwise.evaluation.statistics.paired import Difference, difference
from headwise.evaluation.task import Metric, Response, mean, ratio
from headwise.evaluation.task_run import estimates, table
from headwise.fixes.head_search import search_heads
from tests.kit.cli import run
from tests.kit.comparisons import SILENT, Next, small_subject

QUICK = ("chair", "pope-random")
WRITTEN = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in task_names()
    if find_task(name).solver.manifest()["asked"] == "generate"
]
ONE_WAY = {"translation": {"source": "en", "target": "sw"}}


def question(example: Example) -> str:
    text = example.inputs.get("text", "")
    return text if isinstance(text, str) else text[0]


def reference(example: Example) -> str:
    return " ".join(map(str, example.answer)) if isinstance(example.answer, list) else str(example.answer)


WAYS = {
    "muted": lambda example: "",
    "repeats": question,
    "yes": lambda example: "yes",
    "as long": lambda example: " ".join(["x"] * len(reference(example).split())),
}


def usual(task: hw.evaluation.Task, example: Example, number: int) -> str:
    """A model that is right two times of three, and talks on for long where it is wrong."""
    answer = example.answer if isinstance(example.answer, str) else example.answer[0]
    if task.name == "chair":
        answer = " and ".join(example.answer)
    wrong = {"yes": "no", "no": "yes"}.get(answer, "one three circle star square " * 6)
    return answer if number % 3 else f"{wrong} and a triangle" if task.name == "chair" else wrong


def outputs(task: hw.evaluation.Task, examples: list[Example], texts: list[str]) -> pd.DataFrame:
    responses = []
    for example, text in zip(examples, texts, strict=True):
        replies = [text] * len(example.answer) if task.name == "yes-no" else [text]
        responses.append(Response(" | ".join(replies), len(text.split()), metadata={"replies": replies}))
    return table(task, examples, responses)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WRITTEN)
def test_what_says_nothing_of_worth_is_never_the_best(name, way):
    task = find_task(name, **ONE_WAY.get(name, {}))
    examples = task.draw(40, 0)
    before = outputs(task, examples, [usual(task, example, place) for place, example in enumerate(examples)])
    after = outputs(task, examples, [WAYS[way](example) for example in examples])
    lost = fallen_between(task, before, after, 0)
    for metric in task.metrics:
        if metric.higher_is_better is None:
            continue
        change = paired(metric, before, after, 0)
        gains = change.gain > 0 and change.significant
        assert not gains or set(lost) - {metric.name}, metric.name
    if way == "muted":
        assert "40 of 40 replies are empty" in lost["replies"]
        assert empty_counts(after)["replies"] == 40


@pytest.mark.parametrize("name", task_names())
def test_every_task_names_its_guards(name):
    task = find_task(name)
    assert any("guards" in vars(kind) for kind in type(task).__mro__ if kind.__name__ != "Task")
    assert {metric.name for metric in guard_metrics(task)} >= set(task.guards)


def test_a_guard_that_is_no_metric_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Wrong(Next):
        guards: ClassVar[tuple[str, ...]] = ("recal",)

    with pytest.raises(InputError, match=r"no metric 'recal' to guard.*accuracy"):
        compare(small_subject(), Wrong(), {"silent": SILENT}, n=9)


RATIOS = [ratio("a", "b"), *find_task("pope").metrics[1:4], *find_task("transcription").metrics[:2]]


@pytest.mark.parametrize("metric", RATIOS, ids=lambda metric: metric.name)
def test_nothing_of_nothing_is_not_a_number(metric: Metric):
    nothing = {name: [0.0] * 30 for name in metric.columns}
    found = estimate(metric, nothing, seed=0)
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert found.method == "none: nothing was counted (0 of 0)"
    assert str(found) == "undefined no interval (n = 30)"
    some = {name: [1.0] * 30 for name in metric.columns}
    for pair in ((some, nothing), (nothing, some)):
        change = difference(metric, *pair, seed=0)
        assert all(math.isnan(number) for number in (change.value, change.p, change.low, change.gain))


def captions(texts: list[str]) -> tuple[Any, pd.DataFrame]:
    task = find_task("chair")
    examples = [
        Example(str(place), {"text": f"describe {place}:"}, ["circle"], {"expected": []})
        for place in range(len(texts))
    ]
    return task, outputs(task, examples, texts)


def compared(task: Any, before: pd.DataFrame, after: pd.DataFrame, *, heeded: bool = True) -> Comparison:
    changes = {metric.name: paired(metric, before, after, 0) for metric in task.metrics}
    frames = [before.assign(arm="none"), after.assign(arm="fix")]
    arms = (
        Arm("none", estimates(task.metrics, before, 0)),
        Arm("fix", estimates(task.metrics, after, 0), changes, changed=1),
    )
    lost = {"fix": fallen(task, before, after, changes)}
    counts = {"replies": {"none": 0, "fix": 2}, "references": 1}
    manifest = {"guards": {"heeded": heeded, "fallen": lost}, "empty": counts}
    return Comparison("chair", arms, pd.concat(frames), manifest)


def test_a_gain_that_costs_recall_is_the_best_only_where_that_is_asked_for():
    task, before = captions(["a circle and a star", "a circle", "a circle and a square"] * 20)
    _, after = captions(["a circle", "all is blue here", "it is all red there"] * 20)
    found = compared(task, before, after)
    assert found["fix"].main.gain > 0
    assert found["fix"].main.significant
    assert found.best is None
    assert found.costs(found["fix"]) == [f"recall {found['fix'].differences['recall'].value:+.3f}"]
    assert found.costs(found["fix"], "recall") == []
    assert "Never the best: fix (recall -0.667). Empty replies: fix 2 of 60." in found.summary
    assert found.summary.endswith(" Empty references: 1 of 60.")
    assert compared(task, before, after, heeded=False).best is not None
    first = found["fix"].main.metric
    lost = {"heeded": True, "fallen": {"fix": {first: f"{first} undefined on 9 of 60 examples"}}}
    unread = replace(found, manifest={**found.manifest, "guards": lost})
    assert unread.costs(found["fix"]) == [f"{first} undefined on 9 of 60 examples"]
    assert unread.best is None


def test_a_length_may_lose_a_tenth():
    task, before = captions(["a circle and a large blue star of ten words"] * 40)
    for words, falls in ((" of nine", False), ("", True)):
        _, after = captions([f"a circle and a large blue thing{words}"] * 40)
        assert ("length" in fallen_between(task, before, after, 0)) is falls


def test_replies_that_hold_nothing():
    frame = pd.DataFrame(
        {
            "response": ["", " | ", "Where is it?", "42", "yes"],
            "prompt": ["a", "a", "Look. Where  is it?", "42", "Say yes or no please now"],
            "answer": ["b", "b", "there", "42", "no"],
        }
    )
    assert empty(frame).tolist() == [True, True, False, False, False]
    assert repeated(frame).tolist() == [False, False, True, False, False]
    assert not all_alike(frame)
    assert all_alike(frame.assign(response="Yes"))
    many = pd.DataFrame({"answer": ["yes", "no"] * 100, "response": ["Yes", "yes."] * 100})
    assert all_alike(many)
    assert all_alike(many.assign(response=["no", *["yes"] * 199]))
    assert not all_alike(many.assign(response=["no"] * 20 + ["yes"] * 180))
    assert not all_alike(frame.assign(response="Yes", answer="no"))
    spoken = many.assign(response=[f"Yes, there is thing {place}." for place in range(200)])
    assert not all_alike(spoken)
    assert all_alike(spoken.assign(parsed="yes"))
    assert empty_counts(frame) == {"replies": 2, "references": 0}


@pytest.mark.parametrize("rule", ["improves", "significant"])
def test_a_head_whose_loss_silences_the_model_is_not_fitted(rule):
    class Data:
        name = "data"
        prompts = ({"text": "a"},) * 20
        calls = 0

        def scores(self, subject):
            self.calls += 1
            better = np.full(20, 1.0)
            return (
                [0.0] * 20
                if self.calls == 1
                else np.where(np.arange(20) < 5 + self.calls, better, np.nan).tolist()
            )

    subject = small_subject()
    kept, _ = search_heads(
        subject,
        Data(),
        lambda layer, head: hw.fixes.ZeroHeads(heads=((layer, head),)),
        layers=(0,),
        rule=rule,
    )
    assert kept == ()


@dataclass(frozen=True, kw_only=True)
class Muting:
    """Fitted by nothing: silences every head."""

    ready: bool = False

    def fit(self, subject, data):
        return replace(self, ready=True)

    def scale(self, z, site, context):
        return z * 0.0


def test_a_fit_that_loses_what_is_guarded_is_refused_unless_that_is_asked_for():
    lm = hw.load("zoo:lm")
    with pytest.raises(FixError, match=r"costs too much.*accuracy -1.000.*--no-guard"):
        hw.fit(lm, Muting(), "recall", n=10)
    assert hw.fit(lm, Muting(), "recall", n=10, guard=False).ready


@pytest.mark.slow
def test_a_muted_captioner_leaves_no_spec(tmp_path):
    heads = json.dumps([[layer, head] for layer in range(4) for head in range(8)])
    spec = tmp_path / "win.json"
    arguments = ("compare", "zoo:vlm", "--task", "chair", "-n", 40, "--fix", f"ZERO_HEADS:heads={heads}")
    result = run(*arguments, "--save-best", spec, "--min-gain", "chair_s=0.01")
    assert result.exit_code == 1
    assert "chair_i undefined" not in result.stdout.splitlines()[2]
    assert "Empty replies: ZERO_HEADS" in result.stdout
    assert "no spec was written" in result.stdout
    assert "(but chair_i undefined (0 of 0); recall -0.8" in result.stdout
    assert not spec.exists()
    allowed = run(*arguments, "--no-guard", "--min-gain", "chair_s=0.01")
    assert allowed.exit_code == 0


def test_a_search_leaves_out_what_loses_what_is_guarded():
    heads = [(layer, head) for layer in range(4) for head in range(4)]
    asked = {"metric": "among", "space": {"factor": (0, 1)}, "trials": 2, "n": 10, "calibrate": 10}
    fix = hw.fixes.ScaleHeads(heads=heads, factor=0.0)
    found = hw.search(hw.load("zoo:lm"), "recall", fix, **asked)
    assert found.manifest["refused"]["1"][0].startswith("accuracy -")
    assert "1 that lost what the task guards were left out." in found.summary
    assert hw.search(hw.load("zoo:lm"), "recall", fix, guard=False, **asked).manifest["refused"] == {}


@pytest.mark.slow
def test_what_reads_the_future_is_not_the_best_where_whole_texts_are_scored():
    class Peek:
        name, steps, leaks_future = "peek", ("edit_residual",), True

        def edit_residual(self, residual, site, context):
            if site.layer == 0:
                context.memory["first"] = residual.clone()
            if site.layer == 3:
                return residual + 4 * torch.roll(context.memory.of("first", len(residual)), -1, 1)
            return residual

    found = compare(hw.load("zoo:lm"), "perplexity", {"peek": Peek()}, n=24)
    assert found["peek"].main.gain > 0
    assert found["peek"].main.significant
    assert found.best is None
    assert "Never the best: peek (reads the future)." in found.summary


@pytest.mark.parametrize(
    ("known", "left", "said"),
    [
        ([math.nan] * 180 + [1.0] * 20, [0.0, 1.0] * 100, "undefined on 180 of 200 examples"),
        ([math.inf] * 180 + [1.0] * 20, [0.0, 1.0] * 100, "infinite"),
        ([-math.inf] + [1.0] * 199, [0.0, 1.0] * 100, "infinite"),
        ([math.nan] * 200, [0.0, 1.0] * 100, "undefined (0 of 0)"),
        (
            [math.nan] * 20 + [1.0] * 180,
            [0.0] * 20 + [math.nan] * 180,
            "undefined on every example that had it",
        ),
    ],
)
def test_a_score_that_is_lost_has_fallen(known, left, said):
    """A task of one's own whose guard becomes infinite, and one that is scored only on what it could do."""
    before = pd.DataFrame({"right": left, "odd": [True] * 200, "answer": ["a", "b"] * 100})
    before = before.assign(response="c", prompt="d", wrong_long=1.0, long=2.0)
    task = Next()
    after = before.assign(right=known)
    metric = guard_metrics(task)[0]
    found = fallen(task, before, after, {metric.name: paired(metric, before, after, 0)})
    assert found["accuracy"] == f"accuracy {said}"


@pytest.mark.parametrize("ends", [(1.0, math.inf), (math.inf, 1.0), (math.inf, math.inf), (1.0, -math.inf)])
def test_what_is_infinite_is_not_called_nothing(ends):
    metric = mean("x", unit="nats")
    one, two = ({"x": [end, *[1.0] * 9]} for end in ends)
    change = paired(metric, pd.DataFrame(one), pd.DataFrame(two), 0)
    assert (change.method, no_p(change)) == (
        "none: the number is infinite",
        "no p, for the number is infinite",
    )
    single = estimate(metric, one if math.isinf(ends[0]) else two, seed=0)
    assert single.method == "none: the number is infinite"
    assert repr(Difference.from_dict(change.to_dict())) == repr(change)
