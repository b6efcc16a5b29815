"""Cost of scoring every edge, against the bare passes that it is made of.

    python benchmarks/circuits.py
    python benchmarks/circuits.py --pairs 16 --batch 8

A 12 × 768 model with 12 heads and random weights reads pairs of random texts. EAP-IG over all edges is held against two
forwards and as many forwards with a backward as it has steps, on the same batches, taking turns in one process; minima
of CPU time. The bare backward asks for the gradient of the input alone, as EAP-IG does. Memory is what the peak adds to
the process before.
"""

from __future__ import annotations

import argparse

import torch
from common import alternating_minima, build_model, markdown_table, peak_megabytes, reset_peak, versions

from headwise.circuits.attribution import edge_attribution
from headwise.circuits.experiment import Experiment
from headwise.circuits.pairs import PairSet
from headwise.subject import wrap


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gpt2-like")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = build_model(options.model, dtype="fp32", positions=options.length)
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(5, 4000, (2, options.pairs, 1, options.length), generator=generator)
    pairs = PairSet(
        "random",
        [{"input_ids": ids} for ids in clean],
        [{"input_ids": ids} for ids in corrupted],
        torch.full((options.pairs,), 7),
        torch.full((options.pairs,), 8),
    )
    experiment = Experiment(wrap(model), pairs, batch_size=options.batch, check=False)

    def bare() -> None:
        for batch in experiment.batches():
            with torch.no_grad():
                model(**batch.clean)
                model(**batch.corrupted)
            for _ in range(options.steps):
                embedded = model.get_input_embeddings()(batch.clean["input_ids"]).detach().requires_grad_()
                values = experiment.values(model(inputs_embeds=embedded).logits[:, -1], batch)
                torch.autograd.grad(values.sum(), embedded)

    def scored() -> None:
        edge_attribution(experiment, "eap-ig", options.steps)

    scored()
    reset_peak()
    before = peak_megabytes()
    scored()
    memory = peak_megabytes() - before
    best = alternating_minima({"bare": bare, "scored": scored}, repeats=options.repeats)
    plain, found = best["bare"], best["scored"]
    row = [str(experiment.graph), f"{plain:.1f}", f"{found:.1f}", f"{found / plain:.2f}", f"{memory:.0f}"]
    print(markdown_table(["graph", "bare s", "EAP-IG s", "ratio", "MB above"], [row]))
    print(versions())


if __name__ == "__main__":
    main()
