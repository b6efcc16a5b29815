"""One arm of a comparison: a task's numbers under one fix, what differs from no fix, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.results.numbers import by_metric
from headwise.evaluation.statistics.estimate import Estimate, from_fields, to_fields
from headwise.evaluation.statistics.paired import Difference

NONE = "none"
"""The arm without a fix, which the others are compared with."""
NO_NUMBER = ("undefined", "infinite")
"""What a guard says of a metric that is no longer a number; one that is to be judged may itself be lost so."""


@dataclass(frozen=True)
class Cost:
    """What an arm took: one run, so noisy."""

    seconds: float = 0.0
    """Wall clock."""
    cpu_seconds: float = 0.0
    """Of all threads of the process."""
    tokens: int = 0
    """Generated or scored."""
    wall: float = 1.0
    """Wall clock per token (per example where a task counts no tokens), as a ratio to the arm without a fix."""
    cpu: float = 1.0
    """CPU time per token, as a ratio to the arm without a fix."""


@dataclass(frozen=True)
class Arm:
    """The task under one fix, or several together; only label and fixes are there before it has been run."""

    label: str
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """Metric -> number with its 95 % interval."""
    differences: Mapping[str, Difference] = field(default_factory=dict)
    """Metric -> this arm less the one without a fix; empty for that one."""
    cost: Cost = Cost()
    changed: int = 0
    """Examples that differ at all from those without a fix: in what is said, or in a score by more than 1e-4."""
    repaired: int | None = None
    """Examples wrong without a fix and right with it, where an example is right or wrong."""
    broken: int | None = None
    """Examples right without a fix and wrong with it."""
    leaks_future: bool = False
    """True when a fix lets rows use what comes after them: only answers after the whole prompt are to be trusted."""
    fixes: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    """The fixes as they were installed; not kept in files, whose manifest has their names and parameters."""

    @property
    def main(self) -> Difference:
        """The difference in the metric that the task is known by.

        Raises:
            InputError: for the arm without a fix, which differs from nothing.
        """
        if not self.differences:
            raise InputError("This arm is what the others are compared with.", evidence=self.label)
        return next(iter(self.differences.values()))

    def to_dict(self) -> dict[str, Any]:
        """The fields without the fixes, JSON-able; a number that is not defined is None."""
        return {
            "label": self.label,
            "estimates": [item.to_dict() for item in self.estimates.values()],
            "differences": [item.to_dict() for item in self.differences.values()],
            "cost": to_fields(self.cost),
            "changed": self.changed,
            "repaired": self.repaired,
            "broken": self.broken,
            "leaks_future": self.leaks_future,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arm:
        """What `to_dict` gave."""
        if values.keys() != {item.name for item in fields(cls)} - {"fixes"}:
            raise ValueError(f"an arm has the fields {', '.join(values)}")
        return cls(
            **{
                **values,
                "estimates": by_metric(Estimate, values["estimates"]),
                "differences": by_metric(Difference, values["differences"]),
                "cost": from_fields(Cost, values["cost"]),
            }
        )


def cut(label: str, width: int = 40) -> str:
    """A label with its middle left out where it is long: fixes with many heads have such.

    Example:
        >>> cut("SCALE_HEADS:heads=[[0,0],[0,1]],factor=0.5", 24)
        'SCALE_HEADS…],factor=0.5'
    """
    return label if len(label) <= width else f"{label[: (width - 1) // 2]}…{label[-(width // 2) :]}"


def no_p(change: Difference) -> str:
    """In the place of a p that does not exist."""
    why = change.method.removeprefix("none: ")
    return "too few examples for a p" if change.n < 2 else f"no p, for {why}"


def pairs_note(change: Difference, n: int) -> str:
    """How many pairs a difference is of, where some of `n` examples have no value on either side; else empty."""
    return "" if change.n == n else f", of {change.n} pairs"


def gains(arm: Arm) -> bool:
    """True where the arm is clearly better in the first metric, whatever else it cost."""
    return arm.main.gain > 0 and arm.main.clear


def costs(arm: Arm, manifest: Mapping[str, Any], metric: str = "") -> list[str]:
    """What forbids to call a gain of an arm one, see `Comparison.costs`."""
    guards = manifest.get("guards", {})
    lost = guards.get("fallen", {}).get(arm.label, {}) if guards.get("heeded") else {}
    own = metric or arm.main.metric
    return [text for name, text in lost.items() if name != own or any(word in text for word in NO_NUMBER)]


def effect_note(arm: Arm) -> str:
    """What is not called clear, a sentence; empty where every difference is worth having."""
    least = [
        f"{item.smallest_effect:g} in {item.metric}"
        for item in arm.differences.values()
        if item.smallest_effect
    ]
    return f"Less than {', '.join(least)} is not worth having, and not called clear." if least else ""


def p_text(value: float) -> str:
    """A p-value to three places.

    Example:
        >>> p_text(0.0421), p_text(0.0001)
        ('0.042', '< 0.001')
    """
    return f"{value:.3f}" if not value < 0.001 else "< 0.001"
