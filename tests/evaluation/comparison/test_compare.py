"""`hw.compare`: the same examples for every arm, honest differences, and a model that is left alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import headwise as hw
from headwise.cli.compare import _failure, table_lines
from headwise.errors import FixError, HeadwiseWarning, InputError, NotFitted
from headwise.evaluation import evaluate, find_task
from headwise.evaluation.comparison._compare import compare
from headwise.evaluation.comparison.arms import describe, parse_arms
from headwise.fixes import MaskKeys, ScaleHeads, ZeroHeads
from headwise.fixes.spec.specs import save_spec
from headwise.reports.collect.comparisons import shown_comparison
from tests.kit.comparisons import SILENT, Breaks, Learned, Next, recorded_questions, small_subject
from tests.tiny.snapshot import snapshot

HALF = ScaleHeads(heads=((0, 1),), factor=0.5)
NEUTRAL = ScaleHeads(heads=((0, 1),), factor=1.0)


@pytest.fixture(scope="module")
def subject():
    return small_subject()


@pytest.fixture(scope="module")
def found(subject):
    return compare(subject, Next(), {"silent": SILENT, "half": HALF, "neutral": NEUTRAL}, n=30, seed=1)


@pytest.fixture
def asked(monkeypatch):
    """The ids of every call that puts questions to a model."""
    return recorded_questions(monkeypatch)


def timeless(manifest):
    return {key: value for key, value in manifest.items() if key != "seconds"}


def test_a_second_run_gives_the_same_numbers(subject, found):
    again = compare(subject, Next(), {"silent": SILENT, "half": HALF, "neutral": NEUTRAL}, n=30, seed=1)
    pd.testing.assert_frame_equal(again.frame, found.frame)
    timing = ["time_ratio", "cpu_ratio"]
    pd.testing.assert_frame_equal(
        again.to_frame().drop(columns=timing), found.to_frame().drop(columns=timing)
    )
    assert timeless(again.manifest) == timeless(found.manifest)
    assert again.summary == found.summary


def test_every_arm_has_the_same_examples_and_none_is_the_model_itself(subject, found):
    assert [arm.label for arm in found.arms] == ["none", "silent", "half", "neutral"]
    frames = {
        label: rows.drop(columns="arm").reset_index(drop=True) for label, rows in found.frame.groupby("arm")
    }
    for rows in frames.values():
        assert rows["id"].to_list() == found.manifest["ids"]
    pd.testing.assert_frame_equal(frames["none"], evaluate(subject, Next(), n=30, seed=1).frame)
    pd.testing.assert_frame_equal(frames["neutral"], frames["none"])
    with hw.patch(subject, SILENT):
        pd.testing.assert_frame_equal(frames["silent"], evaluate(subject, Next(), n=30, seed=1).frame)
    assert list(found.frame.columns[:6]) == ["arm", "id", "prompt", "answer", "response", "tokens"]
    assert found.n == 30


def test_differences_and_flips_are_those_of_the_rows(found):
    rows = {label: part.reset_index(drop=True) for label, part in found.frame.groupby("arm")}
    for label in ("silent", "half"):
        arm, one, two = found[label], rows["none"], rows[label]
        assert arm.main.value == pytest.approx(two["right"].mean() - one["right"].mean())
        pooled = [part["wrong_long"].sum() / part["long"].sum() for part in (two, one)]
        assert arm.differences["wrong_long/long"].value == pytest.approx(pooled[0] - pooled[1])
        assert arm.repaired == (two["right"] & ~one["right"]).sum()
        assert arm.broken == (one["right"] & ~two["right"]).sum()
        assert arm.main.value * 30 == pytest.approx(arm.repaired - arm.broken)
        odd = arm.differences["odd"]
        kept = one["odd"]
        assert odd.n == kept.sum()
        assert odd.value == pytest.approx(two["right"][kept].mean() - one["right"][kept].mean())
    neutral = found["neutral"]
    assert (neutral.main.value, neutral.main.p, neutral.repaired, neutral.broken) == (0, 1, 0, 0)
    assert found.arms[0].differences == {}


def test_p_is_adjusted_over_the_arms_and_over_what_the_finding_speaks_of(found):
    metrics = list(found.arms[0].estimates)
    told = [name for name in metrics if name in (metrics[0], "recall", "tokens")]
    assert len(told) < len(metrics)
    for chosen, among in ((told, told), (metrics, metrics)):
        plain = {(arm.label, name): arm.differences[name].p for arm in found.arms[1:] for name in among}
        order = sorted((key for key in plain if not math.isnan(plain[key])), key=lambda key: plain[key])
        least = 0.0
        for place, key in enumerate(order):
            least = max(least, min(1.0, (len(order) - place) * plain[key]))
            if key[1] in chosen and (chosen is told or key[1] not in told):
                assert found[key[0]].differences[key[1]].p_holm == pytest.approx(least)


def test_the_manifest_says_what_was_installed(found):
    assert found.manifest["fixes"]["silent"] == [
        {
            "fix": "zero_heads",
            "parameters": {"heads": [[0, 0], [0, 1]], "tower": None, "kind": "self"},
        }
    ]
    assert found.manifest["task"] == {"name": "next", "version": 1, "options": {"count": 40}}
    assert found.manifest["decoding"]["asked"] == "choose"
    assert found.manifest["seed"] == 1
    assert set(found.manifest["seconds"]) == {"none", "silent", "half", "neutral"}
    assert found.manifest["fitted"] == {"on": None, "ids": [], "fixes": {}}
    assert len(found.manifest["model"]["fingerprint"]) == 16
    json.dumps(found.manifest)


def test_fixes_in_one_arm_act_together(subject):
    first, second = ScaleHeads(heads=((0, 0),), factor=0.0), ScaleHeads(heads=((0, 1),), factor=0.0)
    found = compare(subject, Next(), [[first, second], SILENT])
    together, silent = (
        found.frame[found.frame["arm"] == label]["margin"].to_numpy()
        for label in ("ScaleHeads:factor=0 + ScaleHeads:factor=0", "ZeroHeads")
    )
    np.testing.assert_array_equal(together, silent)
    assert len(found.arms[1].fixes) == 2


def test_what_must_be_fitted_is_fitted_on_other_examples(subject, asked):
    fix = Learned(beta=0.0)
    found = compare(subject, Next(), {"both": [HALF, fix], "alone": fix}, n=20, calibrate=6)
    fitted = found.manifest["fitted"]
    assert fitted["on"] == "next, validation, n = 6, seed 0"
    assert list(fitted["fixes"]) == ["both", "alone"]
    assert fitted["fixes"]["alone"][0]["parameters"]["heads"] == [[0, 0]]
    assert len(fitted["ids"]) == 6
    assert set(fitted["ids"]).isdisjoint(found.manifest["ids"])
    test_texts = set(found.frame["prompt"])
    for seen in fix.seen:
        assert not test_texts & {prompt["text"] for prompt in seen["prompts"]}
    # every fit asks the validation examples alone; then one batch, and the four arms' own examples
    assert asked[:2] == [fitted["ids"], fitted["ids"]]
    assert asked[3:] == [found.manifest["ids"]] * 3
    assert found["alone"].fixes[0].heads == ((0, 0),)


def test_a_fix_that_reads_the_future_is_reported(subject):
    found = compare(subject, Next(), {"ahead": Learned(heads=((0, 0),), beta=0.0), "silent": SILENT}, n=10)
    assert found["ahead"].leaks_future
    assert not found["silent"].leaks_future
    assert found.manifest["leaks_future"] == ["ahead"]
    assert found.manifest["fixes"]["ahead"][0]["leaks_future"] is True
    assert found.summary.endswith("Reads the future: ahead.")
    assert found.to_frame().groupby("arm")["leaks_future"].first().to_dict() == {
        "ahead": True,
        "none": False,
        "silent": False,
    }


def test_too_few_examples_to_fit_on_are_told_before_anything_is_asked(subject, asked):
    with pytest.raises(InputError, match=r"too few examples left.*Compare fewer"):
        compare(subject, Next(), [Learned()], n=35, calibrate=20)
    with pytest.raises(InputError, match="0 beside the 40"):
        compare(subject, Next(), [Learned()])
    assert asked == []


class Blind:
    """No registered fix, and without a way to be fitted."""

    def bind(self, model):
        raise NotFitted("Blind lacks its constants.", remedy="Give them.")

    def scale(self, z, site, context):
        return z


@pytest.mark.parametrize(
    ("fixes", "error", "said"),
    [
        ([], InputError, "no fix to compare"),
        ({}, InputError, "no fix to compare"),
        ([[]], InputError, "An arm has no fix"),
        (
            [SILENT, ZeroHeads(heads=((0, 1),))],
            InputError,
            "Two arms are called 'ZeroHeads'.*Name them yourself",
        ),
        ({"none": SILENT}, InputError, "'none' is the model without a fix"),
        ([ZeroHeads], FixError, "This is no fix"),
        ([3], FixError, "This is no fix.*int: 3"),
        ([ZeroHeads(heads=((7, 0),))], FixError, "names layer 7"),
        ({"a": SILENT, "b": [HALF, ZeroHeads(heads=((0, 9),))]}, FixError, "names L0H9"),
        ([MaskKeys(keys=(0,), tower="vision")], FixError, "no self-attention in a tower 'vision'"),
        ([Blind()], NotFitted, "Blind lacks"),
        (["no/such/spec.json"], InputError, "no such spec file"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_asked(subject, asked, fixes, error, said):
    hw.patch(subject, SILENT).remove()
    before = snapshot(subject.model)
    with pytest.raises(error, match=said):
        compare(subject, Next(), fixes)
    assert asked == []
    assert snapshot(subject.model) == before


def test_bad_calls_are_refused(subject):
    with pytest.raises(InputError, match="has 40 examples, fewer than 41"):
        compare(subject, Next(), SILENT, n=41)
    with pytest.raises(InputError, match="count examples"):
        compare(subject, Next(), SILENT, n=0)
    with pytest.raises(InputError, match="example or more"):
        compare(subject, Next(), Learned(), n=10, calibrate=0)
    with pytest.raises(InputError, match="no tokenizer"):
        compare(subject.model, Next(), SILENT)
    with pytest.raises(InputError, match="shows pictures"):
        compare(subject, "pope-random", SILENT)


def test_a_failure_in_the_middle_leaves_the_model_as_it_was(subject):
    plain = evaluate(subject, Next(), n=5).frame
    before = snapshot(subject.model)
    with pytest.raises(Exception, match="broken on purpose"):
        compare(subject, Next(), {"silent": SILENT, "breaks": Breaks()}, n=20, batch_size=4)
    assert snapshot(subject.model) == before
    pd.testing.assert_frame_equal(evaluate(subject, Next(), n=5).frame, plain)


def test_a_spec_is_an_arm_and_belongs_to_its_model(subject, tmp_path):
    path = tmp_path / "silent.json"
    save_spec(path, SILENT, subject)
    found = compare(subject, Next(), [path, HALF], n=10)
    same = compare(subject, Next(), [SILENT], n=10)
    silent = found.frame[found.frame["arm"] == path.name]["margin"].to_numpy()
    np.testing.assert_array_equal(silent, same.frame[same.frame["arm"] == "ZeroHeads"]["margin"])
    other = small_subject()
    other.model.transformer.wte.weight.data.mul_(2)
    with pytest.raises(FixError, match="weights"):
        compare(other, Next(), [path], n=10)


def test_progress_runs_over_all_arms(subject):
    told = []
    compare(subject, Next(), [SILENT], n=10, batch_size=4, progress=lambda *pair: told.append(pair))
    assert told[-1] == (20, 20)
    assert told == sorted(told)


def test_labels_say_what_was_chosen():
    arms = parse_arms([HALF, [NEUTRAL, SILENT], MaskKeys(keys=(0,), kind="cross")])
    assert [arm.label for arm in arms] == [
        "ScaleHeads:factor=0.5",
        "ScaleHeads:factor=1 + ZeroHeads",
        "MaskKeys:kind=cross",
    ]
    assert parse_arms({"a": HALF})[0].label == "a"
    assert parse_arms(HALF)[0].fixes == (HALF,)


def test_a_fix_with_a_tensor_is_described_by_its_digest():
    import torch

    fix = hw.fixes.Replace(quantity="z", layer=0, value=torch.ones(1, 2, 2, 8))
    one, two = describe(fix), describe(replace(fix, value=torch.zeros(1, 2, 2, 8)))
    assert one["parameters"]["value"]["tensor"] == [1, 2, 2, 8]
    assert one["parameters"]["value"]["sha256"] != two["parameters"]["value"]["sha256"]
    assert describe(Blind()) == {"fix": f"{__name__}:Blind", "parameters": {}}


def test_the_cost_is_told_per_token_beside_no_fix(found):
    base, *others = (arm.cost for arm in found.arms)
    assert (base.wall, base.cpu) == (1, 1)
    for cost in others:
        assert cost.tokens == base.tokens == 30
        assert cost.wall == pytest.approx(cost.seconds / base.seconds)


def test_only_a_clear_gain_is_a_best_arm(found):
    assert found.best is None
    assert "no arm differs clearly" in found.summary or "no clear difference" in found.summary
    arm = found["silent"]
    better = replace(arm.main, value=0.4, p_holm=0.01)
    gained = replace(arm, differences={**arm.differences, "accuracy": better})
    assert replace(found, arms=(found.arms[0], gained, found["half"])).best == gained
    worse = replace(arm, differences={**arm.differences, "accuracy": replace(better, value=-0.4)})
    assert replace(found, arms=(found.arms[0], worse)).best is None
    assert "silent" in replace(found, arms=(found.arms[0], worse, found["half"])).summary


def test_groups_are_what_can_be_exchanged(subject):
    class Tens(Next):
        def examples(self):
            return [replace(one, group=str(place // 10)) for place, one in enumerate(super().examples())]

    with pytest.warns(HeadwiseWarning, match=r"n = \d groups \(p is"):
        compare(subject, Tens(), {"half": HALF}, n=30)


def test_what_is_smaller_than_the_smallest_effect_worth_having_is_not_clear(found):
    arm, others = found["silent"], (found["half"],)
    gain = replace(arm.main, value=0.02, low=0.01, high=0.03, p_holm=0.01, smallest_effect=0.02)
    for change, clear in ((gain, True), (replace(gain, smallest_effect=0.03), False)):
        gained = replace(arm, differences={**arm.differences, "accuracy": change})
        judged = replace(found, arms=(found.arms[0], gained, *others))
        assert (judged.best == gained) is clear
        said = "Less than the smallest effect worth having: silent +0.020 of 0.03 (p 0.010)."
        assert (said in judged.summary) is not clear


@pytest.mark.parametrize(
    ("asked", "effect", "fails"), [(0.2, 0.1, 0), (0.2, 0.3, 1), (-0.2, 0.3, 0), (0, 0.3, 0)]
)
def test_a_gain_that_is_asked_for_is_worth_having(found, asked, effect, fails):
    """A loss that is let pass (0 or less) is none of the gains that have to be worth it."""
    arm = found["half"]
    change = replace(arm.main, value=0.25, low=0.2, high=0.3, smallest_effect=effect)
    gained = replace(arm, differences={**arm.differences, "accuracy": change})
    said = _failure(replace(found, arms=(found.arms[0], gained)), ("--min-gain", "accuracy", asked))
    assert said.startswith(f"no arm gains {effect} in accuracy" if fails else "")
    assert bool(said) == bool(fails)


def test_the_smallest_effect_is_the_tasks_or_the_users(subject):
    class Careful(Next):
        @property
        def metrics(self):
            return (replace(super().metrics[0], smallest_effect=0.1), *super().metrics[1:])

    for given, expected in ((None, 0.1), (0.2, 0.2)):
        found = compare(subject, Careful(), {"half": HALF}, n=9, smallest_effect=given)
        assert found["half"].main.smallest_effect == expected
        assert found.manifest["statistics"]["smallest_effect"] == {"accuracy": expected}
        said = f"Less than {expected} in accuracy is not worth having, and not called clear."
        tables = (found.to_result().description, shown_comparison(found, 1).table.note, *table_lines(found))
        assert sum(said in text for text in tables) == 3
    assert "worth having" not in " ".join(table_lines(compare(subject, Next(), {"half": HALF}, n=9)))
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="worth having is a distance"):
            compare(subject, Next(), {"half": HALF}, n=9, smallest_effect=wrong)


def test_one_example_has_no_p(subject):
    with pytest.warns(HeadwiseWarning, match=r"No difference can be found with n = 1 and 2 arms"):
        found = compare(subject, Next(), {"silent": SILENT, "half": HALF}, n=1)
    assert "Whatever they do: no difference can be found with n = 1 and 2 arms" in found.summary
    assert math.isnan(found["silent"].main.p_holm)
    assert "too few examples for a p)." in found.summary
    assert "nan" not in found.summary
    assert str(found["silent"].main).endswith(" no interval (n = 1)")
    assert "none (n = 1)" in str(shown_comparison(found, 1).table.rows)
    assert "– to –" not in str(shown_comparison(found, 1).table.rows)
    unknown, known = found["silent"], replace(found["half"].main, p_holm=0.25)
    half = replace(found["half"], differences={**found["half"].differences, "accuracy": known})
    for others in ((unknown, half), (half, unknown)):
        assert "smallest p 0.250)" in replace(found, arms=(found.arms[0], *others)).summary


@pytest.mark.slow
def test_perplexity_of_trained_heads_and_silent_ones():
    lm = hw.load("zoo:lm")
    silent = ZeroHeads(heads=[(layer, head) for layer in range(4) for head in range(4)])
    found = compare(lm, "perplexity", {"silent": silent}, n=12)
    rows = dict(list(found.frame.groupby("arm")))
    expected = [
        math.exp(rows[label]["nll"].sum() / rows[label]["tokens"].sum()) for label in ("silent", "none")
    ]
    change = found["silent"].main
    assert change.metric == "perplexity"
    assert change.value == pytest.approx(expected[0] - expected[1])
    assert change.low > 0
    assert change.gain < 0
    assert change.p == 2 / 2**12  # every text is read worse
    assert found["silent"].repaired is None
    assert found.best is None


@pytest.mark.slow
def test_a_hallucination_score_stands_beside_recall_and_length():
    vlm = hw.load("zoo:vlm")
    quiet = ScaleHeads(heads=[(layer, head) for layer in range(4) for head in range(8)], factor=0.1)
    found = compare(vlm, "chair", {"quiet": quiet}, n=40)
    table = found.to_frame()
    assert list(table["metric"].unique()) == [
        *("chair_i", "chair_s", "recall", "length", "successors", "tokens"),
    ]
    tokens = found["quiet"].differences["tokens"]
    mean = found.frame.groupby("arm")["tokens"].mean()
    assert tokens.value == pytest.approx(mean["quiet"] - mean["none"])
    assert tokens.higher_is_better is None
    assert found["quiet"].main.higher_is_better is False
    assert found["quiet"].differences["recall"].significant
    assert f"Beside it: quiet recall {found['quiet'].differences['recall'].value:+.3f}" in found.summary


@pytest.mark.slow
def test_the_fixes_of_the_papers_are_fitted_and_compared():
    vlm = hw.load("zoo:vlm")
    found = compare(vlm, "pope-random", ["VAR", "VHR:alpha=1.5", "VHR:alpha=1", "VAR+VHR"], n=24, calibrate=8)
    assert list(found.manifest["fitted"]["fixes"]) == ["VAR", "VAR+VHR"]
    assert found.manifest["fixes"]["VHR:alpha=1.5"][0]["parameters"]["layers"]
    assert found["VHR:alpha=1"].changed == 0
    assert "Without any effect on these examples:" in found.summary
    with pytest.raises(FixError, match="this model takes none"):
        compare(hw.load("zoo:lm"), "recall", ["VAR"], n=8)
    ahead = compare(hw.load("zoo:lm"), "recall", [hw.fixes.ACT(heads=((2, 0),), mode="full")], n=8)
    assert ahead.manifest["leaks_future"] == ["ACT:mode=full"]


def test_a_task_where_a_fix_helps_has_a_best_arm():
    """A model with muted heads, whose repair is to be found."""
    vlm = hw.load("zoo:vlm")
    muted = [(layer, head) for layer in range(4) for head in range(8)]
    with hw.patch(vlm, ScaleHeads(heads=muted, factor=0.05)):
        fixes = {
            "repair": ScaleHeads(heads=muted, factor=20.0),
            "control": ScaleHeads(heads=[(0, 0)], factor=1.1),
        }
        found = compare(vlm, find_task("scene-existence", noise=0), fixes, n=40)
    assert found.best is not None
    assert found.best.label == "repair"
    assert found["repair"].main.low > 0
    assert found["repair"].repaired > found["repair"].broken
    assert found["control"].main.p_holm > 0.05
    assert "repair 1.000" in found.summary
