"""Score a model on a task: `hw.evaluate(subject, task)`; on the zoo's data or on files of your own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwise.evaluation.asking import Choose, Generate
    from headwise.evaluation.estimate import Estimate
    from headwise.evaluation.evaluation import Evaluation, load_evaluation
    from headwise.evaluation.likelihood import Likelihood
    from headwise.evaluation.registry import find_task, task_names
    from headwise.evaluation.running import evaluate
    from headwise.evaluation.task import Example, Metric, Reply, Task, mean, ratio

_HOMES = {
    "Choose": "asking",
    "Estimate": "estimate",
    "Evaluation": "evaluation",
    "Example": "task",
    "Generate": "asking",
    "Likelihood": "likelihood",
    "Metric": "task",
    "Reply": "task",
    "Task": "task",
    "evaluate": "running",
    "find_task": "registry",
    "load_evaluation": "evaluation",
    "mean": "task",
    "ratio": "task",
    "task_names": "registry",
}

__all__ = [
    "Choose",
    "Estimate",
    "Evaluation",
    "Example",
    "Generate",
    "Likelihood",
    "Metric",
    "Reply",
    "Task",
    "evaluate",
    "find_task",
    "load_evaluation",
    "mean",
    "ratio",
    "task_names",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'headwise.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"headwise.evaluation.{_HOMES[name]}"), name)
