"""What headwise puts on a model while something is attached to it, and takes off again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from headwise.probes import interface
from headwise.probes.generate_calls import GenerateWatch
from headwise.probes.hooks import Embedded, Enter, EnterBlock, Leave
from headwise.probes.intercept import Intercept
from headwise.probes.sites import AttentionModule
from headwise.probes.switching import switches

if TYPE_CHECKING:
    from headwise.probes.hub import Hub


class Attachment:
    """Implementation names, attributes, hooks and wrapped forwards of one model."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.intercepts = [Intercept(hub, entry) for entry in hub.modules.values() if not entry.interface]
        self._generate = GenerateWatch(hub)
        self.kernels: dict[int, interface.Kernel] = {}
        """The model's own attention function, by id of the module."""
        self._original: dict[int, tuple[Any, str]] = {}
        self._hooks: list[Any] = []
        self._block_hooks: list[Any] = []

    def install(self, *, eager: bool) -> None:
        """Puts everything in place; with `eager`, every mask comes in the form that eager functions expect."""
        hub = self._hub
        interface.register()
        for config, name in switches(hub.model, list(hub.modules.values())):
            self._original[id(config)] = (config, config._attn_implementation_internal)
            config._attn_implementation_internal = interface.FLOAT_NAME if eager else name
        for entry in hub.modules.values():
            if entry.interface:
                self.kernels[id(entry.module)] = interface.kernel(entry.module, self.original(entry.module))
                entry.module.__dict__[interface.HUB] = hub
        for intercept in self.intercepts:
            intercept.install()
        self._generate.install()
        for module, primary in self._stacks():
            enter, leave = Enter(hub, primary), Leave(hub)
            self._hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
        embedding = _input_embedding(hub.model)
        if embedding is not None:
            self._hooks.append(embedding.register_forward_hook(Embedded(hub)))

    def remove(self) -> None:
        """Takes everything off; the model is as it was."""
        for config, name in self._original.values():
            config._attn_implementation_internal = name
        # `kernels` and `_original` stay: a forward of another thread may be under way.
        for entry in self._hub.modules.values():
            entry.module.__dict__.pop(interface.HUB, None)
        for intercept in self.intercepts:
            intercept.remove()
        self._generate.remove()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.watch_residual(wanted=False)
        self._hub.model.__dict__.pop(interface.HUB, None)  # last: from here on another hub may take the model

    def watch_residual(self, *, wanted: bool) -> None:
        """Puts hooks on the layers, or takes them off."""
        for hook in self._block_hooks:
            hook.remove()
        self._block_hooks = []
        blocks: dict[str, AttentionModule] = {}
        for entry in self._hub.modules.values() if wanted else ():
            if entry.kind == "self" or entry.block not in blocks:
                blocks[entry.block] = entry
        for name, entry in blocks.items():
            block, enter = self._hub.model.get_submodule(name), EnterBlock(self._hub, entry)
            self._block_hooks.append(block.register_forward_pre_hook(enter, with_kwargs=True))

    def original(self, module: nn.Module) -> str:
        """The implementation that a module's configuration named before."""
        return self._original[id(module.config)][1]

    def implementation(self, config: Any) -> str | None:
        """The implementation that a configuration names when nothing is attached."""
        switched = self._original.get(id(config)) if self._hub.sessions else None
        return getattr(config, "_attn_implementation", None) if switched is None else switched[1]

    def _stacks(self) -> Iterable[tuple[nn.Module, str]]:
        """Every model and sub-model with attention, and the stack that tells whether a call of it begins a run."""
        from transformers import PreTrainedModel

        for name, module in self._hub.model.named_modules():
            if isinstance(module, PreTrainedModel):
                prefix = f"{name}." if name else ""
                stacks = [e.stack for e in self._hub.modules.values() if e.name.startswith(prefix)]
                if stacks:
                    yield module, self._hub.language if self._hub.language in stacks else stacks[0]


def _input_embedding(model: nn.Module) -> nn.Module | None:
    try:
        found = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # a model without words
        return None
    return found if isinstance(found, nn.Embedding) else None
