"""Tree of a model's modules: are those that headwise holds still in it?"""

from __future__ import annotations

from torch import nn

from headwise.errors import UnsupportedModel


class Tree:
    """The path from a model to each of some of its modules."""

    def __init__(self, model: nn.Module, modules: list[nn.Module]) -> None:
        self._model, self._modules = model, modules
        self._edges: list[tuple[nn.Module, str, nn.Module]] = []
        self._walk()

    def follow(self) -> None:
        """Accepts wrappers that were put around modules; costs a look at every step of the paths.

        Raises:
            UnsupportedModel: a module is no longer part of the model.
        """
        for parent, name, child in self._edges:
            if parent._modules.get(name) is not child:
                break
        else:
            return
        lost = self._lost()
        if lost is not None:
            raise UnsupportedModel(
                "A module of the model was replaced while headwise was attached.",
                evidence=f"a {type(lost).__name__} is no longer part of {type(self._model).__name__}",
                remedy="Remove the patch or end the capture, and attach again.",
            )
        self._walk()

    @property
    def whole(self) -> bool:
        """True when every module is still part of the model."""
        return self._lost() is None

    def _lost(self) -> nn.Module | None:
        there = {id(module) for module in self._model.modules()}
        return next((module for module in self._modules if id(module) not in there), None)

    def _walk(self) -> None:
        edges: dict[tuple[int, str], tuple[nn.Module, str, nn.Module]] = {}
        wanted = {id(module) for module in self._modules}
        for path, module in self._model.named_modules():
            if id(module) in wanted:
                parent = self._model
                for name in path.split(".") if path else ():
                    child = parent._modules[name]
                    assert child is not None
                    edges[id(parent), name] = (parent, name, child)
                    parent = child
        self._edges = list(edges.values())
