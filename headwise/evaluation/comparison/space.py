"""Which strengths of a fix a search may try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError, InputError
from headwise.plugins import as_known, close_names

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Bounds = Mapping[str, tuple[float, float]]
"""Parameter -> smallest and largest value."""


@dataclass(frozen=True)
class Space:
    """Parameters of a fix with their ranges; every setting in it is one that the fix accepts at the ends.

    Example:
        >>> from headwise.fixes import ScaleHeads
        >>> space_of(ScaleHeads(heads=((0, 1),), factor=0.5), {"factor": (0, 2)}).neutral
        {'factor': 1.0}
    """

    fix: Any
    bounds: Bounds

    def at(self, setting: Mapping[str, Any]) -> Any:
        """The fix with these parameters."""
        return replace(self.fix, **setting)

    @property
    def given(self) -> dict[str, Any] | None:
        """The parameters that the fix came with; None where one is outside of its range, or no number."""
        setting = {name: getattr(self.fix, name) for name in self.bounds}
        inside = (
            isinstance(value, int | float) and low <= value <= high
            for value, (low, high) in zip(setting.values(), self.bounds.values(), strict=True)
        )
        return setting if all(inside) else None

    @property
    def neutral(self) -> dict[str, Any] | None:
        """A setting that changes nothing: one parameter at an end, at 0 or at 1; None where there is none."""
        base = self.given or {name: self._middle(name) for name in self.bounds}
        for name, (low, high) in self.bounds.items():
            for value in (low, high, 0, 1):
                setting = {**base, name: value if self._whole(name) else float(value)}
                if low <= value <= high and getattr(self.at(setting), "neutral", False):
                    return setting
        return None

    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges as Optuna knows them."""
        from optuna.distributions import FloatDistribution, IntDistribution

        return {
            name: IntDistribution(int(low), int(high)) if self._whole(name) else FloatDistribution(low, high)
            for name, (low, high) in self.bounds.items()
        }

    def _whole(self, name: str) -> bool:
        """True for a parameter that counts, such as a layer."""
        return isinstance(getattr(self.fix, name), int) and all(
            isinstance(end, int) for end in self.bounds[name]
        )

    def _middle(self, name: str) -> float:
        low, high = self.bounds[name]
        return (int(low) + int(high)) // 2 if self._whole(name) else (low + high) / 2


def space_of(fix: Any, given: Bounds | None = None) -> Space:
    """The space to search: what is given, else what the class of the fix names as `space`.

    Raises:
        InputError: there is none, it names no parameter of the fix, or a range is none.
        FixError: the fix does not take an end of a range.
    """
    kind = type(fix)
    if not is_dataclass(kind):
        raise InputError("Only the parameters of a dataclass can be searched.", evidence=kind.__name__)
    bounds = dict(getattr(kind, "space", {}) if given is None else given)
    names = [item.name for item in fields(kind) if item.init]
    if not bounds:
        raise InputError(
            f"{kind.__name__} names no parameters to search.",
            evidence=f"it has: {', '.join(names)}",
            remedy='Give them with their ranges: space={"name": (low, high)}.',
        )
    found = {}
    for written, span in bounds.items():
        name = as_known(written, names)
        if name is None or name in found:
            raise InputError(
                f"{kind.__name__} has no {written!r}."
                if name is None
                else f"The range of {name!r} is given twice.",
                evidence=close_names(written, names),
                remedy="Give every parameter once, by its name.",
            )
        found[name] = _span(name, span)
        for end in found[name]:
            try:
                replace(fix, **{name: end})
            except (TypeError, ValueError) as error:
                if isinstance(error, FixError):
                    raise
                raise FixError(f"{kind.__name__} cannot have {name}={end!r}.", evidence=str(error)) from error
    return Space(fix, found)


def _span(name: str, span: Any) -> tuple[float, float]:
    ends = tuple(span) if isinstance(span, tuple | list) else ()
    numbers = all(isinstance(end, int | float) and isfinite(end) for end in ends)
    if len(ends) != 2 or not numbers or not ends[0] < ends[1]:
        raise InputError(
            f"The range of {name!r} is none.",
            evidence=repr(span),
            remedy="Give two numbers, the smaller one first.",
        )
    return ends
