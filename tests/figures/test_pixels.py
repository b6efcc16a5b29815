"""Colours and small pictures: what a value looks like depends on the stated scale alone."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from headwise.figures.colours import CATEGORIES, CIVIDIS, DIVERGING, MISSING, STEPS, hex_of
from headwise.figures.pixels import data_uri, map_png


def pixels(png: bytes, mode: str = "RGB") -> np.ndarray:
    with Image.open(BytesIO(png)) as picture:
        assert picture.mode == "P"
        return np.asarray(picture.convert(mode))


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB."""
    linear = np.where(colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_cividis_gets_lighter_evenly():
    assert CIVIDIS.shape == (STEPS, 3)
    assert np.diff(lightness(CIVIDIS)).min() > -0.05  # channels are whole numbers
    assert (np.diff(lightness(CIVIDIS)[::15]) > 2).all()


def test_the_diverging_scale_darkens_alike_on_both_sides_of_white():
    bright = lightness(DIVERGING)
    assert bright[[127, 128]].min() > 96
    assert np.abs(bright - bright[::-1]).max() < 2
    assert (np.diff(bright[:128]) > 0).all()


def test_categories_differ_and_stand_out_from_white():
    assert len(set(CATEGORIES)) == len(CATEGORIES)
    shades = np.array([list(bytes.fromhex(colour[1:])) for colour in CATEGORIES], dtype=float)
    assert lightness(shades).max() < 75


def test_a_value_takes_the_colour_of_its_place_on_the_scale():
    cells = pixels(map_png(np.array([[0.0, 0.5, 1.0], [-3.0, np.nan, 7.0]]), 0.0, 1.0, cell=1))
    assert cells.shape == (2, 3, 3)
    assert hex_of(cells[0, 0]) == hex_of(cells[1, 0]) == hex_of(CIVIDIS[0])
    assert hex_of(cells[0, 2]) == hex_of(cells[1, 2]) == hex_of(CIVIDIS[-1])
    assert np.abs(cells[0, 1].astype(int) - CIVIDIS[127].astype(int)).max() <= 2
    assert hex_of(cells[1, 1]) == MISSING


def test_pictures_of_one_scale_agree_whatever_else_they_hold():
    low, high = np.array([[0.2, 0.1]]), np.array([[0.2, 0.9]])
    first, second = (pixels(map_png(grid, 0.0, 1.0, cell=3))[0, 0] for grid in (low, high))
    np.testing.assert_array_equal(first, second)


def test_cells_have_the_stated_size_and_nan_may_be_transparent():
    alpha = pixels(map_png(np.array([[np.nan, 0.0]]), 0.0, 1.0, cell=5, missing=None), "RGBA")[..., 3]
    assert alpha.shape == (5, 10)
    assert (alpha[:, :5] == 0).all()
    assert (alpha[:, 5:] == 255).all()


def test_a_scale_without_width_is_drawn():
    assert hex_of(pixels(map_png(np.zeros((2, 2)), 0.0, 0.0))[0, 0]) == hex_of(CIVIDIS[0])


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_scale_that_is_none_is_refused(low, high):
    with pytest.raises(ValueError, match="from low to high"):
        map_png(np.zeros((2, 2)), low, high)


@pytest.mark.parametrize("shape", [(3,), (0, 2), (1, 2, 3)])
def test_only_grids_are_drawn(shape):
    with pytest.raises(ValueError, match="rows and columns"):
        map_png(np.zeros(shape), 0.0, 1.0)


def test_a_thousand_heads_stay_small():
    values = np.random.default_rng(0).random((32, 32))
    assert len(data_uri(map_png(values, 0.0, 1.0))) < 12_000
