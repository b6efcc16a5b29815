"""How much there is in a picture: its edges and its colours."""

from __future__ import annotations

from typing import Any

import numpy as np

from headwise.optional import extra
from headwise.subject.media import read_image

HUES = 180


def edge_share(image: Any, *, sigma: float = 1.0) -> float:
    """Texture complexity of a picture: share of its pixels that lie on an edge, by the detector of Canny (1986).

    0 is a picture without edges. An edge is a pixel or two wide, so that a picture has a larger share when it is made
    smaller.

    Args:
        image: path, PIL image or array, as for `Subject.prepare`; read as grey values between 0 and 1.
        sigma: of the Gaussian that smooths it first, in pixels.

    Raises:
        InputError: it is no picture, or scikit-image is not installed.

    Example:
        >>> picture = np.zeros((8, 8), dtype="uint8")
        >>> picture[2:6, 2:6] = 255
        >>> edge_share(np.zeros((8, 8), dtype="uint8")), edge_share(picture, sigma=0.5)
        (0.0, 0.1875)
    """
    canny = extra("skimage.feature", "Edges of pictures are found", group="saliency").canny
    grey = np.asarray(read_image(image).convert("L"), dtype=float) / 255
    return float(canny(grey, sigma=sigma, low_threshold=0.1, high_threshold=0.2).mean())


def hue_entropy(image: Any) -> float:
    """Colour complexity of a picture: entropy of its hues over 180 bins, divided by log 180.

    0 is one hue, 1 all of them alike (arXiv 2509.06461). Grey pixels count as hue 0, that of red, as in OpenCV.

    Args:
        image: path, PIL image or array, as for `Subject.prepare`.

    Raises:
        InputError: it is no picture.

    Example:
        >>> round(hue_entropy(np.array([[[255, 0, 0], [0, 0, 255]]], dtype="uint8")), 4)  # ln 2 / ln 180
        0.1335
    """
    colours = np.asarray(read_image(image), dtype=float).reshape(-1, 3)
    first, high = colours.argmax(1), colours.max(1)
    spread = high - colours.min(1)
    pixels = np.arange(len(colours))
    step = colours[pixels, (first + 1) % 3] - colours[pixels, (first + 2) % 3]
    hue = (first / 3 + step / (6 * spread.clip(min=1))) * (spread > 0) % 1  # of a turn, red at 0
    counts = np.bincount((hue * HUES).round().astype(int) % HUES, minlength=HUES)
    share = counts[counts > 0] / len(colours)
    return float(-(share * np.log(share)).sum() / np.log(HUES)) + 0.0
