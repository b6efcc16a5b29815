"""Where a model is: a folder or a name on the hub; and what was given in its place."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headwise.errors import InputError, LoadError
from headwise.files import file_name, suffix_of

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_place(name: str, subfolder: str = "") -> None:
    """Refuse what can be no model, by looking at the name and the disk alone.

    Raises:
        LoadError: it is empty, a file, a folder without a model, or a path where there is nothing.
    """
    if not name.strip():
        raise LoadError(
            "The name of the model is empty.",
            evidence=repr(name),
            remedy="Give a folder, a name on the hub, or a model of the zoo, such as zoo:lm.",
        )
    folder = Path(name)
    if os.path.isfile(folder):
        if is_trace(folder):
            raise LoadError(
                f"{name} is a saved trace, not a model.",
                remedy=f'Python reports on it: hw.report(hw.load_trace("{name}"), "report.html").',
            )
        around = (folder.parent / "config.json").is_file()
        raise LoadError(
            f"{name} is a file, not a folder with a model.",
            remedy=f"Give the folder: {folder.parent}."
            if around
            else "Give a folder written by model.save_pretrained.",
        )
    if os.path.isdir(folder) and not (folder / subfolder / "config.json").is_file():
        raise LoadError(
            f"The folder {name} holds no config.json.",
            remedy="Give a folder written by model.save_pretrained.",
        )
    if not os.path.isdir(folder) and not _HUB_NAME.fullmatch(name):
        raise LoadError(f"There is no folder {name}.", remedy="Check the path.")


def is_trace(path: Path) -> bool:
    """True for a file that `Trace.save` wrote, by its header."""
    if suffix_of(path) != ".safetensors":
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return any(key.startswith("headwise") for key in file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def short_name(name: str) -> str:
    """A model as files name it: what it is called, and not where it lies on somebody's disk.

    Example:
        >>> short_name("/home/somebody/models/base"), short_name("~/base"), short_name("gpt2/small")
        ('base', 'base', 'gpt2/small')
    """
    return "/".join(Path(file_name(name)).parts[-2:])


def not_loaded(name: str) -> InputError:
    """What to raise where a model's name stands in the place of the model."""
    return InputError(
        "This is the name of a model, not a model.",
        evidence=repr(name),
        remedy=f"Load it first: hw.load({name!r}).",
    )
