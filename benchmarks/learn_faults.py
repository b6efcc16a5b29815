"""Learn the vectors of the planted sinks again, and write them where `headwise.zoo.damage` reads them.

    python benchmarks/learn_faults.py --out vectors.safetensors    # two minutes on one core

The same machine and versions give the same vectors; others differ by the order of floating-point sums. To ship them,
write to headwise/zoo/vectors.safetensors and measure again: python benchmarks/planted.py.
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from common import versions
from safetensors.torch import save_file

import headwise as hw
from headwise.files import replacing
from headwise.zoo_checks.faults.learning import TextSink, VisualSink

RECIPES = {"visual_sink": ("zoo:vlm", VisualSink()), "text_sink": ("zoo:lm", TextSink())}


def main() -> None:
    """Parse the command line, learn, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write (.safetensors)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found, about = {}, {}
    for name, (model, recipe) in RECIPES.items():
        healthy = hw.load(model, attn_implementation="eager")
        own = replace(healthy, model=copy.deepcopy(healthy.model).requires_grad_(False))
        print(f"{name}: {recipe}", file=sys.stderr)
        found[name] = recipe.learn(own, told=lambda line: print(line, file=sys.stderr, flush=True))
        about[name] = str(asdict(recipe))
    with replacing(arguments.out) as part:
        save_file(found, part, metadata={**about, "versions": versions()})
    print(f"{arguments.out}: {', '.join(found)}")


if __name__ == "__main__":
    main()
