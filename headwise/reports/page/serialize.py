"""What the scripts of the page read: one JSON object, and numbers as compressed bytes that are opened when needed."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from typing import Any

import numpy as np

from headwise.figures.colours import CIVIDIS, DIVERGING
from headwise.reports.content.content import Content, Group, HeadMap, MapPanel
from headwise.reports.content.shown_example import ShownExample
from headwise.text import token_text, visible

UNKNOWN = 65535
"""In the place of a value that does not exist, where values are written in two bytes."""

LARGEST = sys.float_info.max


def page_data(content: Content) -> dict[str, Any]:
    """Maps, groups and examples, without what is in `page_blobs`."""
    return {
        "fix": visible(content.fix, limit=60),
        "colours": {"sequential": _text(CIVIDIS.tobytes()), "diverging": _text(DIVERGING.tobytes())},
        "groups": [_group(group, len(content.examples)) for group in content.groups],
        "metrics": [_metric(metric) for metric in content.metrics],
        "examples": [_example(example) for example in content.examples],
        "tops": {
            "share": content.largest_share,
            "rest": content.largest_rest,
            "patch": content.largest_patch,
        },
    }


def page_blobs(content: Content) -> dict[str, str]:
    """Name -> deflated bytes in base64: patterns, histograms, received attention and top keys of every group."""
    found = {}
    for group in content.groups:
        arrays = {
            "patterns": group.patterns,
            "received": group.received,
            "histogram": None if group.histogram is None else group.histogram.astype("<u4"),
            "own": np.concatenate([own.pixels.ravel() for own in group.own]) if group.own else None,
        }
        top = [
            [
                [[key.example, key.position, token_text(key.text), round(key.share, 4)] for key in head]
                for head in layer
            ]
            for layer in group.top
        ]
        found |= {
            f"{name}-{group.key}": deflated(array.tobytes())
            for name, array in arrays.items()
            if array is not None
        }
        found[f"top-{group.key}"] = deflated(json.dumps(top).encode())
    for metric in content.metrics:
        for number, panel in enumerate(metric.panels):
            if panel.by_example is not None and len(panel.by_example) > 1:
                found[f"examples-{metric.key}-{number}"] = deflated(_two_bytes(panel.by_example))
    return found


def deflated(content: bytes) -> str:
    """Bytes compressed (zlib) and written in base64, which a page can hold.

    Example:
        >>> zlib.decompress(base64.b64decode(deflated(b"aaaa")))
        b'aaaa'
    """
    return _text(zlib.compress(content, 9))


def _group(group: Group, examples: int) -> dict[str, Any]:
    shape = list(group.patterns.shape[2:]) if group.patterns is not None else None
    received = list(group.received.shape) if group.received is not None else None
    return {
        "key": group.key,
        "label": visible(group.label, limit=60),
        "layers": list(group.layers),
        "heads": group.heads,
        "rows": visible(group.rows, limit=60),
        "columns": visible(group.columns, limit=60),
        "shape": shape,
        "bins": list(group.bins),
        "received": received,
        # the rows of a vision tower can be several images of one example
        "unit": "image" if received and examples and received[0] != examples else "example",
        "own": [[own.example, own.layer, own.head] for own in group.own],
        "histogram": group.histogram is not None,
    }


def _metric(metric: HeadMap) -> dict[str, Any]:
    low, high = metric.scale
    return {
        "key": metric.key,
        "title": visible(metric.title, limit=120),
        "unit": visible(metric.unit, limit=40),
        "form": metric.form,
        "low": low,
        "high": high,
        "spread": metric.spread,
        "panels": [_panel(panel) for panel in metric.panels],
    }


def _panel(panel: MapPanel) -> dict[str, Any]:
    return {
        "label": visible(panel.label, limit=120),
        "group": panel.group,
        "layers": list(panel.layers),
        "across": visible(panel.across, limit=60),
        "cells": [list(map(_rounded, row)) for row in panel.cells],
        "after": [list(map(_rounded, row)) for row in panel.after] if panel.after is not None else None,
        "examples": list(panel.by_example.shape) if panel.by_example is not None else None,
        "ends": _ends(panel.by_example) if panel.by_example is not None else None,
    }


def _example(example: ShownExample) -> dict[str, Any]:
    picture, matrix = example.picture, example.matrix
    return {
        "number": example.number,
        "picture": None
        if picture is None
        else {
            "grid": list(picture.grid),
            "group": picture.group,
            "start": picture.start,
            "places": {
                visible(tower, limit=60): {"grid": list(grid), "start": start}
                for tower, (grid, start) in picture.places.items()
            },
            "shares": [_rounded(float(value)) for value in picture.shares.ravel()],
        },
        "matrix": None
        if matrix is None
        else {
            "group": matrix.group,
            "shape": list(matrix.weights.shape),
            "weights": [_rounded(float(value)) for value in matrix.weights.ravel()],
            "rows": [token_text(text) for text in matrix.rows],
            "columns": [token_text(text) for text in matrix.columns],
            "first": matrix.first_row,
            "written": matrix.written,
            "seconds": matrix.seconds,
            "top": matrix.top,
        },
    }


def _ends(values: np.ndarray) -> list[float]:
    """The lowest and the highest value that any example has; means, and so the scale of the map, lie between them."""
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if known.size else [0.0, 0.0]


def _two_bytes(values: np.ndarray) -> bytes:
    low, high = _ends(values)
    place = (values.clip(low, high) / 2 - low / 2) / (high / 2 - low / 2 or 1.0) * (UNKNOWN - 1)
    return np.where(np.isnan(values), UNKNOWN, np.nan_to_num(place).round()).astype("<u2").tobytes()


def _rounded(value: float | None) -> float | None:
    """Four digits; what is infinite is as large as a number of the page can be."""
    return None if value is None else min(max(float(f"{value:.4g}"), -LARGEST), LARGEST)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
