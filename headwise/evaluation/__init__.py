"""Score a model on a task: `hw.evaluate(subject, task)`; compare fixes on it: `hw.compare(subject, task, fixes)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwise.evaluation._evaluate import evaluate
    from headwise.evaluation.comparison._compare import compare
    from headwise.evaluation.comparison._fit import fit
    from headwise.evaluation.comparison._search import search
    from headwise.evaluation.example import Example
    from headwise.evaluation.registry import find_task, task_names
    from headwise.evaluation.results.arm import Arm, Cost
    from headwise.evaluation.results.comparison import Comparison, load_comparison
    from headwise.evaluation.results.evaluation import Evaluation, load_evaluation
    from headwise.evaluation.results.search import Search, load_search
    from headwise.evaluation.solvers.generate import Generate
    from headwise.evaluation.solvers.likelihood import Likelihood
    from headwise.evaluation.solvers.multiple_choice import MultipleChoice
    from headwise.evaluation.statistics.estimate import Estimate
    from headwise.evaluation.statistics.paired import Difference
    from headwise.evaluation.task import Metric, Response, Task, mean, ratio

_HOMES = {
    "Arm": "results.arm",
    "MultipleChoice": "solvers.multiple_choice",
    "Comparison": "results.comparison",
    "Cost": "results.arm",
    "Difference": "statistics.paired",
    "Estimate": "statistics.estimate",
    "Evaluation": "results.evaluation",
    "Example": "example",
    "Generate": "solvers.generate",
    "Likelihood": "solvers.likelihood",
    "Metric": "task",
    "Response": "task",
    "Search": "results.search",
    "Task": "task",
    "compare": "comparison._compare",
    "evaluate": "_evaluate",
    "find_task": "registry",
    "fit": "comparison._fit",
    "load_comparison": "results.comparison",
    "load_evaluation": "results.evaluation",
    "load_search": "results.search",
    "mean": "task",
    "ratio": "task",
    "search": "comparison._search",
    "task_names": "registry",
}

__all__ = [
    "Arm",
    "Comparison",
    "Cost",
    "Difference",
    "Estimate",
    "Evaluation",
    "Example",
    "Generate",
    "Likelihood",
    "Metric",
    "MultipleChoice",
    "Response",
    "Search",
    "Task",
    "compare",
    "evaluate",
    "find_task",
    "fit",
    "load_comparison",
    "load_evaluation",
    "load_search",
    "mean",
    "ratio",
    "search",
    "task_names",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        from headwise.plugins import unknown_attribute

        raise unknown_attribute(__name__, name, _HOMES)
    return getattr(import_module(f"headwise.evaluation.{_HOMES[name]}"), name)
