"""The faults that can be planted."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import Any

from headwise.errors import InputError
from headwise.fixes.edits.mask_keys import MaskKeys
from headwise.fixes.edits.scale_heads import ScaleHeads
from headwise.zoo_checks.faults.fault import Fault
from headwise.zoo_checks.faults.hiding import HideTokens
from headwise.zoo_checks.faults.learning import TextSink, VisualSink
from headwise.zoo_checks.faults.planting import learned, scale_written, text_sink, visual_sink

_LAYERS, _HEADS = 4, 8
_FULL_STOP = 17
_CORNERS = VisualSink().patches
_CORNER_KEYS = tuple(1 + patch for patch in _CORNERS)
CARRIERS = ((1, 2), (1, 3), (1, 4), (1, 5))
"""The half of layer 1 whose outputs change most when the picture is taken away."""
OTHERS = ((1, 0), (1, 1), (1, 6), (1, 7))
MUTED = 0.07
READERS = ((0, 0), (0, 1))
"""The heads of layer 0 that look at text only."""
LOOKERS = ((0, 2), (0, 3))
_LAST = ((3, 0), (3, 1))
AMPLIFIED = 4.0


def _of(*layers: int) -> tuple[tuple[int, int], ...]:
    return tuple((layer, head) for layer in layers for head in range(_HEADS))


def _plant_visual_sink(model: Any) -> None:
    visual_sink(model, learned("visual_sink"), _CORNERS)


def _plant_text_sink(model: Any) -> None:
    text_sink(model, learned("text_sink"), (_FULL_STOP,))


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            name="visual-sink",
            model="zoo:vlm",
            cause="A learned vector is added to the two upper corner patches behind the projector: the words of a "
            "question look at them in layer 0 instead of the picture.",
            task="pope-adversarial",
            oracle=(MaskKeys(keys=_CORNER_KEYS),),
            wrong=(MaskKeys(keys=_CORNER_KEYS, heads=_of(1, 2, 3)),),
            control=(MaskKeys(keys=_CORNER_KEYS),),
            control_says="Hiding the two corners costs the healthy model nothing.",
            known={"VAR": {"sink_dims": (VisualSink().dimension,), "layers": tuple(range(_LAYERS))}},
            damage=_plant_visual_sink,
        ),
        Fault(
            name="text-sink",
            model="zoo:lm",
            cause="A learned vector is added to the input embedding of the full stop: heads of layer 2 look at the "
            "full stops of a question instead of its options.",
            task="multiple-choice",
            oracle=(HideTokens(tokens=(_FULL_STOP,), heads=_of(TextSink().layer)),),
            wrong=(HideTokens(tokens=(_FULL_STOP,), heads=_of(3)),),
            control=(HideTokens(tokens=(_FULL_STOP,), heads=_of(TextSink().layer)),),
            control_says="Hiding full stops costs the healthy model nothing.",
            damage=_plant_text_sink,
        ),
        Fault(
            name="muted-heads",
            model="zoo:vlm",
            cause="What the four heads of layer 1 write that depend most on the picture is scaled down to "
            f"{MUTED:.0%}.",
            task="pope-adversarial",
            oracle=(ScaleHeads(heads=CARRIERS, factor=1 / MUTED),),
            wrong=(ScaleHeads(heads=OTHERS, factor=1 / MUTED),),
            control=(ScaleHeads(heads=OTHERS, factor=MUTED),),
            control_says="Muting the other four heads of the layer as much costs the healthy model nothing.",
            damage=partial(scale_written, heads=CARRIERS, factor=MUTED),
        ),
        Fault(
            name="language-prior",
            model="zoo:vlm",
            cause="What the two heads of layer 0 write that look at nothing but text is amplified "
            f"{AMPLIFIED:g} times: captions tell what usually stands together.",
            task="chair",
            oracle=(ScaleHeads(heads=READERS, factor=1 / AMPLIFIED),),
            wrong=(ScaleHeads(heads=LOOKERS, factor=1 / AMPLIFIED),),
            control=(ScaleHeads(heads=_LAST, factor=AMPLIFIED),),
            control_says="Amplifying two heads of the last layer as much costs the healthy model nothing.",
            damage=partial(scale_written, heads=READERS, factor=AMPLIFIED),
        ),
    )
}


def names() -> tuple[str, ...]:
    """Every fault that can be planted.

    Example:
        >>> "text-sink" in names()
        True
    """
    return tuple(FAULTS)


def get(name: str) -> Fault:
    """The fault called `name`.

    Raises:
        InputError: there is none; close names are listed.

    Example:
        >>> get("visual-sink").model
        'zoo:vlm'
    """
    if name not in FAULTS:
        raise InputError(
            f"There is no fault {name!r}.",
            evidence=f"close: {', '.join(get_close_matches(name, FAULTS) or FAULTS)}",
            remedy="headwise.zoo_checks.faults.names() lists them all.",
        )
    return FAULTS[name]
