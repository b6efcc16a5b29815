"""What tests of divergence share."""

from __future__ import annotations

from headwise.testing.circuit import ioi_prompts

DISTANCES = ("plain", "relative", "cosine", "written", "jensen_shannon", "total_variation")
REPLY = [20, 6, 9]
CIRCUIT = {"text": ioi_prompts()[0][0].tolist(), "reply": [4]}


def head(result, layer, number, kind="self"):
    frame = result.frame
    return frame[(frame["layer"] == layer) & (frame["head"] == number) & (frame["kind"] == kind)][
        "divergence"
    ]
