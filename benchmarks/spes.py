"""Time and memory of SPES on a spoken sentence, and whether it finds the word that a token writes.

    python benchmarks/spes.py cost --masks 2000
    python benchmarks/spes.py words --clips 25 --masks 1000

`words`: the zoo's clips come with the time of every word. Of the positive saliency of each word, the share within its
own time, beside that of the maps of the other words of the clip, and of an even map. Intervals are of the mean over
clips, by bootstrap.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from common import markdown_table, peak_megabytes, versions

import headwise as hw
from headwise.zoo.data.clips import shipped_clips


def cost(masks: int, batch: int) -> None:
    subject = hw.load("zoo:speech")
    clip = max(shipped_clips(), key=lambda clip: len(clip.samples))
    spoken = {"audio": (clip.samples, 16_000), "target": clip.text}
    start, cpu = time.perf_counter(), time.process_time()
    found = hw.analyses.spectrogram_saliency(subject, [spoken], masks=masks, batch_size=batch)
    print(
        markdown_table(
            ["sound, s", "words", "masks", "rows", "wall, s", "CPU, s", "peak of the process, MiB"],
            [
                [
                    f"{len(clip.samples) / 16_000:.2f}",
                    str(len(clip.words)),
                    str(masks),
                    str(len(found.frame)),
                    f"{time.perf_counter() - start:.0f}",
                    f"{time.process_time() - cpu:.0f}",
                    f"{peak_megabytes():.0f}",
                ]
            ],
        )
    )


def words(clips: int, masks: int, batch: int) -> None:
    subject = hw.load("zoo:speech")
    shares: dict[str, list[list[float]]] = {"its own": [], "another word's": [], "even": []}
    heard = 0
    for clip in shipped_clips()[:clips]:
        spoken = {"audio": (clip.samples, 16_000), "target": clip.text}
        found = hw.analyses.spectrogram_saliency(subject, [spoken], masks=masks, per="word", batch_size=batch)
        positive = found.frame.assign(saliency=found.frame["saliency"].clip(lower=0))
        maps = positive.pivot_table(index="position", columns="seconds", values="saliency", aggfunc="sum")
        times = maps.columns.to_numpy() + 0.005
        if len(maps) != len(clip.words):
            continue
        heard += len(maps)
        inside = np.array([(times >= start) & (times < end) for start, end in clip.spans])
        share = (maps.to_numpy() / maps.to_numpy().sum(1, keepdims=True)) @ inside.T
        shares["its own"].append(np.diag(share).tolist())
        shares["even"].append(inside.mean(1).tolist())
        if len(maps) > 1:
            others = (share.sum(0) - np.diag(share)) / (len(maps) - 1)
            shares["another word's"].append(others.tolist())
    print(f"{heard} words of {len(shares['its own'])} clips, {masks} masks")
    print(
        markdown_table(
            ["map", "share within the time of the word"], [[k, interval(v)] for k, v in shares.items()]
        )
    )


def interval(shares: list[list[float]]) -> str:
    """Mean over clips of their mean, with a 95% interval."""
    means = np.array([np.mean(one) for one in shares])
    draws = np.random.default_rng(0).choice(means, (2000, len(means))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{means.mean():.0%} ({low:.0%} to {high:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "words"))
    parser.add_argument("--masks", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--clips", type=int, default=25)
    given = parser.parse_args()
    print(versions())
    if given.what == "cost":
        cost(given.masks, given.batch)
    else:
        words(given.clips, given.masks, given.batch)


if __name__ == "__main__":
    main()
