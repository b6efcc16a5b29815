"""Small, really trained models for four modalities, the generators of their data, and their recipes.

`hw.load("zoo:vlm")` opens one, and so does `from_pretrained(hw.zoo.zoo_folder("vlm"))`.
"""

from headwise.zoo.own_inputs import Sample, sample, samples
from headwise.zoo.registry import NAMES, zoo_folder

__all__ = ["NAMES", "Sample", "sample", "samples", "zoo_folder"]
