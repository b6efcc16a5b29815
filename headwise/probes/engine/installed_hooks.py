"""Hooks, names and wrappers that are on a model while something is attached to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from headwise.model.embeddings import input_embedding
from headwise.probes.attach import interface
from headwise.probes.attach.implementation import Switch, switches
from headwise.probes.attach.sites import AttentionModule
from headwise.probes.attach.tree import Tree
from headwise.probes.engine import forwards
from headwise.probes.engine.hooks import Hook, enter_attention, enter_windows
from headwise.probes.engine.intercept import Intercept
from headwise.probes.engine.reach import skipping
from headwise.probes.engine.residuals import enter_layer, leave_tower
from headwise.probes.generation.generate_hooks import GenerateWatch
from headwise.probes.kernels import windows
from headwise.probes.serving.continuous_batching import ContinuousBatchingWatch
from headwise.probes.serving.managers import (
    complete_idle_managers,
    managers_of,
    require_no_graphs,
    wait_for_managers,
)

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation


class InstalledHooks:
    """Implementation names, attributes, hooks and wrapped forwards of one model."""

    def __init__(self, instrumented: Instrumentation) -> None:
        self._instrumented = instrumented
        self.intercepts = [
            Intercept(instrumented, entry) for entry in instrumented.modules.values() if not entry.interface
        ]
        self._generate = GenerateWatch(
            instrumented.model,
            current=lambda: instrumented.thread_state().generate,
            begin=instrumented.begin_generate,
            end=instrumented.end_generate,
        )
        self._batching = ContinuousBatchingWatch(
            instrumented.model, instrumented.require_batchable, self.configurations
        )
        self.kernels: dict[int, interface.Kernel] = {}
        """The model's own attention function, by id of the module."""
        self.originals: dict[int, str] = {}
        """The implementation that the user wants of a module that asks the interface, by its id."""
        self.eager: set[int] = set()
        """Those of them that run eager attention."""
        self.unreached: dict[str, str] = {}
        """Modules that ran and of which nothing was seen, and why."""
        self._switches: list[Switch] = []
        self._tree = Tree(instrumented.model, [entry.module for entry in instrumented.modules.values()])
        self._hooks: list[tuple[nn.Module, str, Any]] = []
        self._block_hooks: list[Any] = []
        self._module_hooks: dict[int, Any] = {}

    def install(self, *, eager: bool) -> None:
        """Puts everything in place; with `eager`, every mask comes in the form that eager functions expect.

        Names are switched last: from then on other threads, too, come here in the middle of their forwards.
        """
        instrumented = self._instrumented
        wait_for_managers(instrumented.model)
        require_no_graphs(manager for _, manager in managers_of(instrumented.model))
        interface.register()
        self._switches = switches(instrumented.model, list(instrumented.modules.values()))
        self._choose_kernels()
        for entry in instrumented.modules.values():
            if entry.interface:
                entry.module.__dict__[interface.INSTRUMENTATION] = instrumented
        for intercept in self.intercepts:
            intercept.install()
        self._generate.install()
        self._batching.install()
        for module, primary in self._towers():
            self._before(module, Hook(forwards.enter, instrumented, primary))
            self._after(module, Hook(forwards.leave, instrumented), with_kwargs=True, always_call=True)
        for entry in instrumented.modules.values():
            if entry.interface and entry.kind == "self" and entry.tower in windows.TOWERS:
                self._before(entry.module, Hook(enter_windows, instrumented))
        embedding = input_embedding(instrumented.model)
        if isinstance(embedding, nn.Embedding):
            self._after(embedding, Hook(forwards.embedded, instrumented))
        for switch in self._switches:
            switch.install(eager=eager)

    def remove(self) -> None:
        """Takes everything off; the model is as it was, but for what somebody else has changed meanwhile."""
        for switch in self._switches:
            switch.restore()
        if not self.flash:
            complete_idle_managers(self._instrumented.model)
        # `kernels` and `originals` stay: a forward of another thread may be under way.
        for entry in self._instrumented.modules.values():
            entry.module.__dict__.pop(interface.INSTRUMENTATION, None)
        for intercept in self.intercepts:
            intercept.remove()
        self._generate.remove()
        self._batching.remove()
        for *_, hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.watch_residual(wanted=False)
        self.watch_modules(set())
        # Last: from here on another one may take the model.
        self._instrumented.model.__dict__.pop(interface.INSTRUMENTATION, None)

    def follow(self) -> None:
        """Before a forward: goes on in the way that somebody else has chosen for the model meanwhile.

        Raises:
            UnsupportedModel: headwise cannot go on.
        """
        if any(switch.changed for switch in self._switches):
            for switch in self._switches:
                if switch.changed:
                    switch.resume()
            self._choose_kernels()

    def require_whole(self) -> None:
        """Refuses a model of which an attention module was replaced; wrappers may be put around them."""
        with self._instrumented.lock:
            self._tree.follow()

    @property
    def intact(self) -> bool:
        """True while everything is on the model that has to be there."""
        entries = self._instrumented.modules
        modules = [entry.module for entry in entries.values() if entry.interface]
        inner = self._module_hooks.items()
        return (
            all(hook.id in getattr(module, kind) for module, kind, hook in self._hooks)
            and all(hook.id in entries[name].module._forward_pre_hooks for name, hook in inner)
            and all(interface.INSTRUMENTATION in module.__dict__ for module in modules)
            and all(switch.possible for switch in self._switches)
            and all(intercept.installed for intercept in self.intercepts)
            and self._tree.whole
        )

    def watch_residual(self, *, wanted: bool) -> None:
        """Puts hooks on the layers, or takes them off."""
        if wanted == self.sees_residual:
            return  # other threads may be amid their layers
        for hook in self._block_hooks:
            hook.remove()
        self._block_hooks = []
        blocks: dict[str, AttentionModule] = {}
        for entry in self._instrumented.modules.values() if wanted else ():
            if entry.kind == "self" or entry.block not in blocks:
                blocks[entry.block] = entry
        for name, entry in blocks.items():
            block, hook = (
                self._instrumented.model.get_submodule(name),
                Hook(enter_layer, self._instrumented, entry),
            )
            self._block_hooks.append(block.register_forward_pre_hook(hook, with_kwargs=True))
        for entry in _last_layers(blocks.values()):
            block = self._instrumented.model.get_submodule(entry.block)
            hook = Hook(leave_tower, self._instrumented, entry)
            self._block_hooks.append(block.register_forward_hook(hook))

    @property
    def sees_residual(self) -> bool:
        """True while there are hooks on the layers."""
        return bool(self._block_hooks)

    def watch_modules(self, wanted: set[int]) -> None:
        """Puts hooks on these attention modules, by id, and on no others: do they run without asking for attention?"""
        for name in self._module_hooks.keys() - wanted:
            self._module_hooks.pop(name).remove()
        for name in wanted - self._module_hooks.keys():
            entry = self._instrumented.modules[name]
            if entry.interface:
                hook = Hook(enter_attention, self._instrumented)
                self._module_hooks[name] = entry.module.register_forward_pre_hook(hook)

    def out_of_sight(self, modules: Iterable[int]) -> list[tuple[AttentionModule, str]]:
        """Notes modules, by id, of which a forward has shown nothing; returns them, and why."""
        reasons = {id(intercept.entry.module): intercept.refusal for intercept in self.intercepts}
        entries = [self._instrumented.modules[name] for name in modules]
        hidden = [(entry, reasons.get(id(entry.module)) or skipping(entry)) for entry in entries]
        self.unreached |= {entry.name: reason for entry, reason in hidden}
        return hidden

    def _choose_kernels(self) -> None:
        """Looks up each module's own attention function."""
        original = {id(switch.config): switch.original for switch in self._switches}
        for entry in self._instrumented.modules.values():
            if entry.interface:
                name = self.originals[id(entry.module)] = original[id(entry.module.config)]
                self.kernels[id(entry.module)] = interface.kernel(entry.module, name)
        self.eager = {module for module, name in self.originals.items() if interface.is_eager(name)}

    def _before(self, module: nn.Module, hook: Hook) -> None:
        handle = module.register_forward_pre_hook(hook, with_kwargs=True)
        self._hooks.append((module, "_forward_pre_hooks", handle))

    def _after(self, module: nn.Module, hook: Hook, **options: bool) -> None:
        self._hooks.append((module, "_forward_hooks", module.register_forward_hook(hook, **options)))

    def implementation(self, config: Any) -> str | None:
        """The implementation that a configuration names when nothing is attached."""
        attached = self._switches if self._instrumented.sessions else ()
        switch = next((s for s in attached if s.config is config and not s.changed), None)
        return getattr(config, "_attn_implementation", None) if switch is None else switch.original

    def configurations(self) -> dict[int, str]:
        """The implementation that every configuration named before, by its id."""
        return {id(switch.config): switch.original for switch in self._switches}

    @property
    def flash(self) -> str | None:
        """The flash attention that a configuration named before; None where none did."""
        return next((name for name in self.configurations().values() if "flash" in name), None)

    def leave_with(self, before: str | None, name: str) -> None:
        """Has the configurations that named one implementation name another one when everything is taken off."""
        for switch in self._switches:
            if switch.original == before:
                switch.original = name

    def _towers(self) -> Iterable[tuple[nn.Module, str]]:
        """Every model and sub-model with attention, and the tower that tells whether a call of it begins a run."""
        from transformers import PreTrainedModel

        language = self._instrumented.language
        for name, module in self._instrumented.model.named_modules():
            if isinstance(module, PreTrainedModel):
                prefix = f"{name}." if name else ""
                towers = [e.tower for e in self._instrumented.modules.values() if e.name.startswith(prefix)]
                if towers:
                    yield module, language if language in towers else towers[0]


def _last_layers(entries: Iterable[AttentionModule]) -> Iterable[AttentionModule]:
    """Of every tower, the last of its numbered layers: pooling heads and such stand behind the stream."""
    return {entry.tower: entry for entry in entries if entry.block.rpartition(".")[2].isdigit()}.values()
