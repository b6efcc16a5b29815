"""The faults that can be planted."""

from __future__ import annotations

from headwise.fixes.edits.mask_keys import MaskKeys
from headwise.fixes.edits.scale_heads import ScaleHeads
from headwise.zoo.damage import AMPLIFIED, CARRIERS, CORNERS, DAMAGE, FULL_STOP, MUTED, READERS, find_damage
from headwise.zoo_checks.faults.fault import Fault
from headwise.zoo_checks.faults.hiding import HideTokens
from headwise.zoo_checks.faults.learning import TextSink, VisualSink

_LAYERS, _HEADS = 4, 8
_CORNER_KEYS = tuple(1 + patch for patch in CORNERS)
_OTHERS = ((1, 0), (1, 1), (1, 6), (1, 7))
_LOOKERS = ((0, 2), (0, 3))
_LAST = ((3, 0), (3, 1))


def _of(*layers: int) -> tuple[tuple[int, int], ...]:
    return tuple((layer, head) for layer in layers for head in range(_HEADS))


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            damage=DAMAGE["visual-sink"],
            cause="A learned vector is added to the two upper corner patches behind the projector: the words of a "
            "question look at them in layer 0 instead of the picture.",
            task="pope-adversarial",
            oracle=(MaskKeys(keys=_CORNER_KEYS),),
            wrong=(MaskKeys(keys=_CORNER_KEYS, heads=_of(1, 2, 3)),),
            control=(MaskKeys(keys=_CORNER_KEYS),),
            control_says="Hiding the two corners costs the healthy model nothing.",
            known={"VAR": {"sink_dims": (VisualSink().dimension,), "layers": tuple(range(_LAYERS))}},
        ),
        Fault(
            damage=DAMAGE["text-sink"],
            cause="A learned vector is added to the input embedding of the full stop: heads of layer 2 look at the "
            "full stops of a question instead of its options.",
            task="multiple-choice",
            oracle=(HideTokens(tokens=(FULL_STOP,), heads=_of(TextSink().layer)),),
            wrong=(HideTokens(tokens=(FULL_STOP,), heads=_of(3)),),
            control=(HideTokens(tokens=(FULL_STOP,), heads=_of(TextSink().layer)),),
            control_says="Hiding full stops costs the healthy model nothing.",
        ),
        Fault(
            damage=DAMAGE["muted-heads"],
            cause="What the four heads of layer 1 write that depend most on the picture is scaled down to "
            f"{MUTED:.0%}.",
            task="pope-adversarial",
            oracle=(ScaleHeads(heads=CARRIERS, factor=1 / MUTED),),
            wrong=(ScaleHeads(heads=_OTHERS, factor=1 / MUTED),),
            control=(ScaleHeads(heads=_OTHERS, factor=MUTED),),
            control_says="Muting the other four heads of the layer as much costs the healthy model nothing.",
        ),
        Fault(
            damage=DAMAGE["language-prior"],
            cause="What the two heads of layer 0 write that look at nothing but text is amplified "
            f"{AMPLIFIED:g} times: captions tell what usually stands together.",
            task="chair",
            oracle=(ScaleHeads(heads=READERS, factor=1 / AMPLIFIED),),
            wrong=(ScaleHeads(heads=_LOOKERS, factor=1 / AMPLIFIED),),
            control=(ScaleHeads(heads=_LAST, factor=AMPLIFIED),),
            control_says="Amplifying two heads of the last layer as much costs the healthy model nothing.",
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
    return FAULTS[find_damage(name).name]
