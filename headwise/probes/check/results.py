"""Results of the self-check, kept beside every model that is alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from headwise.model.device import input_device
from headwise.probes.check.releases import doubt_of_release
from headwise.probes.check.trial import Trial

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHECKS: WeakKeyDictionary[PreTrainedModel, dict[Any, Check]] = WeakKeyDictionary()
"""Checks of models that are alive. They are kept beside them: after a capture a model is as it was."""


@dataclass(frozen=True)
class Check:
    """Findings of the self-check."""

    trials: tuple[Trial, ...] = ()
    unreached: Mapping[str, str] = field(default_factory=dict)
    """Attention modules that ran out of sight, and why."""
    notes: tuple[str, ...] = ()
    """Why it was not run."""

    @property
    def generate(self) -> str | None:
        """Why generations cannot be followed; None when they can, or when nobody has generated yet."""
        return self.problem("decode step")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for a user: the check was not run, or the release is not one that headwise is verified on."""
        release = doubt_of_release(passed=[trial.name for trial in self.trials if trial.passed])
        return self.notes if release is None else (*self.notes, release)

    def problem(self, name: str) -> str | None:
        """Problem of one use of the model; None when there is none, or when it was not tried."""
        return next((trial.problem for trial in self.trials if trial.name == name and trial.problem), None)


def known_check(model: PreTrainedModel, implementation: str | None) -> Check | None:
    """The check of a model as it is now: its implementation, dtype, device and mode; None before the first."""
    return _CHECKS.get(model, {}).get(_key(model, implementation))


def keep_check(model: PreTrainedModel, implementation: str | None, check: Check) -> None:
    """Keeps the check of a model as it is now."""
    _CHECKS[model] = {**_CHECKS.get(model, {}), _key(model, implementation): check}


def _key(model: PreTrainedModel, implementation: str | None) -> Any:
    return implementation, model.dtype, input_device(model), model.training
