"""What a comparison found, in one sentence with numbers, and what it must not be read without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from headwise.evaluation.results.arm import Arm, costs, cut, gains, no_p, p_text, pairs_note
from headwise.evaluation.statistics.estimate import caution, number_text, span
from headwise.evaluation.statistics.multiple import BESIDE


def finding(task: str, arms: Sequence[Arm], manifest: Mapping[str, Any], *, n: int) -> str:
    """The sentence.

    Args:
        task: its name.
        arms: the first is the model without a fix.
        manifest: of the comparison.
        n: examples per arm.
    """
    first, others = arms[0], arms[1:]
    metric, start = next(iter(first.estimates.items()))
    groups = manifest.get("groups", f"n = {n}")
    head = f"{task}, {groups}: {metric} {number_text(start.value, '.3f')} without a fix"
    notes = _notes(arms, manifest, n)
    differ = [arm for arm in others if arm.main.clear]
    if not differ:
        known = [arm.main.p_holm for arm in others if not isnan(arm.main.p_holm)]
        spread = ", ".join(
            f"{cut(arm.label)} {number_text(arm.main.value, '+.3f')}{pairs_note(arm.main, n)}"
            for arm in others
        )
        least = f"smallest p {p_text(min(known))}" if known else no_p(others[0].main)
        return f"{head}; no arm differs clearly from it ({spread}; {least}).{notes}"
    differing = "; ".join(
        f"{cut(arm.label)} {arm.estimates[metric].value:.3f} ({arm.main.value:+.3f}, "
        f"{span(arm.main, '+.3f', words=True)}, p {p_text(arm.main.p_holm)}{pairs_note(arm.main, n)})"
        for arm in differ
    )
    rest = [cut(arm.label) for arm in others if arm not in differ]
    same = f"; no clear difference: {', '.join(rest)}" if rest else ""
    return f"{head}; {differing}{same}.{notes}"


def _notes(arms: Sequence[Arm], manifest: Mapping[str, Any], n: int) -> str:
    others = arms[1:]
    beside = [
        f"{cut(arm.label)} {name} {arm.differences[name].value:+.3f}"
        for arm in others
        for name in BESIDE
        if name in arm.differences and name != arm.main.metric and arm.differences[name].clear
    ]
    small = [
        f"{cut(arm.label)} {arm.main.value:+.3f} of {arm.main.smallest_effect:g} (p {p_text(arm.main.p_holm)})"
        for arm in others
        if arm.main.significant and not arm.main.clear
    ]
    idle = [cut(arm.label) for arm in others if arm.changed == 0]
    ahead = [cut(arm.label) for arm in others if arm.leaks_future]
    costly = [
        f"{cut(arm.label)} ({'; '.join(lost)})"
        for arm in others
        if gains(arm) and (lost := costs(arm, manifest))
    ]
    empty = manifest.get("empty", {})
    silent = [f"{cut(label)} {count} of {n}" for label, count in empty.get("replies", {}).items() if count]
    blank = [f"{empty['references']} of {n}"] if empty.get("references") else []
    shared = manifest.get("fitted", {}).get("left_out")
    split: dict[str, list[str]] = {}
    for arm in others:
        for name in dict.fromkeys((arm.main.metric, *BESIDE)):
            if name in arm.differences and (why := arm.differences[name].disagreement):
                said = cut(arm.label) if name == arm.main.metric else f"{cut(arm.label)} {name}"
                split.setdefault(f"Interval and p disagree, for {why} (take p)", []).append(said)
    reach = manifest.get("statistics", {}).get("out_of_reach")
    doubts = dict.fromkeys(
        text
        for item in (arms[0].estimates[others[0].main.metric], *(arm.main for arm in others if arm.changed))
        if (text := caution(item.method))
    )
    rough: dict[str, list[str]] = {}
    for kind, _, why in (text.partition(": ") for text in doubts):
        rough.setdefault(f"Intervals are {kind}", []).append(why)
    notes = {
        **split,
        "Whatever they do": [reach] if reach else [],
        **rough,
        "Less than the smallest effect worth having": small,
        "Beside it": beside,
        "Never the best": costly,
        "Empty replies": silent,
        "Empty references": blank,
        "Not fitted on, since they share content with these": [f"{shared} examples"] if shared else [],
        "Without any effect on these examples": idle,
        "Reads the future": ahead,
    }
    return "".join(f" {said}: {', '.join(found)}." for said, found in notes.items() if found)
