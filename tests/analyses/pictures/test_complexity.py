"""Visual complexity: golden numbers of pictures, a twin, and what cannot be measured."""

from __future__ import annotations

import colorsys
import sys

import numpy as np
import pytest
from PIL import Image

from headwise.analyses import edge_share, hue_entropy
from headwise.errors import InputError


def test_a_plain_picture_has_no_edges_and_one_hue() -> None:
    for colour in ((0, 0, 0), (90, 90, 90), (200, 40, 40)):
        plain = Image.new("RGB", (12, 9), colour)
        assert edge_share(plain) == 0
        assert str(hue_entropy(plain)) == "0.0"


def test_the_edges_of_stripes() -> None:
    """A border between two stripes is as steep on its left as on its right: two lines, which stop short of the rim."""
    stripes = np.zeros((20, 40), dtype="uint8")
    stripes[:, 10:20] = stripes[:, 30:] = 255
    assert edge_share(stripes) == pytest.approx(3 * 2 * 18 / 800)
    assert edge_share(stripes[:, :20]) == pytest.approx(2 * 18 / 400)


def test_hues_that_are_all_there_alike() -> None:
    turn = [colorsys.hsv_to_rgb(place / 180, 1, 1) for place in range(180)]
    assert hue_entropy((np.array([turn]) * 255).round().astype("uint8")) == pytest.approx(1.0)
    half = np.array([[[255, 0, 0], [0, 255, 0], [9, 9, 9], [0, 200, 0]]], dtype="uint8")
    assert hue_entropy(half) == pytest.approx(np.log(2) / np.log(180))  # grey counts as red


def test_the_twin_of_hue_entropy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype="uint8")
    counts = np.zeros(180)
    for pixel in pixels.reshape(-1, 3):
        counts[round(colorsys.rgb_to_hsv(*pixel.astype(float))[0] * 180) % 180] += 1
    share = counts[counts > 0] / 42
    assert hue_entropy(pixels) == pytest.approx(-(share * np.log(share)).sum() / np.log(180))


def test_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(InputError, match=r"Edges of pictures are found by skimage.*headwise\[saliency\]"):
        edge_share(Image.new("RGB", (8, 8)))
