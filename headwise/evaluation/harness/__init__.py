"""Tasks of lm-evaluation-harness on a model, with and without fixes: `hw.harness(subject, tasks)`."""

from headwise.evaluation.harness._harness import harness

__all__ = ["harness"]
