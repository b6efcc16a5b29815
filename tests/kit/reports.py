"""A trace with sinks, hostile texts, and a reader of pages, for the tests of reports."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import torch

import headwise as hw
from headwise.layout import Axis, ImageSpan
from headwise.probes.attach.sites import Site
from headwise.reports.collect.build import build_content
from headwise.reports.collect.example_runs import example_runs
from headwise.reports.content.content import Content
from headwise.zoo.data.scenes import draw, scenes
from tests.kit.traces import META, axis, causal, make_trace, random_pattern

HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "\u202egnp.exe",
    "\x00\x1b[31m",
]


def sink_trace(tokens=None, *, layers=3, length=12, meta=META, seed=0):
    """Causal heads that give the first key more and more, layer by layer."""
    patterns = {}
    for layer in range(layers):
        pattern = random_pattern(1, 2, length, length, seed=seed + layer)
        pattern[..., 0] += layer
        patterns[Site("text", "self", layer, f"layers.{layer}")] = causal(pattern)
    tokens = tokens or ["[CLS]", *(f"w{i}" for i in range(1, length))]
    axes = {"text": axis("text", [["bos"] + ["content"] * (length - 1)], [tokens])}
    return make_trace(patterns, axes, meta=meta)


ZOO = ("lm", "vlm", "speech", "nmt")


@cache
def zoo_content(name: str) -> Content:
    """What a report of a model of the zoo says; that of `vlm` on three scenes, with a fix compared."""
    subject = hw.load(f"zoo:{name}")
    if name != "vlm":
        return build_content(example_runs(subject))
    examples = [
        {
            "text": f"is there a {scene.objects[0].shape} in the image ?",
            "image": draw(scene, noise=1.0, seed=number),
        }
        for number, scene in enumerate(scenes(3, split="test", seed=1))
    ]
    runs = example_runs(subject, examples, generate=4, fixes=["VHR"])
    return build_content([runs, hw.compare(subject, "pope-adversarial", ["VHR"], n=40)])


def planted_trace():
    """Two text heads; the second looks at one patch, in the second row and third column of a 3 × 4 image."""
    start, grid, patch = 2, (3, 4), 1 * 4 + 2
    roles = [["bos", "content", *["image"] * 12, *["content"] * 4]]
    tokens = [["<s>", "see", *["<image>"] * 12, "what", "is", "it", "?"]]
    text = replace(axis("text", roles, tokens), images=(ImageSpan(0, 0, start, 12, grid),))
    tower = Axis("vision", axis("vision", [["image"] * 12]).roles, images=(ImageSpan(0, 0, 0, 12, grid),))
    pattern = torch.zeros(1, 2, 18, 18)
    pattern[0, :, :, 0] = 1
    pattern[0, 1, start + patch :, 0] = 0.2
    pattern[0, 1, start + patch :, start + patch] = 0.8
    inward = torch.eye(12)[None, None]
    return make_trace(
        {Site("vision", "self", 0): inward, Site("text", "self", 0): pattern}, {"vision": tower, "text": text}
    )


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.scripts, self._open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self._open:
            self.scripts[-1] += data
        elif "style" not in self._open:
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))

    def figures(self):
        return next(json.loads(text) for text in self.scripts if text.startswith("{"))
