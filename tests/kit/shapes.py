"""Shape checking of annotated tensor functions, switched on for the tests only."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray


def install() -> None:
    """Check shapes in every module of headwise that is imported from now on.

    The import hook puts `jaxtyping.jaxtyped` around every function, which costs time at every call. Five calls of six
    in a capture are of functions that name no shape: those are left as they are.
    """
    jaxtyping.jaxtyped = partial(_checked_if_shapes_are_named, jaxtyping.jaxtyped)
    jaxtyping.install_import_hook(modules(), f"{__name__}.{checked.__name__}")


def modules() -> list[str]:
    """The modules of headwise that name shapes. The others are left alone: every call that is watched costs time."""
    spec = find_spec("headwise")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    files = [path for path in root.rglob("*.py") if "from jaxtyping import" in path.read_text()]
    return [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in files]


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and result checked at every call, where its annotations name a shape.

    Annotations that are imported for type checkers only (`TYPE_CHECKING`) leave a function as it is.
    """
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        return function
    return beartype(function) if any(map(_names_a_shape, hints.values())) else function


def _names_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_names_a_shape, typing.get_args(hint)))


def _checked_if_shapes_are_named(jaxtyped: Callable[..., Any], *, typechecker: Any) -> Callable[[Any], Any]:
    decorate = jaxtyped(typechecker=typechecker)
    return lambda target: decorate(target) if isinstance(target, type) or _names_shapes(target) else target


def _names_shapes(function: Callable[..., Any]) -> bool:
    return any(
        _names_a_shape(_evaluated(annotation, function.__globals__))
        for annotation in inspect.get_annotations(function).values()
    )


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """An annotation as the object that it names; as it is where a name is known to type checkers only."""
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    except (AttributeError, NameError, TypeError):
        return annotation
