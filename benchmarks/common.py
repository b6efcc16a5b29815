"""Models, clocks, memory and tables shared by the benchmarks."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MEGABYTE = 2**20
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODELS = ("gpt2-like", "llama-like")
SEEING = ("llava-like", "llava-like, wide")
IMAGE_TOKENS = 24 * 24
VOCABULARY = 5000
LEAST_SECONDS = 10.0


class CannotRunError(Exception):
    """A way of capturing cannot be measured here; the message says why, in a line."""


def build_model(name: str, *, dtype: str, positions: int) -> PreTrainedModel:
    """`gpt2-like` (12 layers × 768, 12 heads), `llama-like` (8 × 512, 8 heads, 2 key heads), `llava-like`: the second
    one behind a small vision tower with 24 × 24 patches, or `llava-like, wide`: with 12 × 1,024, 16 heads, 4 key heads.
    """
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    if name == "gpt2-like":
        config = GPT2Config(
            n_layer=12,
            n_embd=768,
            n_head=12,
            n_positions=positions,
            vocab_size=VOCABULARY,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = GPT2LMHeadModel(config)
    elif name == "llama-like" or name in SEEING:
        wide = name == "llava-like, wide"
        config = LlamaConfig(
            num_hidden_layers=12 if wide else 8,
            hidden_size=1024 if wide else 512,
            num_attention_heads=16 if wide else 8,
            num_key_value_heads=4 if wide else 2,
            intermediate_size=2816 if wide else 1408,
            max_position_embeddings=positions,
            vocab_size=VOCABULARY,
        )
        if name == "llama-like":
            model = LlamaForCausalLM(config)
        else:
            tower = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
            tower |= {"intermediate_size": 64, "image_size": 336, "patch_size": 14}
            vision = tower | {"model_type": "clip_vision_model"}
            model = LlavaForConditionalGeneration(
                LlavaConfig(
                    text_config=config, vision_config=vision, image_token_id=2, vision_feature_layer=-1
                )
            )
    else:
        raise ValueError(f"Unknown model {name!r}; choose one of {', '.join(MODELS + SEEING)}.")
    return model.to(DTYPES[dtype]).eval()


def random_ids(length: int) -> torch.Tensor:
    """(1, length) token ids, the same at every call."""
    return torch.randint(3, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(1))


def image_prompt(length: int) -> dict[str, torch.Tensor]:
    """A prompt of `length` tokens that begins with an image, the same at every call."""
    ids = random_ids(length)
    ids[:, 1 : 1 + IMAGE_TOKENS] = 2
    pixels = torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(2))
    return {"input_ids": ids, "pixel_values": pixels}


def clock(device: str) -> float:
    """Seconds: CPU time of this process, all threads together; on a GPU, wall time once its work is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def alternating_minima(
    works: Mapping[str, Callable[[], object]], *, repeats: int, device: str = "cpu"
) -> dict[str, float]:
    """Smallest time of each piece of work by the device's `clock`, in seconds, the pieces taking turns.

    `repeats` rounds, or more where the work is short: until the rounds have taken `LEAST_SECONDS`.
    """
    best = dict.fromkeys(works, float("inf"))
    rounds, total = 0, 0.0
    while rounds < repeats or total < LEAST_SECONDS:
        for name, work in works.items():
            start = clock(device)
            work()
            seconds = clock(device) - start
            best[name] = min(best[name], seconds)
            total += seconds
        rounds += 1
    return best


def reset_peak(device: str = "cpu") -> None:
    """Forget the peak memory so far, of this process (Linux) or of its tensors on a GPU."""
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
    else:
        torch.cuda.reset_peak_memory_stats()


def peak_megabytes(device: str = "cpu") -> float:
    """Largest resident size since `reset_peak`, in MB; on a GPU, the most that tensors held.

    `ru_maxrss` would not do: a child starts with the peak of the process that started it.
    """
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / MEGABYTE
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MEGABYTE


def prove_memory_measure(ballast: int = 64) -> None:
    """Check that `ballast` MB, held and let go, show in the peak and are forgotten after a reset."""
    reset_peak()
    before = peak_megabytes()
    block = torch.ones(ballast * MEGABYTE // 4)
    seen = peak_megabytes() - before
    del block
    reset_peak()
    left = peak_megabytes() - before
    if not (0.9 * ballast < seen < 1.5 * ballast and left < 0.2 * ballast):
        raise RuntimeError(
            f"The memory measure is wrong here: {ballast} MB read as {seen:.0f} MB, {left:.0f} MB stay."
        )


def free_megabytes() -> float:
    """Memory that a new process can have, in MB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    line = next(line for line in lines if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024 / MEGABYTE


RETURN_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
"""Settings of glibc that hand freed blocks back at once: a peak is then one of use, not of fragments."""


def run_fresh(
    script: str,
    arguments: Mapping[str, object],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> dict:
    """Run `script --worker ARGUMENTS` in a fresh process and read the JSON that it prints last."""
    command = [sys.executable, script, "--worker", json.dumps(dict(arguments))]
    variables = os.environ | dict(environment or {})
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=variables
        )
    except subprocess.TimeoutExpired:
        return {"cannot": f"took longer than {timeout:.0f} s"}
    if done.returncode == -9:
        return {"cannot": "killed: out of memory"}
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"cannot": f"exit status {done.returncode}: {reason[:200]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def versions(device: str = "cpu") -> str:
    """One line on the machine and the versions of everything measured."""
    processor = _processor() if device == "cpu" else torch.cuda.get_device_name()
    parts = [f"Python {platform.python_version()}", f"{platform.system()} {platform.machine()}", processor]
    for name in ("headwise", "torch", "transformers", "transformer-lens", "nnsight"):
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{name} not installed")
    return ", ".join(parts)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
