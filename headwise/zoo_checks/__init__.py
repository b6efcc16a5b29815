"""Cards and planted faults: what measures the models of the zoo, with tasks and fixes."""

from headwise.zoo_checks import faults

__all__ = ["faults"]
