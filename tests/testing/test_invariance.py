"""The shared invariance suite: every registered analysis and fix passes the checks of `headwise.testing`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from headwise import analyses, fixes
from headwise.errors import InputError
from headwise.testing import (
    Check,
    analysis_checks,
    check_analysis,
    check_fix,
    fix_checks,
    parametrize_with_checks,
)
from tests.kit.analyses import NAMES, SEEING
from tests.kit.edits import FirstKey, Identity
from tests.kit.fixes import FIXES, NEUTRAL, models_of

FEW = ("llama", "bert", "llava")
EXEMPT = {"vhr": ("causality",)}
"""The heads of VHR are chosen by what stands at the end of the prompt, for all positions."""


def checks_of(name: str) -> tuple[Check, ...]:
    fix = FIXES[name]
    return fix_checks(
        fix(0), shifted=fix, neutral=NEUTRAL[name], models=models_of(name), exempt=EXEMPT.get(name, ())
    )


TRACED = (*NAMES["trace"], *NAMES["pair"], *(name for name in SEEING if analyses.get(name).inputs == "trace"))


def wide(check: Check) -> list[pytest.MarkDecorator]:
    return [] if check.model in FEW else [pytest.mark.wide]


def test_every_registered_fix_is_tested() -> None:
    assert set(FIXES) == set(fixes.names()) == set(NEUTRAL)


@parametrize_with_checks([check for name in fixes.names() for check in checks_of(name)], marks=wide)
def test_fixes(check: Check) -> None:
    check()


@parametrize_with_checks(
    [check for name in TRACED for check in analysis_checks(name)],
    marks=wide,
)
def test_analyses(check: Check) -> None:
    check()


class LastRow:
    """Shifts weight by the number of rows in hand: padding, caching and batches change it."""

    def edit(self, pattern, site, context):
        new = pattern.clone()
        new[..., -1, :] = new[..., -1, :].flip(-1)
        return new


def test_a_fix_that_breaks_laws_is_told_which() -> None:
    with pytest.raises(AssertionError) as told:
        check_fix(LastRow(), models=["llama"])
    for law in ("right_padding", "decoding", "patterns"):
        assert f"LastRow-{law}-llama" in str(told.value)
    assert "LastRow-acts" not in str(told.value)


def test_a_fix_that_does_nothing_does_not_pass() -> None:
    with pytest.raises(AssertionError, match="changes nothing here"):
        check_fix(Identity(), models=["llama"])


def test_neutral_is_held_bit_for_bit() -> None:
    checks = fix_checks(FirstKey(), neutral=FirstKey(), models=["llama"])
    (neutral,) = (check for check in checks if check.law == "neutral")
    with pytest.raises(AssertionError, match="neutral fix changes"):
        neutral()


def test_a_law_can_be_exempt_and_a_model_that_sees_is_chosen_by_needs() -> None:
    assert "causality" not in {check.law for check in fix_checks(FirstKey(), exempt=("causality",))}
    fix = FirstKey()
    fix.needs = {"image"}
    assert {check.model for check in fix_checks(fix)} == {"llava"}


def test_an_analysis_that_asks_for_the_kernel_is_told_so() -> None:
    @analyses.analysis(
        kind="heads",
        keys=analyses.HEAD,
        value="eager",
        unit="",
        description="",
        summary=lambda frame: ".",
    )
    def eager(trace):
        """Whether the model runs its eager attention."""
        frame = analyses.entropy(trace).frame[list(analyses.HEAD)]
        return frame.assign(eager=float("eager" in trace.meta["attention"]))

    with pytest.raises(AssertionError, match="eager-kernel-llama") as told:
        check_analysis(eager, models=["llama"])
    assert "1 of " in str(told.value)


def test_an_analysis_whose_rows_depend_on_other_examples_is_told_so() -> None:
    @analyses.analysis(
        kind="heads",
        keys=analyses.HEAD,
        value="lead",
        unit="",
        description="",
        summary=lambda frame: ".",
    )
    def lead(trace):
        """Entropy of a head above its mean over the examples of the capture."""
        frame = analyses.entropy(trace).frame[[*analyses.HEAD, "entropy"]]
        mean = frame.groupby(["tower", "layer", "head"])["entropy"].transform("mean")
        return frame.assign(lead=frame.pop("entropy") - mean)

    with pytest.raises(AssertionError) as told:
        check_analysis(lead, models=["llama"])
    for law in ("batching", "left_padding", "right_padding"):
        assert f"lead-{law}-llama" in str(told.value)


def test_an_analysis_of_a_pair_is_given_two_traces_with_what_it_needs() -> None:
    @analyses.analysis(
        kind="heads",
        keys=analyses.HEAD,
        value="change",
        unit="nats",
        description="Change of the entropy.",
        summary=lambda frame: ".",
        needs=("stats", "heads"),
        inputs="pair",
    )
    def change(before, after):
        """Change of the entropy."""
        assert before.heads
        assert after.heads
        frame, other = (analyses.entropy(trace).frame for trace in (before, after))
        return frame[list(analyses.HEAD)].assign(change=other["entropy"] - frame["entropy"])

    check_analysis(change, models=["llama", "bert"])


def test_an_analysis_that_runs_the_model_is_not_judged_by_these_laws() -> None:
    @analyses.analysis(
        kind="heads",
        keys=analyses.HEAD,
        value="x",
        unit="",
        description="",
        summary=lambda frame: ".",
        inputs="subject",
    )
    def study(subject, data):
        """A study."""

    with pytest.raises(InputError, match="runs the model itself"):
        analysis_checks(study)


@pytest.mark.slow
def test_check_fix_needs_no_pytest() -> None:
    code = (
        "import sys; from headwise.testing import check_fix; import headwise as hw; "
        "check_fix(hw.fixes.ZeroHeads(heads=((0, 0),)), models=['llama']); print('pytest' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "False"
