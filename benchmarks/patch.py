"""What it costs to run a model with a fix installed: prefill and decode steps, against the plain model.

    python benchmarks/patch.py
    python benchmarks/patch.py --models llama-like --length 512 --steps 32
    python benchmarks/patch.py --device cuda --dtypes bf16

`VAR`, `ACT` and `VHR` are measured on LLaVA-like models (a language model of the size of the others, and a wider
one, behind a tiny vision tower) whose prompt begins with an image. VAR moves attention in every layer and head that
it may. ACT calibrates a quarter of the heads in every layer that it may (the authors' list for Llama-2-7B has 184 of
1,024), or all of them. VHR has chosen its heads when the prompt has been read: its choice counts as prefill.

`identity edit` is an object with nothing but `edit`, which hands every pattern back: headwise cannot know
that it changes nothing, so every row of every head is formed. `ScaleHeads` halves one head of the first
layer. `neutral` is a fix at neutral strength. The plain model and the patched one take turns; the smallest
CPU times count; with `--device cuda`, the smallest wall times of finished work.
"""

from __future__ import annotations

import argparse
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from statistics import mean
from typing import TYPE_CHECKING

import torch
from common import (
    DTYPES,
    MODELS,
    SEEING,
    build_model,
    clock,
    image_prompt,
    markdown_table,
    random_ids,
    versions,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class IdentityEdit:
    """A fix that changes nothing, and does not say so."""

    def edit(self, pattern: torch.Tensor, site: object, context: object) -> torch.Tensor:
        """The pattern itself."""
        return pattern


def installers(name: str, model: PreTrainedModel) -> dict[str, Callable[[], AbstractContextManager]]:
    """Every setting that is measured, as a function that gives a context in which the model runs."""
    import headwise as hw

    fixes = {
        "identity edit": IdentityEdit(),
        "ScaleHeads": hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5),
        "neutral": hw.fixes.ScaleHeads(heads=((0, 0),), factor=1.0),
    }
    if name in SEEING:
        text = model.config.get_text_config()
        layers, heads = range(2, text.num_hidden_layers - 1), range(text.num_attention_heads)
        every = tuple((layer, head) for layer in layers for head in heads)
        fixes |= {
            "VAR": hw.fixes.VAR(sink_dims=(0, 1), tau=2.0),
            "ACT": hw.fixes.ACT(heads=every[::4]),
            "ACT, every head": hw.fixes.ACT(heads=every),
            "VHR": hw.fixes.VHR(),
        }
    patched = {name: lambda fix=fix: hw.patch(model, fix) for name, fix in fixes.items()}
    return {"plain": nullcontext} | patched


def generate(
    model: PreTrainedModel, prompt: dict[str, torch.Tensor], steps: int
) -> tuple[list[float], torch.Tensor]:
    """Seconds of the prefill and of every greedy decode step, and the tokens."""
    named = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    tokens, seconds, cache, inputs = [], [], None, prompt
    for _ in range(steps + 1):
        start = clock(model.device.type)
        output = model(**inputs, **{named: cache}, use_cache=True, logits_to_keep=1)
        seconds.append(clock(model.device.type) - start)
        cache = output[named]
        tokens.append(output.logits[:, -1:].argmax(-1))
        inputs = {"input_ids": tokens[-1]}
    return seconds, torch.cat(tokens, dim=1)


def measure(name: str, model: PreTrainedModel, arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The rows of one model, one per setting; the settings take turns, every call keeps its smallest time."""
    seen = name in SEEING
    prompt = image_prompt(arguments.length) if seen else {"input_ids": random_ids(arguments.length)}
    prompt = {field: value.to(model.device) for field, value in prompt.items()}
    settings = installers(name, model)
    best = {setting: [float("inf")] * (arguments.steps + 1) for setting in settings}
    tokens = {}
    for _ in range(arguments.repeats):
        for setting, install in settings.items():
            with install():
                seconds, tokens[setting] = generate(model, prompt, arguments.steps)
            best[setting] = list(map(min, best[setting], seconds))
    plain_prefill, *plain_steps = best["plain"]
    for setting, (prefill, *steps) in best.items():
        yield [
            setting,
            f"{1000 * prefill:.1f}",
            f"{prefill / plain_prefill:.3f}",
            f"{1000 * mean(steps):.2f}",
            f"{sum(steps) / sum(plain_steps):.3f}",
            "yes" if torch.equal(tokens[setting], tokens["plain"]) else "no",
        ]


def rows(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The table, one row per model, dtype and setting."""
    for name, dtype in product(arguments.models, arguments.dtypes):
        model = build_model(name, dtype=dtype, positions=arguments.length + arguments.steps + 1)
        model.to(arguments.device)
        with torch.no_grad():
            model(input_ids=random_ids(64).to(arguments.device))
            for row in measure(name, model, arguments):
                yield [name, dtype, *row]


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS + SEEING, default=list(MODELS + SEEING))
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["fp32"])
    parser.add_argument("--length", type=int, default=1024, help="tokens in the prompt")
    parser.add_argument("--steps", type=int, default=64, help="decode steps")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each setting; the fastest counts")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    header = ["model", "dtype", "setting", "prefill ms", "ratio", "step ms", "ratio", "same tokens"]
    print(markdown_table(header, rows(arguments)))
    print(
        f"\n{versions(arguments.device)}; prompt {arguments.length}, {arguments.steps} steps, "
        f"{arguments.threads} thread(s), {arguments.repeats} repeats, minima."
    )


if __name__ == "__main__":
    main()
