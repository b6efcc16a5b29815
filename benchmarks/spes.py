"""Time and memory of SPES on a spoken sentence, and whether maps of saliency find the word or the object.

    python benchmarks/spes.py cost --masks 2000
    python benchmarks/spes.py words --examples 10 --masks 400
    python benchmarks/spes.py scenes --examples 20 --masks 400

`words`: the zoo's clips come with the time of every word. `scenes`: its drawn pictures with the pixels of every object,
and each is asked for. Of the positive saliency on sound or picture, the share within the word's time, or on patches
that touch the object; beside that of an even map, and of maps of the other words of the clip. Intervals are of the mean
over examples, by bootstrap.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from common import markdown_table, peak_megabytes, versions

import headwise as hw
from headwise.probes.reply import question
from headwise.saliency.explained import Explained
from headwise.saliency.masks import Spes
from headwise.saliency.methods import saliency_maps
from headwise.saliency.spes import random_masks, spes
from headwise.zoo.data.clips import shipped_clips
from headwise.zoo.data.scenes import draw, masks, scenes

PLAIN = (
    "ablation",
    "gradient x input",
    "integrated gradients",
    "attention x gradient",
    "relevancy",
    "attention",
)
Shares = dict[str, list[float]]


def cost(n_masks: int, batch: int) -> None:
    subject = hw.load("zoo:speech")
    clip = max(shipped_clips(), key=lambda clip: len(clip.samples))
    spoken = {"audio": (clip.samples, 16_000), "target": clip.text}
    start, cpu = time.perf_counter(), time.process_time()
    found = hw.analyses.spectrogram_saliency(subject, [spoken], masks=n_masks, batch_size=batch)
    measured = {
        "sound, s": f"{len(clip.samples) / 16_000:.2f}",
        "words": str(len(clip.words)),
        "masks": str(n_masks),
        "rows": str(len(found.frame)),
        "wall, s": f"{time.perf_counter() - start:.0f}",
        "CPU, s": f"{time.process_time() - cpu:.0f}",
        "peak of the process, MiB": f"{peak_megabytes():.0f}",
    }
    print(markdown_table(list(measured), [list(measured.values())]))


def methods(own: dict[str, Callable[[Explained], dict]]) -> dict[str, Callable[[Explained], dict]]:
    """Maps by name: methods of this benchmark, and those without options."""
    return own | {name: partial(saliency_maps, method=name) for name in PLAIN}


def words(examples: int, n_masks: int) -> dict[str, list[Shares]]:
    """Shares within the time of each word, by method."""
    subject = hw.load("zoo:speech")
    found: dict[str, list[Shares]] = {}
    for clip in shipped_clips()[:examples]:
        spoken = {"audio": (clip.samples, 16_000), "target": clip.text}
        example = Explained(question(subject, spoken, generate=1))
        ways = methods({"spes": partial(spes, options=Spes(masks=n_masks))})
        kl = Explained(example.question, "kl")
        ways["spes, kl"] = lambda _, kl=kl: spes(kl, Spes(masks=n_masks))
        spans, middle = clip.spans, example.question.layout.axes["encoder"].seconds.mean(1).numpy()
        inside = np.array([(middle >= start) & (middle < end) for start, end in spans])
        word = np.array(example.question.words)
        if word.max() + 1 != len(spans):
            continue
        for name, way in ways.items():
            tokens = np.nan_to_num(way(example)["encoder"].numpy()).clip(min=0)
            maps = np.array([tokens[word == number].sum(0) for number in range(len(spans))])
            share = (maps / maps.sum(1, keepdims=True)) @ inside.T
            row = {
                "its own": np.diag(share).tolist(),
                "even": inside[:, middle < len(clip.samples) / 16_000].mean(1).tolist(),
            }
            if len(spans) > 1:
                row["others"] = ((share.sum(0) - np.diag(share)) / (len(spans) - 1)).tolist()
            found.setdefault(name, []).append(row)
    return found


def objects(examples: int, n_masks: int) -> dict[str, list[Shares]]:
    """Shares on patches that touch the object that is asked for, by method."""
    subject = hw.load("zoo:vlm")
    found: dict[str, list[Shares]] = {}
    ways = methods({"random masks": partial(random_masks, options=Spes(masks=n_masks))})
    for number, scene in enumerate(scenes(examples, split="test", seed=1)):
        covered = masks(scene)
        rows: dict[str, Shares] = {}
        for item, pixels in zip(scene.objects, covered, strict=True):
            asked = {
                "text": f"is there a {item.shape} in the image ?",
                "image": draw(scene, noise=1.0, seed=number),
                "reply": "yes",
            }
            example = Explained(question(subject, asked, generate=1))
            axis = example.question.layout.axes["text"]
            (span,) = axis.images
            high, wide = span.grid
            patches = (
                pixels.reshape(high, pixels.shape[0] // high, wide, pixels.shape[1] // wide)
                .any((1, 3))
                .ravel()
            )
            for name, way in ways.items():
                values = np.nan_to_num(
                    way(example)["text"][0, span.start : span.start + span.length].numpy()
                ).clip(min=0)
                row = rows.setdefault(name, {"its own": [], "even": []})
                row["its own"].append(float(values[patches].sum() / max(values.sum(), 1e-30)))
                row["even"].append(float(patches.mean()))
        for name, row in rows.items():
            found.setdefault(name, []).append(row)
    return found


def show(found: dict[str, list[Shares]]) -> None:
    kinds = list(next(iter(found.values()))[0])
    table = [
        [name, *(interval([row[kind] for row in rows if kind in row]) for kind in kinds)]
        for name, rows in found.items()
    ]
    print(f"{len(next(iter(found.values())))} examples")
    print(markdown_table(["method", *kinds], table))


def interval(shares: list[list[float]]) -> str:
    """Mean over examples of their mean, with a 95% interval."""
    means = np.array([np.mean(one) for one in shares])
    draws = np.random.default_rng(0).choice(means, (2000, len(means))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{means.mean():.0%} ({low:.0%} to {high:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "words", "scenes"))
    parser.add_argument("--masks", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--examples", type=int, default=10)
    given = parser.parse_args()
    print(versions())
    if given.what == "cost":
        cost(given.masks, given.batch)
    else:
        show((words if given.what == "words" else objects)(given.examples, given.masks))


if __name__ == "__main__":
    main()
