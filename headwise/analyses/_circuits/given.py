"""A model with a task, as the analyses of circuits are given them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headwise.analyses.inputs import as_subject
from headwise.circuits.experiment import Experiment, MetricName
from headwise.circuits.pairs import PairSet
from headwise.circuits.texts import text_pairs
from headwise.probes.capture import run_record
from headwise.subject.info import identity_of

if TYPE_CHECKING:
    from headwise.subject import Subject

Task = PairSet | Iterable[Mapping[str, Any]]
"""Pairs, or rows with `clean`, `corrupted`, `correct` and `wrong`."""


def experiment_of(
    subject: Subject, data: Task, name: str, *, metric: MetricName, batch_size: int, check: bool
) -> Experiment:
    """What the analysis of that name was given, as an experiment.

    Raises:
        InputError: it is no model, or no task that the model does.
    """
    subject = as_subject(subject, name)
    pairs = data if isinstance(data, PairSet) else text_pairs(subject, data)
    return Experiment(subject, pairs, metric=metric, batch_size=batch_size, check=check)


def provenance(experiment: Experiment, **more: Any) -> dict[str, Any]:
    """Where a result of an experiment comes from."""
    identity = identity_of(experiment.subject)
    about = {**experiment.about(), "fingerprint": identity["weights"], **more}
    return {**identity, **run_record(), "circuit": about}
