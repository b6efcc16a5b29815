"""Which heads to calibrate: every head alone, judged on held-out examples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headwise.errors import FixError
from headwise.fixes.anatomy import anatomy_of
from headwise.fixes.calibration import Calibration, as_calibration

if TYPE_CHECKING:
    from headwise.fixes.methods.act import ACT
    from headwise.subject import Subject

RESAMPLES = 2000


def find_heads(subject: Subject, fix: ACT, data: Calibration) -> tuple[tuple[tuple[int, int], ...], str]:
    """The heads that raise the mean score when they are calibrated alone, and how they were found.

    One pass over the data for every head of the layers looked at (2 to the last but one unless the fix names others),
    and one without the fix. The decision rule is ours: the repository does not hold the authors'.
    """
    from headwise.fixes.patching import patch

    data = as_calibration(data)
    anatomy = anatomy_of(subject.model)
    layers = fix.layers if fix.layers is not None else tuple(range(2, anatomy.layers - 1))
    missing = [layer for layer in layers if layer >= anatomy.layers]
    if missing or not layers:
        raise FixError(
            "There is no layer to look for heads in." if not layers else f"There is no layer {missing[0]}.",
            evidence=f"the model has {anatomy.layers} layers",
            remedy="Name layers=.",
        )
    plain = np.asarray(data.scores(subject), dtype=float)
    kept = []
    for layer in layers:
        for head in range(anatomy.heads):
            with patch(subject, replace(fix, heads=((layer, head),), layers=None), check=False):
                gain = np.asarray(data.scores(subject), dtype=float) - plain
            if _better(gain, fix.rule):
                kept.append((layer, head))
    tried = len(layers) * anatomy.heads
    return tuple(kept), f"fit: {len(kept)} of {tried} heads improve {data.name}"


def _better(gain: np.ndarray, rule: str) -> bool:
    gain = gain[~np.isnan(gain)]  # examples that have no score of their own
    if len(gain) == 0 or gain.mean() <= 0:
        return False
    if rule == "improves":
        return True
    rng = np.random.default_rng(0)
    means = [gain[rng.integers(len(gain), size=len(gain))].mean() for _ in range(RESAMPLES)]
    return bool(np.mean(np.asarray(means) <= 0) < 0.05)
