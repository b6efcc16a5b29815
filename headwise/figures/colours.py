"""Colours that are read the same with any colour vision, as 256 steps of red, green and blue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.uint8]
"""(step, 3): red, green and blue from the low to the high end."""
STEPS = 256


def ramp(*stops: str) -> Colours:
    """Evenly spaced stops (`#rrggbb`) as `STEPS` colours, with straight lines between them.

    Example:
        >>> ramp("#000000", "#ffffff")[[0, 51, 255]].tolist()
        [[0, 0, 0], [51, 51, 51], [255, 255, 255]]
    """
    channels = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in stops], dtype=float)
    places = np.linspace(0, len(stops) - 1, STEPS)
    columns = [np.interp(places, range(len(stops)), channel) for channel in channels.T]
    colours = np.stack(columns, axis=1).round().astype(np.uint8)
    colours.flags.writeable = False
    return colours


def hex_of(colour: NDArray[np.uint8]) -> str:
    """One colour as `#rrggbb`.

    Example:
        >>> hex_of(CIVIDIS[0])
        '#00224e'
    """
    return "#" + bytes(colour.tolist()).hex()


def stops_of(colours: Colours, count: int = 18) -> list[str]:
    """`count` evenly spaced colours of a scale as `#rrggbb`, for CSS gradients and plotly.

    Example:
        >>> stops_of(CIVIDIS, 3)
        ['#00224e', '#7d7c78', '#fee838']
    """
    return [hex_of(colours[round(place)]) for place in np.linspace(0, STEPS - 1, count)]


CIVIDIS = ramp(
    *("#00224e", "#002d68", "#163770", "#2e416d", "#3f4c6c", "#4e566c", "#5c616e", "#696b71", "#767676"),
    *("#838179", "#928c78", "#a09875", "#afa471", "#bfb06b", "#cfbd62", "#dfca57", "#f0d846", "#fee838"),
)
"""Cividis (Nuñez, Anderton and Renslow, 2018) at every fifteenth of its 256 steps: lightness rises evenly."""
DIVERGING = ramp(
    *("#00305c", "#00497f", "#0072b2", "#4f9fd0", "#9ccbe8", "#d6e8f3", "#f7f7f7"),
    *("#fbe1cc", "#f5b97f", "#d98234", "#aa5700", "#703600", "#4c2300"),
)
"""Blue below zero, white at zero, orange above; both sides darken alike."""
CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito (2008) without yellow, which is hard to see on white."""
CLEAR, UNCLEAR = "#0072B2", "#8c8c8c"
"""An interval that leaves out zero, and one that holds it."""
MISSING = "#c8c8c8"
"""Where there is no value."""
