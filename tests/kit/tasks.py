"""What the tests of tasks share."""

from __future__ import annotations


def numbers(task, rows):
    """The metrics of a task over its rows, to six places."""
    kept = [metric for metric in task.metrics if metric.where is None]
    return {
        metric.name: round(metric.compute({name: [row[name] for row in rows] for name in metric.columns}), 6)
        for metric in kept
    }
