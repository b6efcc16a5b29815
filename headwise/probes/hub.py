"""Attaches captures and patches to a model, and takes them off without a trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.errors import CaptureError, UnsupportedModel
from headwise.probes import interface
from headwise.probes.arguments import Call, normalise
from headwise.probes.attachment import Attachment
from headwise.probes.context import STEPS, Opening, touches
from headwise.probes.engine import attend
from headwise.probes.fallback import observe
from headwise.probes.flow import bind
from headwise.probes.plan import Act, Plan, context
from headwise.probes.reference import Reference
from headwise.probes.session import Session
from headwise.probes.sites import AttentionModule, Site, attention_modules, language_stack
from headwise.probes.watch import CacheWatch

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
        self._local = threading.local()
        self._lock = threading.RLock()
        self._reference: Reference | None = None
        self._attachment = Attachment(self)
        self._caches = CacheWatch(self._reordered, self._cropped)

    def __reduce__(self) -> tuple[Any, tuple]:
        """A copied or pickled model is not attached to anything."""
        return (type(None), ())

    # -- sessions ------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> Hub:
        """Attaches a session, and returns the hub that took it; on failure the model is as before.

        Where another thread has attached a hub of its own in the meantime, that one takes the session.
        """
        with self._lock:
            owner = self.model.__dict__.setdefault(interface.HUB, self)
            if owner is self:
                self._add(session)
                return self
        return owner.add(session)

    def _add(self, session: Session) -> None:
        local = self._thread()
        if not any(other.listens() for other in self.sessions):
            local.depth = 0  # an interrupt may have left a forward unfinished
        try:
            if not self.sessions:
                self._attachment.install(eager=isinstance(session, Reference))
            self.sessions = (*self.sessions, session)
            self._refresh()
        except BaseException:
            self.remove(session)
            raise

    def remove(self, session: Session) -> None:
        """Detaches a session; the last one to leave restores the model."""
        with self._lock:
            session.entering = None
            self._thread().plans = {}
            self.sessions = tuple(other for other in self.sessions if other is not session)
            if self.sessions:
                self._refresh()
            else:
                self._caches.clear()
                self._attachment.remove()

    def _refresh(self) -> None:
        """What is on the model follows from who is attached."""
        self._reference = next((s for s in self.sessions if isinstance(s, Reference)), None)
        wanted = any(
            session.want.residual
            or any(_streams(fix) or getattr(fix, "needs_residual", False) for fix in session.fixes)
            for session in self.sessions
        )
        self._attachment.watch_residual(wanted=wanted)

    def unreached(self) -> dict[str, str]:
        """Attention modules that ran and could not be seen, and why."""
        return {i.entry.name: i.refusal for i in self._attachment.intercepts if i.ran and not i.seen}

    def fallback(self) -> list[str]:
        """Modules that were seen through their softmax."""
        return [i.entry.name for i in self._attachment.intercepts if i.seen]

    # -- forwards ------------------------------------------------------------------------------------------------

    def listening(self) -> tuple[Session, ...]:
        """The sessions that concern the current thread."""
        aside = self._thread().aside
        return tuple(session for session in self.sessions if session.listens()) if aside is None else aside

    def enter(self, module: nn.Module, primary: str, args: tuple, kwargs: dict[str, Any]) -> None:
        """A forward of the model, or of a part of it, begins."""
        local = self._thread()
        if module is self.model:
            local.depth = 0
        local.depth += 1
        if local.depth > 1:
            return
        local.begin()
        sessions = self.listening()
        if not sessions:
            return
        inputs = self._with_ids(bind(module, args, kwargs))
        cache = inputs.get("past_key_values")
        opening = [session for session in sessions if session.flow().enter(primary, inputs)]
        self._caches.add(cache)
        local.streams = any(_wants_stream(session) for session in sessions)
        for session in opening:
            for number, fix in enumerate(session.fixes):
                if hasattr(fix, "begin") and not getattr(fix, "neutral", False):
                    fix.begin(self._opening(session, number, module, inputs))

    def embedded(self, ids: Any, embeddings: Any) -> None:
        """Token ids have become embeddings."""
        if isinstance(ids, Tensor) and ids.dim() == 2 and ids.shape[1] > 1 and self._thread().depth == 0:
            self._thread().embedded = (ids, embeddings)

    def _with_ids(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs with the ids that their embeddings were made from, where those were seen.

        Some models (BLIP-2, InstructBLIP) embed a prompt, put the image in place of one token, and hand embeddings
        alone to their language model.
        """
        seen, self._thread().embedded = self._thread().embedded, None
        given = inputs.get("inputs_embeds")
        if seen is None or given is None or inputs.get("input_ids") is not None:
            return inputs
        ids, made = seen
        if given.shape[1:] != made.shape[1:] or len(given) % len(made):
            return inputs
        same = (given == made.repeat_interleave(len(given) // len(made), 0)).all(-1)
        ids = ids.repeat_interleave(len(given) // len(made), 0)
        if ids[~same].unique().numel() > 1 or not bool(same.any()):
            return inputs
        return {**inputs, "input_ids": ids}

    def leave(self, output: Any) -> None:
        """The forward that began last has ended."""
        local = self._thread()
        local.depth = max(0, local.depth - 1)
        if local.depth == 0:
            cache = _cache_of(output)
            if cache is not None:
                self._caches.add(cache)
                for session in self.listening():
                    session.flow().leave(cache)

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """One attention call of one of the model's modules."""
        site, plan = self.plan(module)
        if self._reference is not None and self._reference.listens() and self._thread().aside is None:
            return self._reference.attend(site, module, query, key, value, mask, **kwargs)
        kernel = self._attachment.kernels[id(module)]
        if plan is None:
            return kernel(module, query, key, value, mask, **kwargs)
        call = normalise(module, query, key, value, mask, **interface.call_arguments(kwargs))
        call = plan.leader.flow().fit(site.stack, site.kind, call)
        keep = bool(kwargs.get("output_attentions")) and self._attachment.original(module) == "eager"

        def native(used: Call) -> Tensor:
            if plan.project:
                return kernel(module, used.query, used.key, used.value, used.mask, **kwargs)[0]
            return kernel(module, query, key, value, mask, **kwargs)[0]

        self._forecast(plan, call)
        outcome = attend(plan, call, native, training=module.training, keep=keep)
        return outcome.z, outcome.pattern

    def plan(self, module: nn.Module) -> tuple[Site, Plan | None]:
        """The site of a module's call, and what is to be done there; None when nothing is."""
        local = self._thread()
        name = (id(module), local.count(id(module)))
        if local.version is not self.sessions:
            local.plans, local.version = {}, self.sessions
        plan = local.plans.get(name)
        if plan is None:
            plan = local.plans[name] = self._plan(self.modules[id(module)].site(name[1]))
        if plan.idle or plan.leader.flow().run is None:
            return plan.site, None
        return plan.site, plan if local.depth else replace(plan, silent=True)

    def observe(self, entry: AttentionModule, scores: Tensor, pattern: Tensor) -> Tensor:
        """One pattern of a module outside the interface; returns the pattern to use."""
        _, plan = self.plan(entry.module)
        return pattern if plan is None else observe(plan, scores, pattern)

    def stream(self, entry: AttentionModule, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The residual enters a layer; returns the arguments to use when a fix changes it."""
        local = self._thread()
        if not local.streams:
            return None
        given = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(given, Tensor) or given.dim() not in (2, 3):
            return None
        hidden = given if given.dim() == 3 else given[None]  # packed images have no batch axis
        number = local.count(("block", id(entry.module)))
        site, new = entry.site(number), hidden
        for session in self.listening():
            flow = session.flow()
            if flow.run is None or local.depth == 0:
                continue
            for number, fix in enumerate(session.fixes):
                if _streams(fix) and touches(fix, site, self.language):
                    rows = flow.rows(site.stack, hidden.shape[0], hidden.shape[1], hidden.device)
                    act, session.entering = Act(fix, session, number), None
                    new = fix.stream(new, site, context(act, site.stack, rows))
        for session in self.listening():
            flow = session.flow()
            if flow.run is None or local.depth == 0:
                continue
            session.entering = new if session.needs_residual else None
            if session.want.residual:
                rows = flow.rows(site.stack, hidden.shape[0], hidden.shape[1], hidden.device)
                session.buffer(site).add_rows("residual", new.detach().clone(), rows)
        if new is hidden:
            return None
        new = new if given.dim() == 3 else new[0]
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    def _plan(self, site: Site) -> Plan:
        sessions = self.listening()
        steps: dict[str, list] = {step: [] for step in STEPS}
        for session in sessions:
            for number, fix in enumerate(session.fixes):
                if not getattr(fix, "neutral", False) and touches(fix, site, self.language):
                    for step in getattr(fix, "steps", STEPS):
                        if hasattr(fix, step):
                            steps[step].append(Act(fix, session, number))
        return Plan(
            site,
            project=tuple(steps["project"]),
            edit=tuple(steps["edit"]),
            scale=tuple(steps["scale"]),
            watch=tuple(session for session in sessions if session.watches),
        )

    def _opening(self, session: Session, number: int, module: nn.Module, inputs: dict[str, Any]) -> Opening:
        """What a fix is told before a prompt is read."""
        run = session.flow().current
        place = self.sessions.index(session) if session in self.sessions else len(self.sessions)
        before = tuple(fix for earlier in self.sessions[:place] for fix in earlier.fixes)

        def forward(altered: Mapping[str, Any], fix: Any) -> None:
            fixes = (*before, *session.fixes[:number], fix)
            alone = Session(self.model, session.processor, self.language, fixes=fixes)
            given = {name: value for name, value in altered.items() if name not in _OF_ITS_OWN}
            with self._aside(alone), torch.no_grad():
                module(**given, **({"use_cache": False} if "use_cache" in altered else {}))

        stack = getattr(session.fixes[number], "stack", None) or self.language
        first = next(value for value in inputs.values() if isinstance(value, Tensor))
        return Opening(
            run=run,
            stack=stack,
            memory=run.memory(number),
            inputs=inputs,
            batch=len(first),
            aside=self._thread().aside is not None,
            forward=forward,
        )

    @contextmanager
    def _aside(self, session: Session) -> Iterator[None]:
        """A forward of the current thread within another one, with fixes of its own; nobody records it."""
        calls, aside = self._thread(), _Calls()
        aside.aside = (session,)
        self._local.calls = aside
        try:
            yield
        finally:
            self._local.calls = calls

    def _forecast(self, plan: Plan, call: Any) -> None:
        for session in plan.watch:
            if session.want.maps and not session.flow().current.buffers:
                alike = sum(entry.stack == plan.site.stack for entry in self.modules.values())
                session.forecast(call.shape, call.query.element_size(), alike)

    def _reordered(self, cache: Any, index: Tensor) -> None:
        for session in self.listening():
            session.flow().reorder(cache, index)

    def _cropped(self, cache: Any) -> None:
        for session in self.listening():
            session.flow().crop(cache)

    def _thread(self) -> _Calls:
        try:
            return self._local.calls
        except AttributeError:
            self._local.calls = _Calls()
            return self._local.calls


class _Calls:
    """What a thread is doing with the model: how deep in forwards it is, how often each module was called."""

    def __init__(self) -> None:
        self.depth = 0
        self.plans: dict[tuple[int, int], Plan] = {}
        self.version: tuple[Session, ...] | None = None
        """The sessions that the plans were made for."""
        self.aside: tuple[Session, ...] | None = None
        """The sessions of a forward within another one; None outside of such."""
        self.embedded: tuple[Tensor, Tensor] | None = None
        """Ids and embeddings that were made outside of a forward."""
        self.streams = False
        """True when someone wants the residual of the forward under way."""
        self._made: dict[Any, int] = {}
        self._again: dict[Any, int] = {}

    def begin(self) -> None:
        """An outermost forward begins."""
        self._made.clear()
        self._again.clear()

    def count(self, name: Any) -> int:
        """The number of this call of a module.

        Outside a forward a layer is called on its own, or once more for the backward pass: its calls repeat.
        """
        calls = self._made if self.depth else self._again
        number = calls.get(name, 0)
        calls[name] = number + 1
        return number if self.depth else number % max(1, self._made.get(name, 0))


_OF_ITS_OWN = ("past_key_values", "use_cache", "cache_position", "labels")
"""Arguments that a forward within another one does not share with it."""


@contextmanager
def attached(hub: Hub, session: Session) -> Iterator[Session]:
    """Attaches a session for the length of a `with` block."""
    owner = hub.add(session)
    try:
        yield session
    finally:
        owner.remove(session)


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
    if held is not None and held.model is not model:
        raise CaptureError(
            "A model around this one, or a part of it, is captured or patched already.",
            evidence=f"{type(held.model).__name__} is attached, {type(model).__name__} was asked for",
            remedy="Attach to the same model both times; stack and kind choose the part.",
        )
    return fresh


def _cache_of(output: Any) -> Any:
    """The key-value cache that a forward hands out, as a field or in a tuple; None when there is none."""
    places = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
    return next((place for place in places if hasattr(place, "get_seq_length")), None)


def _wants_stream(session: Session) -> bool:
    """True when a session has use for the residual of the forward under way."""
    run = session.flow().current
    decoded = run.past >= run.prompt
    return session.want.residual or any(
        getattr(fix, "needs_residual", False)
        or (_streams(fix) and not (decoded and getattr(fix, "streams_prompt_only", False)))
        for fix in session.fixes
    )


def _streams(fix: Any) -> bool:
    own = "stream" in getattr(fix, "steps", STEPS) and hasattr(fix, "stream")
    return own and not getattr(fix, "neutral", False)
