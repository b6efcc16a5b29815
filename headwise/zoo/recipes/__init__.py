"""Recipes of the trained models, by name; each is imported when it is asked for."""

from __future__ import annotations

from headwise.plugins import Plugins
from headwise.zoo.recipe import Recipe

_HERE = "headwise.zoo.recipes"

RECIPES = Plugins(
    "recipe",
    "headwise.recipes",
    {
        "lm": f"{_HERE}.lm:LanguageModel",
        "nmt": f"{_HERE}.nmt:Translation",
        "speech": f"{_HERE}.speech:Speech",
        "vlm": f"{_HERE}.vlm:VisionLanguage",
    },
)


def find_recipe(name: str) -> Recipe:
    """The recipe of a model.

    Raises:
        InputError: there is none of that name.

    Example:
        >>> find_recipe("vlm").name
        'vlm'
    """
    return RECIPES.get(name.removeprefix("zoo:"))()
