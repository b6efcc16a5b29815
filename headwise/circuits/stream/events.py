"""What every module of a model was given and gave, in one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Event:
    """One call of a module."""

    name: str
    module: nn.Module
    given: Tensor
    """Its first tensor."""
    output: Tensor
    """Its output, or the first of several."""


@contextmanager
def events(model: nn.Module) -> Iterator[list[Event]]:
    """The calls inside the block, in the order of their ends, of all modules that are given a tensor and give one."""
    found: list[Event] = []
    with hooked((module, "after", _Note(name, found)) for name, module in model.named_modules()):
        yield found


@contextmanager
def hooked(hooks: Any) -> Iterator[None]:
    """Hooks on modules, each (module, "before" or "after", function), for the length of the block.

    A function before a module takes (module, its first tensor) and returns the tensor to use, or None; one after it
    takes (module, first tensor, output) and returns the output to use, or None.
    """
    handles = []
    try:
        for module, when, function in hooks:
            if when == "before":
                handles.append(module.register_forward_pre_hook(_Before(function), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(_After(function), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Note:
    def __init__(self, name: str, found: list[Event]) -> None:
        self.name, self.found = name, found

    def __call__(self, module: nn.Module, given: Tensor, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        if isinstance(output, Tensor):
            self.found.append(Event(self.name, module, given, output))


class _Before:
    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor | None]) -> None:
        self.function = function

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        place, given = first_tensor(args, kwargs)
        new = None if given is None else self.function(module, given)
        if new is None:
            return None
        if isinstance(place, int):
            return (*args[:place], new, *args[place + 1 :]), kwargs
        return args, {**kwargs, place: new}


class _After:
    def __init__(self, function: Callable[[nn.Module, Tensor, Any], Any]) -> None:
        self.function = function

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        _, given = first_tensor(args, kwargs)
        return None if given is None else self.function(module, given, output)


def first_tensor(args: tuple, kwargs: dict[str, Any]) -> tuple[Any, Tensor | None]:
    """Where the first floating-point tensor among some arguments stands, and what it is."""
    for place, value in (*enumerate(args), *kwargs.items()):
        if isinstance(value, Tensor) and torch.is_floating_point(value):
            return place, value
    return 0, None
