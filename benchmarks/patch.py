"""What it costs to run a model with a fix installed: prefill and decode steps, against the plain model.

    python benchmarks/patch.py
    python benchmarks/patch.py --models llama-like --length 512 --steps 32

`identity edit` is an object with nothing but `edit`, which hands every pattern back: headwise cannot know
that it changes nothing, so every row of every head is formed. `ScaleHeads` halves one head of the first
layer. `neutral` is a fix at neutral strength. The plain model and the patched one take turns; the smallest
CPU times count.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from common import DTYPES, MODELS, build_model, markdown_table, random_ids, versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class IdentityEdit:
    """A fix that changes nothing, and does not say so."""

    def edit(self, pattern: torch.Tensor, site: object, context: object) -> torch.Tensor:
        """The pattern itself."""
        return pattern


def installers(model: PreTrainedModel) -> dict[str, Callable[[], AbstractContextManager]]:
    """Every setting that is measured, as a function that gives a context in which the model runs."""
    import headwise as hw

    fixes = {
        "identity edit": IdentityEdit(),
        "ScaleHeads": hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5),
        "neutral": hw.fixes.ScaleHeads(heads=((0, 0),), factor=1.0),
    }
    patched = {name: lambda fix=fix: hw.patch(model, fix) for name, fix in fixes.items()}
    return {"plain": nullcontext} | patched


def generate(model: PreTrainedModel, ids: torch.Tensor, steps: int) -> tuple[float, float, torch.Tensor]:
    """CPU seconds of the prefill, CPU seconds of one greedy decode step, and the tokens."""
    start = time.process_time()
    output = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    prefill = time.process_time() - start
    tokens = [output.logits[:, -1:].argmax(-1)]
    start = time.process_time()
    for _ in range(steps):
        output = model(input_ids=tokens[-1], past_key_values=output.past_key_values, use_cache=True)
        tokens.append(output.logits[:, -1:].argmax(-1))
    return prefill, (time.process_time() - start) / steps, torch.cat(tokens, dim=1)


def rows(arguments: argparse.Namespace) -> list[list[str]]:
    """The table, one row per model, dtype and setting."""
    table = []
    ids = random_ids(arguments.length)
    for name in arguments.models:
        for dtype in arguments.dtypes:
            model = build_model(name, dtype=dtype, positions=arguments.length + arguments.steps)
            settings = installers(model)
            best = {setting: (float("inf"), float("inf")) for setting in settings}
            tokens = {}
            with torch.no_grad():
                model(input_ids=ids[:, :64])
                for _ in range(arguments.repeats):
                    for setting, install in settings.items():
                        with install():
                            prefill, step, tokens[setting] = generate(model, ids, arguments.steps)
                        best[setting] = (min(best[setting][0], prefill), min(best[setting][1], step))
            plain_prefill, plain_step = best["plain"]
            for setting, (prefill, step) in best.items():
                same = "yes" if torch.equal(tokens[setting], tokens["plain"]) else "no"
                ratios = [f"{prefill / plain_prefill:.3f}", f"{step / plain_step:.3f}"]
                times = [f"{prefill * 1000:.1f}", f"{step * 1000:.2f}"]
                table.append([name, dtype, setting, times[0], ratios[0], times[1], ratios[1], same])
    return table


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["fp32"])
    parser.add_argument("--length", type=int, default=1024, help="tokens in the prompt")
    parser.add_argument("--steps", type=int, default=64, help="decode steps")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each setting; the fastest counts")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    header = ["model", "dtype", "setting", "prefill ms", "ratio", "step ms", "ratio", "same tokens"]
    print(markdown_table(header, rows(arguments)))
    print(
        f"\n{versions()}; prompt {arguments.length}, {arguments.steps} steps, {arguments.threads} thread(s), "
        f"{arguments.repeats} repeats, minima."
    )


if __name__ == "__main__":
    main()
