"""Score a model on a task: `hw.evaluate(subject, task)`; compare fixes on it: `hw.compare(subject, task, fixes)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwise.evaluation.asking import Choose, Generate
    from headwise.evaluation.comparing import compare
    from headwise.evaluation.comparison import Arm, Comparison, Cost, load_comparison
    from headwise.evaluation.estimate import Estimate
    from headwise.evaluation.evaluation import Evaluation, load_evaluation
    from headwise.evaluation.fitting import fit
    from headwise.evaluation.likelihood import Likelihood
    from headwise.evaluation.paired import Difference
    from headwise.evaluation.registry import find_task, task_names
    from headwise.evaluation.running import evaluate
    from headwise.evaluation.search_result import Search
    from headwise.evaluation.searching import search
    from headwise.evaluation.task import Example, Metric, Reply, Task, mean, ratio

_HOMES = {
    "Arm": "comparison",
    "Choose": "asking",
    "Comparison": "comparison",
    "Cost": "comparison",
    "Difference": "paired",
    "Estimate": "estimate",
    "Evaluation": "evaluation",
    "Example": "task",
    "Generate": "asking",
    "Likelihood": "likelihood",
    "Metric": "task",
    "Reply": "task",
    "Search": "search_result",
    "Task": "task",
    "compare": "comparing",
    "evaluate": "running",
    "find_task": "registry",
    "fit": "fitting",
    "load_comparison": "comparison",
    "load_evaluation": "evaluation",
    "mean": "task",
    "ratio": "task",
    "search": "searching",
    "task_names": "registry",
}

__all__ = [
    "Arm",
    "Choose",
    "Comparison",
    "Cost",
    "Difference",
    "Estimate",
    "Evaluation",
    "Example",
    "Generate",
    "Likelihood",
    "Metric",
    "Reply",
    "Search",
    "Task",
    "compare",
    "evaluate",
    "find_task",
    "fit",
    "load_comparison",
    "load_evaluation",
    "mean",
    "ratio",
    "search",
    "task_names",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'headwise.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"headwise.evaluation.{_HOMES[name]}"), name)
