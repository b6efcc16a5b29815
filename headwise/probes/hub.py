"""Attaches captures and patches to a model, and takes them off without a trace."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from headwise.errors import CaptureError, UnsupportedModel
from headwise.probes import interface
from headwise.probes.arguments import normalise
from headwise.probes.context import STEPS, touches
from headwise.probes.engine import Plan, attend, context, observe
from headwise.probes.flow import bind
from headwise.probes.intercept import Intercept
from headwise.probes.reference import Reference
from headwise.probes.session import Session
from headwise.probes.sites import AttentionModule, Site, attention_modules, language_stack

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Hub:
    """Everything attached to one model.

    Made when the first session attaches; when the last one leaves, implementation names, hooks and attributes are
    as they were, whatever happened in between.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        found = attention_modules(model)
        if not found:
            raise UnsupportedModel(
                "This model has no attention that headwise knows of.",
                evidence=type(model).__name__,
                remedy="Attention-free models (state-space models) have no heads to look at.",
            )
        self.modules: dict[int, AttentionModule] = {id(entry.module): entry for entry in found}
        self.language = language_stack([entry.stack for entry in found])
        self.sessions: tuple[Session, ...] = ()
        self.original: dict[int, tuple[Any, str]] = {}
        self._local = threading.local()
        self._lock = threading.RLock()
        self._plans: dict[Any, Plan] = {}
        self._hooks: list[Any] = []
        self._block_hooks: list[Any] = []
        self._intercepts = [Intercept(self, entry) for entry in found if not entry.interface]
        self._watched: dict[int, Any] = {}

    def __reduce__(self) -> tuple[Any, tuple]:
        """A copied or pickled model is not attached to anything."""
        return (type(None), ())

    # -- sessions ------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """Attaches a session; on failure the model is as before."""
        with self._lock:
            try:
                if not self.sessions:
                    self._install(eager=isinstance(session, Reference))
                self.sessions = (*self.sessions, session)
                self._refresh()
            except BaseException:
                self.remove(session)
                raise

    def remove(self, session: Session) -> None:
        """Detaches a session; the last one to leave restores the model."""
        with self._lock:
            self.sessions = tuple(other for other in self.sessions if other is not session)
            if self.sessions:
                self._refresh()
            else:
                self._restore()

    def _install(self, *, eager: bool) -> None:
        from transformers import PreTrainedModel

        interface.register()
        reached = [entry for entry in self.modules.values() if entry.interface]
        for config, name in _switches(self.model, list(self.modules.values())):
            self.original[id(config)] = (config, config._attn_implementation_internal)
            config._attn_implementation_internal = interface.FLOAT_NAME if eager else name
        for entry in reached:
            entry.module.__dict__[interface.HUB] = self
        self.model.__dict__[interface.HUB] = self
        for intercept in self._intercepts:
            intercept.install()
        names = {id(module): name for name, module in self.model.named_modules()}
        for module in self.model.modules():
            if isinstance(module, PreTrainedModel):
                primary = self._primary(names[id(module)])
                if primary is not None:
                    self._hooks.append(
                        module.register_forward_pre_hook(_Enter(self, primary), with_kwargs=True)
                    )
                    self._hooks.append(
                        module.register_forward_hook(_Leave(self), with_kwargs=True, always_call=True)
                    )

    def _restore(self) -> None:
        for config, name in self.original.values():
            config._attn_implementation_internal = name
        self.original.clear()
        for entry in self.modules.values():
            entry.module.__dict__.pop(interface.HUB, None)
        self.model.__dict__.pop(interface.HUB, None)
        for intercept in self._intercepts:
            intercept.remove()
        for hook in (*self._hooks, *self._block_hooks):
            hook.remove()
        self._hooks.clear()
        self._block_hooks.clear()
        for reference in self._watched.values():
            cache = reference()
            for name in ("reorder_cache", "crop") if cache is not None else ():
                cache.__dict__.pop(name, None)
        self._watched.clear()
        self._plans.clear()

    def _refresh(self) -> None:
        """Plans and residual hooks follow from who is attached."""
        self._plans = {}
        for hook in self._block_hooks:
            hook.remove()
        self._block_hooks = []
        needed = [
            session
            for session in self.sessions
            if session.want.residual
            or any(_streams(fix) or getattr(fix, "needs_residual", False) for fix in session.fixes)
        ]
        if not needed:
            return
        blocks: dict[str, AttentionModule] = {}
        for entry in self.modules.values():
            if entry.kind == "self" or entry.block not in blocks:
                blocks[entry.block] = entry
        for name, entry in blocks.items():
            block = self.model.get_submodule(name)
            self._block_hooks.append(
                block.register_forward_pre_hook(_EnterBlock(self, entry), with_kwargs=True)
            )

    def _primary(self, name: str) -> str | None:
        prefix = f"{name}." if name else ""
        stacks = [entry.stack for entry in self.modules.values() if entry.name.startswith(prefix)]
        if not stacks:
            return None
        return self.language if self.language in stacks else stacks[0]

    def unreached(self) -> dict[str, str]:
        """Attention modules that ran and could not be seen, and why."""
        return {i.entry.name: i.refusal for i in self._intercepts if i.ran and not i.seen}

    def fallback(self) -> list[str]:
        """Modules that were seen through their softmax."""
        return [i.entry.name for i in self._intercepts if i.seen]

    # -- forwards ------------------------------------------------------------------------------------------------

    def listening(self) -> tuple[Session, ...]:
        """The sessions that concern the current thread."""
        return tuple(session for session in self.sessions if session.listens())

    def enter(self, module: nn.Module, primary: str, args: tuple, kwargs: dict[str, Any]) -> None:
        """A forward of the model, or of a part of it, begins."""
        local = self._thread()
        if module is self.model:
            local.depth = 0
        local.depth += 1
        if local.depth > 1:
            return
        local.calls.clear()
        sessions = self.listening()
        if not sessions:
            return
        inputs = bind(module, args, kwargs)
        cache = inputs.get("past_key_values")
        for session in sessions:
            session.flow().enter(primary, inputs)
        self._watch(cache)

    def leave(self, output: Any) -> None:
        """The forward that began last has ended."""
        local = self._thread()
        local.depth = max(0, local.depth - 1)
        if local.depth == 0:
            cache = getattr(output, "past_key_values", None)
            if cache is not None and hasattr(cache, "get_seq_length"):
                self._watch(cache)
                for session in self.listening():
                    session.flow().leave(cache)

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """One attention call of one of the model's modules."""
        original = self.implementation(module)
        site, plan = self.plan(module)
        reference = next((session for session in self.sessions if isinstance(session, Reference)), None)
        if reference is not None:
            return reference.attend(site, module, query, key, value, mask, **kwargs)
        if plan is None:
            return interface.plain(module, original, query, key, value, mask, **kwargs)
        call = normalise(module, query, key, value, mask, **interface.call_arguments(kwargs))
        call = plan.leader.flow().fit(site.stack, site.kind, call)
        keep = original == "eager" and bool(kwargs.get("output_attentions"))

        def native(used: Any) -> Tensor:
            if plan.project:
                q, k, v = used.query, used.key, used.value
            else:
                q, k, v = query, key, value
            return interface.plain(module, original, q, k, v, mask, **kwargs)[0]

        self._forecast(plan, call)
        outcome = attend(plan, call, native, training=module.training, keep=keep)
        return outcome.z, outcome.pattern

    def plan(self, module: nn.Module) -> tuple[Site, Plan | None]:
        """The site of a module's call, and what is to be done there; None when nothing is."""
        local = self._thread()
        number = local.calls[id(module)]
        local.calls[id(module)] += 1
        thread = threading.get_ident() if any(session.watches for session in self.sessions) else 0
        name = (id(module), number, thread)
        if name not in self._plans:
            self._plans[name] = self._plan(self.modules[id(module)].site(number))
        plan = self._plans[name]
        if plan and local.depth == 0:  # a layer called on its own, or once more in backward: nothing is recorded
            plan = replace(plan, watch=())
        active = plan and plan.leader.flow().run is not None
        return plan.site, plan if active else None

    def observe(self, entry: AttentionModule, scores: Tensor, pattern: Tensor) -> Tensor:
        """One pattern of a module outside the interface; returns the pattern to use."""
        site, plan = self.plan(entry.module)
        return pattern if plan is None else observe(plan, scores, pattern)

    def stream(self, entry: AttentionModule, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The residual enters a layer; returns the arguments to use when a fix changes it."""
        local = self._thread()
        hidden = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(hidden, Tensor) or hidden.dim() != 3:
            return None
        number = local.calls["block", id(entry.module)]
        local.calls["block", id(entry.module)] += 1
        site, new = entry.site(number), hidden
        for session in self.listening():
            flow = session.flow()
            if flow.run is None or local.depth == 0:
                continue
            rows = flow.rows(site.stack, *hidden.shape[:2], hidden.device)
            for fix in session.fixes:
                if _streams(fix) and touches(fix, site, self.language):
                    new = fix.stream(new, site, context(session, rows))
        for session in self.listening():
            flow = session.flow()
            if flow.run is None or local.depth == 0:
                continue
            session.entering = new
            if session.want.residual:
                rows = flow.rows(site.stack, *hidden.shape[:2], hidden.device)
                session.buffer(site).add_rows("residual", new.detach().clone(), rows)
        if new is hidden:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    def implementation(self, module: nn.Module) -> str:
        """The attention implementation the module had before it was attached."""
        return self.original[id(module.config)][1]

    def _plan(self, site: Site) -> Plan:
        sessions = self.listening()
        steps: dict[str, list] = {step: [] for step in STEPS}
        for session in sessions:
            for fix in session.fixes:
                if not getattr(fix, "neutral", False) and touches(fix, site, self.language):
                    for step in getattr(fix, "steps", STEPS):
                        if hasattr(fix, step):
                            steps[step].append((fix, session))
        return Plan(
            site,
            project=tuple(steps["project"]),
            edit=tuple(steps["edit"]),
            scale=tuple(steps["scale"]),
            watch=tuple(session for session in sessions if session.watches),
        )

    def _forecast(self, plan: Plan, call: Any) -> None:
        for session in plan.watch:
            if session.want.maps and not session.flow().run.buffers:
                alike = sum(entry.stack == plan.site.stack for entry in self.modules.values())
                session.forecast(*call.shape, call.query.element_size(), alike)

    def _watch(self, cache: Any) -> None:
        """Follows beam search and roll-backs, which act on the cache between two calls."""
        if cache is None or id(cache) in self._watched or not hasattr(type(cache), "reorder_cache"):
            return
        reference = weakref.ref(cache, lambda _, name=id(cache): self._watched.pop(name, None))

        def reorder_cache(beam_idx: Tensor) -> None:
            held = reference()
            type(held).reorder_cache(held, beam_idx)
            for session in self.listening():
                session.flow().reorder(held, beam_idx)

        def crop(*args: Any, **kwargs: Any) -> Any:
            held = reference()
            result = type(held).crop(held, *args, **kwargs)
            for session in self.listening():
                session.flow().crop(held)
            return result

        cache.reorder_cache = reorder_cache
        if hasattr(type(cache), "crop"):
            cache.crop = crop
        self._watched[id(cache)] = reference

    def _thread(self) -> Any:
        local = self._local
        if not hasattr(local, "calls"):
            local.calls, local.depth = Counter(), 0
        return local


@contextmanager
def attached(hub: Hub, session: Session) -> Iterator[Session]:
    """Attaches a session for the length of a `with` block."""
    hub.add(session)
    try:
        yield session
    finally:
        hub.remove(session)


def hub_of(model: PreTrainedModel) -> Hub:
    """The hub of a model; a new one when nothing is attached to it."""
    hub = model.__dict__.get(interface.HUB)
    if hub is not None:
        return hub
    fresh = Hub(model)
    held = next(
        (
            e.module.__dict__[interface.HUB]
            for e in fresh.modules.values()
            if interface.HUB in e.module.__dict__
        ),
        None,
    )
    if held is None:
        return fresh
    if len(held.modules) < len(fresh.modules):
        raise CaptureError(
            "A part of this model is already captured or patched on its own.",
            evidence=f"{type(held.model).__name__} inside {type(model).__name__}",
            remedy="Attach to the whole model first, or leave the inner capture or patch before.",
        )
    return held


def _switches(model: PreTrainedModel, modules: list[AttentionModule]) -> list[tuple[Any, str]]:
    """Which configurations to switch, and to what.

    Those of the modules that ask the interface, and those of the models around them, from which the masks are made;
    not those of models whose own attention stays outside the interface (the text half of GIT).
    """
    from transformers import PreTrainedModel

    owners: dict[str, PreTrainedModel] = {
        name: module for name, module in model.named_modules() if isinstance(module, PreTrainedModel)
    }
    switched: dict[int, tuple[Any, bool]] = {}
    outside: set[int] = set()
    for entry in modules:
        around = [
            (name, owner) for name, owner in owners.items() if name == "" or entry.name.startswith(f"{name}.")
        ]
        name, nearest = max(around, key=lambda pair: len(pair[0]))
        if not entry.interface:
            outside.add(id(nearest.config))
            continue
        switched.setdefault(id(entry.module.config), (entry.module.config, nearest._supports_sdpa))
    for entry in modules:
        if entry.interface:
            for name, owner in owners.items():
                if (name == "" or entry.name.startswith(f"{name}.")) and id(owner.config) not in outside:
                    switched.setdefault(id(owner.config), (owner.config, owner._supports_sdpa))
    result = []
    for config, supports_sdpa in switched.values():
        now = config._attn_implementation_internal
        wants_float = now == "eager" or (now not in ("sdpa", interface.BOOL_NAME) and not supports_sdpa)
        result.append((config, interface.FLOAT_NAME if wants_float else interface.BOOL_NAME))
    return result


def _streams(fix: Any) -> bool:
    own = "stream" in getattr(fix, "steps", STEPS) and hasattr(fix, "stream")
    return own and not getattr(fix, "neutral", False)


class _Enter:
    def __init__(self, hub: Hub, primary: str) -> None:
        self.hub, self.primary = hub, primary

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.hub.enter(module, self.primary, args, kwargs)

    def __reduce__(self) -> tuple[Any, tuple]:
        return (_Nothing, ())


class _Leave:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        self.hub.leave(output)

    def __reduce__(self) -> tuple[Any, tuple]:
        return (_Nothing, ())


class _EnterBlock:
    """Records and replaces the residual that enters a layer."""

    def __init__(self, hub: Hub, entry: AttentionModule) -> None:
        self.hub, self.entry = hub, entry

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self.hub.stream(self.entry, args, kwargs)

    def __reduce__(self) -> tuple[Any, tuple]:
        return (_Nothing, ())


class _Nothing:
    """What a hook becomes in a copy of the model."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None
