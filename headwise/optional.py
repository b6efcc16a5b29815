"""Packages that only some tasks need."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

from headwise.errors import InputError


def extra(package: str, what: str, *, group: str = "eval") -> Any:
    """The imported package.

    Args:
        package: its name.
        what: what it is needed for, such as "Translation is scored".
        group: the optional dependencies of headwise that bring it.

    Raises:
        InputError: it is not installed.

    Example:
        >>> extra("no_such_scorer", "Poems are scored")
        Traceback (most recent call last):
        ...
        headwise.errors.InputError: Poems are scored by no_such_scorer, ... pip install 'headwise[eval]'
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"{what} by {package}, which is not installed.", remedy=f"pip install 'headwise[{group}]'"
        ) from error


def versions(*packages: str) -> dict[str, str]:
    """Version of each package, for the manifest."""
    return {package: version(package) for package in packages}
