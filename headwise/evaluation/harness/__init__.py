"""Tasks of lm-evaluation-harness on a model, with and without fixes: `hw.harness(subject, tasks)`."""

from headwise.evaluation.harness._harness import harness
from headwise.evaluation.harness.result import load_harness

__all__ = ["harness", "load_harness"]
