"""Small, really trained models for four modalities, the generators of their data, and their recipes.

`hw.load("zoo:vlm")` opens one, and so does `from_pretrained(hw.zoo.zoo_folder("vlm"))`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from headwise.zoo.own_inputs import Sample, sample, samples
from headwise.zoo.registry import NAMES, zoo_folder

if TYPE_CHECKING:
    from headwise.zoo import faults

__all__ = ["NAMES", "Sample", "faults", "sample", "samples", "zoo_folder"]


def __getattr__(name: str) -> object:
    if name == "faults":
        return import_module("headwise.zoo.faults")
    raise AttributeError(f"module 'headwise.zoo' has no attribute {name!r}")
