"""Which models the zoo has, and where they lie."""

from __future__ import annotations

from pathlib import Path

from headwise.errors import LoadError

PREFIX = "zoo:"
NAMES = ("lm", "lm@early", "nmt", "speech", "vlm", "vlm@early")
"""`model` or `model@checkpoint`; `hw.load("zoo:lm@early")` opens one."""


def zoo_folder(name: str) -> Path:
    """The folder of a model, with or without `zoo:` in front; plain `from_pretrained` opens it too.

    Raises:
        LoadError: there is no such model.

    Example:
        >>> (zoo_folder("zoo:vlm") / "config.json").is_file()
        True
    """
    short = name.removeprefix(PREFIX)
    if short not in NAMES:
        from difflib import get_close_matches

        close = get_close_matches(short, NAMES) or NAMES
        raise LoadError(
            f"There is no {PREFIX}{short}.",
            evidence=f"close: {', '.join(PREFIX + item for item in close)}",
            remedy="headwise zoo list shows them all.",
        )
    return weights_folder() / short


def weights_folder() -> Path:
    """The folder that holds the models, one folder each."""
    return Path(__file__).parent / "weights"
