"""Drawn scenes with exact ground truth: which objects, where, in which color, pixel by pixel.

A scene has two to four objects on a grid of three by three cells, each shape at most once. Objects keep
company: with probability `PRIOR` the next object is the successor of the one before it in the cyclic order of
`SHAPES`, so that a model learns to expect it, and to see it where it is not.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from headwise.errors import InputError
from headwise.zoo.data.drawing import BACKGROUND, COLORS, GRID, SHAPES, SIZE, STENCIL, noisy, stencil

if TYPE_CHECKING:
    from PIL import Image

VERSION = 1
SPLITS = ("train", "validation", "test")
TRAINING_NOISE = 1.6
"""Noise of the pictures that `zoo:vlm` is trained on, as `draw` counts it."""
CAPTION_NOISE = 2.5
"""Noise at which it invents objects in captions."""
PATIENT_NOISE = 3.0
"""Noise at which it sees so badly that it goes by habit, as a large model does."""
PRIOR = 0.8
"""Probability that the next object is the successor of the one before."""
COUNTS = (2, 3, 4)
"""Numbers of objects, equally likely."""
WEIGHTS = (4, 2, 3, 7, 6, 4, 2, 2)
"""How often a shape is drawn where the prior does not decide, in the order of `SHAPES`."""


@dataclass(frozen=True, order=True)
class SceneObject:
    """One object of a scene.

    Attributes:
        shape: one of `SHAPES`.
        color: one of `COLORS`.
        cell: 0 to 8, row by row from the upper left.
        x, y: pixel of the upper left corner of its stencil, from 0 to 47.
    """

    shape: str
    color: str
    cell: int
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    """Objects in the order in which they came to mind, which is the order of the caption."""

    objects: tuple[SceneObject, ...]

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shapes that are present, in the order of the objects."""
        return tuple(item.shape for item in self.objects)

    @property
    def split(self) -> str:
        """The split this scene belongs to, by a hash of its shapes, colors and cells.

        Order and pixel offsets do not count: pictures that differ only in these share a split.
        """
        content = "/".join(sorted(f"{item.cell}{item.color}{item.shape}" for item in self.objects))
        tenth = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big") % 10
        return {0: "test", 1: "validation"}.get(tenth, "train")


def successor(shape: str) -> str:
    """The shape that likes to come next.

    Example:
        >>> successor("circle"), successor("moon")
        ('square', 'circle')
    """
    return SHAPES[(SHAPES.index(shape) + 1) % len(SHAPES)]


def scene(rng: random.Random, split: str = "train") -> Scene:
    """Draw a scene of a split: about 80, 10 and 10 per cent of all scenes are train, validation and test.

    Args:
        rng: where the random numbers come from; equal states give equal scenes.
        split: "train", "validation" or "test". No scene belongs to two of them.

    Raises:
        InputError: there is no such split.

    Example:
        >>> caption(scene(random.Random(1)))
        '...'
    """
    if split not in SPLITS:
        raise InputError(
            "There is no such split.", evidence=repr(split), remedy=f"One of {', '.join(SPLITS)}."
        )
    while (drawn := _scene(rng)).split != split:
        pass
    return drawn


def scenes(count: int, *, split: str = "test", seed: int = 0) -> list[Scene]:
    """The first `count` scenes of a seed, all different in shapes, colors or cells.

    Example:
        >>> len(scenes(3)), scenes(2) == scenes(3)[:2]
        (3, True)
    """
    rng = random.Random(f"scenes/{VERSION}/{split}/{seed}")
    found: dict[frozenset[tuple[str, str, int]], Scene] = {}
    while len(found) < count:
        drawn = scene(rng, split)
        found.setdefault(frozenset((item.shape, item.color, item.cell) for item in drawn.objects), drawn)
    return list(found.values())


@cache
def together() -> np.ndarray:
    """How often two shapes occur in one scene: exact probabilities of shape (8, 8), not writable.

    Rows and columns are in the order of `SHAPES`; the diagonal says how often a shape occurs at all.

    Example:
        >>> star, ring, square = (SHAPES.index(shape) for shape in ("star", "ring", "square"))
        >>> together()[star, [star, ring, square]].round(2).tolist()
        [0.54, 0.36, 0.05]
    """
    weights = np.array(WEIGHTS) / sum(WEIGHTS)
    found = np.zeros((len(SHAPES), len(SHAPES)))
    for count in COUNTS:
        for order in permutations(range(len(SHAPES)), count):
            chance = weights[order[0]] / len(COUNTS)
            for place in range(1, count):
                choices = (1 - PRIOR) * weights
                choices[(order[place - 1] + 1) % len(SHAPES)] += PRIOR
                choices[list(order[:place])] = 0
                chance *= choices[order[place]] / choices.sum()
            found[np.ix_(order, order)] += chance
    found.flags.writeable = False
    return found


def masks(scene: Scene) -> np.ndarray:
    """The pixels of every object: booleans of shape (object, 48, 48). No two objects overlap."""
    covered = np.zeros((len(scene.objects), SIZE, SIZE), dtype=bool)
    for mask, item in zip(covered, scene.objects, strict=True):
        mask[item.y : item.y + STENCIL, item.x : item.x + STENCIL] = stencil(item.shape)
    return covered


def boxes(scene: Scene) -> np.ndarray:
    """The smallest box around every object: integers of shape (object, 4), as x, y, width, height in pixels."""
    found = []
    for mask in masks(scene):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        found.append((columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1))
    return np.array(found)


def pixels(scene: Scene, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """The picture as 8-bit values of shape (48, 48, 3); see `draw`."""
    picture = np.full((SIZE, SIZE, 3), BACKGROUND, dtype=np.uint8)
    for item in scene.objects:
        patch = picture[item.y : item.y + STENCIL, item.x : item.x + STENCIL]
        patch[stencil(item.shape)] = COLORS[item.color]
    return noisy(picture, noise=noise, seed=seed) if noise else picture


def draw(scene: Scene, *, noise: float = 0.0, seed: int = 0) -> Image.Image:
    """The picture of a scene, 48 by 48 pixels.

    Args:
        scene: what to draw.
        noise: severity. The noise of this picture has one standard deviation drawn uniformly from 0 to
            `noise`, where black is -1 and white is 1, and is cut off at black and white.
        seed: of the noise.
    """
    from PIL import Image

    return Image.fromarray(pixels(scene, noise=noise, seed=seed))


def caption(scene: Scene) -> str:
    """The objects in their order.

    Example:
        >>> caption(Scene((SceneObject("ring", "red", 0, 0, 0), SceneObject("heart", "blue", 4, 16, 17))))
        'a red ring and a blue heart.'
    """
    return " and ".join(f"a {item.color} {item.shape}" for item in scene.objects) + "."


def _scene(rng: random.Random) -> Scene:
    count = rng.randint(COUNTS[0], COUNTS[-1])
    shapes: list[str] = []
    while len(shapes) < count:
        expected = shapes and rng.random() < PRIOR
        shape = successor(shapes[-1]) if expected else rng.choices(SHAPES, WEIGHTS)[0]
        if shape not in shapes:
            shapes.append(shape)
    play, width = SIZE // GRID - STENCIL, SIZE // GRID
    objects = []
    for shape, cell in zip(shapes, rng.sample(range(GRID * GRID), count), strict=True):
        row, column = divmod(cell, GRID)
        x, y = column * width + rng.randint(0, play), row * width + rng.randint(0, play)
        objects.append(SceneObject(shape, rng.choice(list(COLORS)), cell, x, y))
    return Scene(tuple(objects))
