"""Results by hand, one of every kind."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from headwise.analyses import HEAD
from headwise.results.result import Result

SITE = ("tower", "kind")


def made(
    name: str, kind: str, frame: pd.DataFrame, keys: tuple[str, ...], value: str, **facts: Any
) -> Result:
    """A result with the rest of its facts filled in."""
    known = {
        "unit": "share",
        "description": "High is more.",
        "summary": "Found 1.",
        "provenance": {"model": "a model"},
    }
    return Result(name=name, kind=kind, frame=frame, keys=keys, value=value, **(known | facts))


def table(value: str = "score", *, seed: int = 0, **axes: Any) -> pd.DataFrame:
    """A row for every combination of the axes, with random values."""
    frame = pd.DataFrame(list(product(*axes.values())), columns=list(axes))
    frame.insert(0, "tower", "text")
    frame.insert(1, "kind", "self")
    return frame.assign(**{value: np.random.default_rng(seed).random(len(frame)).round(3)})


def every_kind() -> dict[str, Result]:
    """One result of every kind and shape."""
    heads = table(example=[0, 1], layer=[0, 1, 2], call=[0], head=[0, 1])
    ranks = heads.assign(score=heads["score"].rank().astype(int)).rename(columns={"score": "rank"})
    words = heads.assign(type=["induction", "previous"] * 6).drop(columns="score")
    curve = table(circuit=["found", "random"], size=[0, 2, 10], value="faithfulness")
    edges = pd.DataFrame(
        {"sender": ["input", "L0H1"], "receiver": ["L0H1", "logits"], "weight": [0.5, -0.25]}
    )
    effects = pd.DataFrame(
        {
            "arm": ["a", "b"],
            "metric": "accuracy",
            "unit": "share",
            "difference": [0.1, -0.2],
            "difference_low": [0.05, -0.4],
            "difference_high": [0.15, 0.1],
        }
    )
    sources = table(token=["the", "cat", "sat"], source=["image", "text"])
    wide = table(layer=[0], head=[0, 1], query=range(3), key=range(4))
    return {
        "heads": made("metric", "heads", heads, HEAD, "score"),
        "heads of whole numbers": made("rank", "heads", ranks, HEAD, "rank", unit="rank"),
        "heads in another order": made("metric", "heads", heads[heads.columns[::-1]], HEAD, "score"),
        "classes": made("head_type", "classes", words, HEAD, "type", unit="type"),
        "layers": made(
            "probe", "layers", table(example=[0, 1], layer=range(4)), (*SITE, "example", "layer"), "score"
        ),
        "positions": made("keys", "positions", table(position=[0, 3, 7]), (*SITE, "position"), "score"),
        "token by source": made(
            "contributions", "matrix", sources, (*SITE, "token", "source"), "score", axes=("token", "source")
        ),
        "head by query by key": made(
            "patterns",
            "matrix",
            wide,
            (*SITE, "layer", "head", "query", "key"),
            "score",
            axes=("query", "key"),
        ),
        "curve": made(
            "faithfulness", "curve", curve, (*SITE, "circuit", "size"), "faithfulness", axes=("size",)
        ),
        "edges": made("circuit", "edges", edges, ("sender", "receiver"), "weight", unit="logit difference"),
        "rows": made(
            "plugin",
            "rows",
            pd.DataFrame({"language": ["de", "fr"], "gain": [-0.5, 1.5]}),
            ("language",),
            "gain",
            unit="points",
        ),
        "difference": made("compare", "difference", effects, ("arm", "metric"), "difference", unit="of each"),
        "nothing": made("sinks", "positions", table(position=[0])[:0], (*SITE, "position"), "score"),
    }
