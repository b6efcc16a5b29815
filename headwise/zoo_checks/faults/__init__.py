"""Planted faults: damage to the trained models of the zoo whose cause is known.

A fix that claims to repair attention can be tried on a model where it is known what is wrong, what repairs it and
what must not. `get(name).plant()` is a damaged copy of a model of the zoo; the healthy one stays as it is.
"""

from headwise.zoo_checks.faults.fault import Fault
from headwise.zoo_checks.faults.hiding import HideTokens
from headwise.zoo_checks.faults.known import get, names

__all__ = ["Fault", "HideTokens", "get", "names"]
