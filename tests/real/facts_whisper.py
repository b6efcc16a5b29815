"""What is known of Whisper base: which heads follow the sound, and what they are worth for the times of words."""

from __future__ import annotations

import torch

import headwise as hw
from tests.real.fact import Finding
from tests.real.folders import readings

Head = tuple[int, int]
CLIPS = 10


def published(subject: hw.Subject) -> list[Head]:
    """The alignment heads that were published with the model."""
    return [(layer, head) for layer, head in subject.model.generation_config.alignment_heads]


def order_of_heads(subject: hw.Subject) -> Finding:
    """The published alignment heads are among those that go through the sound as the words go on."""
    ordered: dict[Head, list[float]] = {}
    for path, words in readings().items():
        inputs = subject.prepare(audio=str(path), target=words, language="en")
        with torch.no_grad(), hw.capture(subject, stats=False, maps="cross") as trace:
            subject.model(**inputs)
        frame = trace.layout.to_frame()
        words_of = (frame["tower"] == "decoder") & frame["role"].isin(["content", "punctuation"])
        rows = frame[words_of]["position"].to_list()
        steps = torch.arange(len(rows), dtype=torch.float64)
        for site in trace.maps:
            for head, pattern in enumerate(trace.maps[site][0][:, rows]):
                places = pattern.argmax(-1).double()
                follows = torch.corrcoef(torch.stack([places, steps]))[
                    0, 1
                ].nan_to_num()  # NaN: always one place
                ordered.setdefault((site.layer, head), []).append(float(follows))
    means = {head: sum(values) / len(values) for head, values in ordered.items()}
    best = sorted(means, key=means.__getitem__, reverse=True)[:15]
    found = sum(head in best for head in published(subject))
    text = (
        f"{found} of the {len(published(subject))} published alignment heads are among the 15 of {len(means)} whose "
        "strongest place moves on most steadily with the words"
    )
    return Finding(text, found >= 6)


def word_starts(subject: hw.Subject) -> Finding:
    """Alignment heads tell when words begin; other heads of the same layers do not."""
    own = published(subject)
    others: list[Head] = []
    for layer, _ in own:
        others.append(next((layer, head) for head in range(8) if (layer, head) not in [*own, *others]))
    near = {}
    for name, heads in {"own": own, "others": others}.items():
        task = hw.evaluation.find_task("word-times", language="en", heads=tuple(heads))
        near[name] = hw.evaluate(subject, task, n=CLIPS).estimates["within_100"].value
    text = (
        f"{near['own']:.0%} of the words of {CLIPS} clips are timed to 100 ms by the published heads, "
        f"{near['others']:.0%} by as many others of the same layers"
    )
    return Finding(text, near["own"] > near["others"] + 0.15)
