"""A planted fault: damage to a model of the zoo, what judges it, what repairs it and what must not."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation import find_task
from headwise.model.fingerprint import fingerprint
from headwise.subject import Subject, load
from headwise.zoo.damage import Damage

if TYPE_CHECKING:
    from headwise.evaluation.task import Task


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Damage to a model of the zoo, with what repairs it and what must not.

    Example:
        >>> import headwise as hw
        >>> from headwise.zoo_checks import faults
        >>> fault = faults.get("muted-heads")
        >>> healthy, faulty = hw.load(fault.model), fault.plant()
        >>> before, after = (hw.evaluate(one, fault.question(), n=50).value for one in (healthy, faulty))
        >>> after < before - 0.05
        True
    """

    damage: Damage
    """What is done to the model, and to which."""
    cause: str
    """What is wrong, in a sentence."""
    task: str
    """Name of the task that it is judged on."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task."""
    oracle: tuple[Any, ...]
    """Fixes that, together, repair it: they use what only the one who planted it knows."""
    wrong: tuple[Any, ...]
    """Fixes that look alike and must not repair it."""
    control: tuple[Any, ...]
    """Fixes that must cost the healthy model nothing."""
    control_says: str
    """What the control shows, in a sentence."""
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a fix -> parameters that it cannot find in a model of this size: part of what the planter knows."""

    @property
    def name(self) -> str:
        """Its name, such as "text-sink"."""
        return self.damage.name

    @property
    def model(self) -> str:
        """The model of the zoo that it belongs to, such as "zoo:vlm"."""
        return self.damage.model

    def question(self) -> Task:
        """The task that it is judged on."""
        return find_task(self.task, **dict(self.options))

    def plant(self, subject: Subject | None = None) -> Subject:
        """A damaged deep copy.

        Args:
            subject: the healthy model, which stays as it is; loaded when None.

        Raises:
            InputError: it is not the model that the fault was made for.
        """
        healthy = load(self.model)
        if subject is None:
            subject = healthy
        elif fingerprint(subject.model) != fingerprint(healthy.model):
            raise InputError(
                f"The fault {self.name} belongs to {self.model}.",
                evidence=f"{subject.name or type(subject.model).__name__} has other weights",
                remedy=f'Plant it in hw.load("{self.model}").',
            )
        model = copy.deepcopy(subject.model)
        self.damage.apply(model)
        return replace(subject, model=model, name=f"{self.model}+{self.name}")
