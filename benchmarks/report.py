"""How long a report takes, how large it is, and how fast a browser opens it: 32 × 32 heads, 256 tokens, ten examples.

    python benchmarks/report.py [--out FOLDER] [--heads 32] [--layers 32] [--tokens 256] [--examples 10]

The model is a Llama with random weights, narrow so that the report and not the model is measured; its queries
are scaled up, so that its patterns are as varied as those of a trained model. Times are of one
run, wall clock. The browser is the system's Chromium, driven by Playwright with networking off: from navigation until
the page says that it is loaded and has drawn its maps. Both parts are skipped, and say so, where there is no Chromium.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import headwise as hw
from headwise.reports.collect.build import build_content
from headwise.reports.collect.example_runs import example_runs
from headwise.reports.page.page import write_page

SHARPER = 15.0
BARS = {"seconds": 60.0, "megabytes": 10.0, "opens": 3.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Folder for the page; a temporary one without it.")
    for name, value in (("layers", 32), ("heads", 32), ("tokens", 256), ("examples", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measure(options, folder / "report.html")


def measure(options: argparse.Namespace, path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        hidden_size=16 * options.heads,
        intermediate_size=32 * options.heads,
        vocab_size=1000,
        max_position_embeddings=max(options.tokens, 64),
    )
    model = LlamaForCausalLM(config).eval()
    with (
        torch.no_grad()
    ):  # patterns of fresh weights are flat, and compress better than those of a trained model
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.mul_(SHARPER)
    subject = hw.wrap(model)
    ids = torch.randint(3, 1000, (options.examples, options.tokens))
    examples = [{"text": row} for row in ids.tolist()]

    start = time.perf_counter()
    runs = example_runs(subject, examples)
    ran = time.perf_counter()
    content = build_content(runs)
    said = time.perf_counter()
    written = write_page(content, path)
    done = time.perf_counter()

    entropy = next(result for result in content.headlines if "entropy" in result.label).value
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    size = f"{options.layers} × {options.heads} heads, {options.tokens} tokens, {options.examples} examples"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {size}")
    print(f"mean entropy of the rows, as a share of the largest: {entropy}")
    print(f"run and read patterns   {ran - start:8.2f} s")
    print(f"analyse and build_content      {said - ran:8.2f} s")
    print(f"write                   {done - said:8.2f} s")
    row("all together", done - start, "s", BARS["seconds"])
    row("size", written.bytes / 1e6, "MB", BARS["megabytes"])
    print(f"files                   {written.files:8d}")
    print(f"peak memory of the run  {peak:8.0f} MB")
    opened = opening(written.path)
    if opened is None:
        print("opening: not measured, there is no Chromium")
    else:
        row("opens in Chromium in", opened[0], "s", BARS["opens"])
        print(f"a head opens in         {opened[1]:8.2f} s")


def row(name: str, value: float, unit: str, bar: float) -> None:
    print(f"{name:<23} {value:8.2f} {unit} (bar {bar:g}: {'met' if value <= bar else 'MISSED'})")


def opening(path: Path) -> tuple[float, float] | None:
    """Seconds until the page is loaded and its maps are drawn, and until a clicked head is there."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = driver.chromium.launch(executable_path=browser, args=arguments)
        page = opened.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
        start = time.perf_counter()
        page.goto(path.as_uri(), wait_until="load")
        page.wait_for_function("document.querySelectorAll('.grid canvas').length > 0")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        loaded = time.perf_counter()
        page.evaluate("location.hash = 'head-text-05-07'")
        page.wait_for_selector("#head .pattern canvas")
        shown = time.perf_counter()
        opened.close()
    return loaded - start, shown - loaded


if __name__ == "__main__":
    main()
