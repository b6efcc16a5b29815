"""Small, really trained models for four modalities, the generators of their data, and their recipes.

`hw.load("zoo:vlm")` opens one, and so does `from_pretrained(hw.zoo.zoo_folder("vlm"))`.
"""

from __future__ import annotations

from headwise.zoo.registry import NAMES, zoo_folder
from headwise.zoo.samples import Sample, sample

__all__ = ["NAMES", "Sample", "sample", "zoo_folder"]
