"""Makes `init_continuous_batching` accept an attached model: the manager sees the model as it is without headwise."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import nn

from headwise.errors import FixError, UnsupportedModel
from headwise.probes.attach.interface import INSTRUMENTATION
from headwise.probes.attach.sites import AttentionModule, head_count
from headwise.probes.engine.plan import FixStep, context
from headwise.probes.engine.session import Session
from headwise.probes.generation.generate_hooks import Shadow
from headwise.probes.serving.managers import require_no_graphs
from headwise.probes.serving.packed import Stand, require_packable

METHOD = "init_continuous_batching"


class ContinuousBatchingWatch:
    """Stands in for the method of a model that makes its manager, for as long as something is attached."""

    def __init__(
        self, model: nn.Module, require: Callable[[], None], configurations: Callable[[], dict[int, str]]
    ) -> None:
        self._model = model
        self.require, self.configurations = require, configurations
        self._before: Any = None

    def install(self) -> None:
        """Puts the watch on the model, where it has the method."""
        model = self._model
        if callable(getattr(type(model), METHOD, None)):
            self._before = model.__dict__.get(METHOD)
            model.__dict__[METHOD] = _Manager(self, model, METHOD, self._before)

    def remove(self) -> None:
        """Gives the model its own method back."""
        attributes = self._model.__dict__
        if isinstance(attributes.get(METHOD), _Manager):
            del attributes[METHOD]
            if self._before is not None:
                attributes[METHOD] = self._before


class _Manager(Shadow):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.watch.require()
        view = View(self.module, self.watch.configurations())
        manager = getattr(type(self.module), METHOD)(view, *args, **kwargs)
        require_no_graphs([manager])
        return manager


def require_batchable(
    sessions: Iterable[Session], modules: Collection[AttentionModule], language: str, flash: str | None
) -> None:
    """Refuses sessions that cannot act in continuous batching, and flash attention, which hides its keys."""
    concerned = [session for session in sessions if session.listens()]
    require_packable(concerned)
    for session in concerned:
        _rehearse(modules, language, session)
    if flash is not None:
        raise UnsupportedModel(
            "headwise cannot see the keys of continuous batching on flash attention.",
            evidence=f"the model was loaded with {flash!r}",
            remedy='Load it with attn_implementation="sdpa".',
        )


class View:
    """A model as its manager of continuous batching sees it: with the attention that it has without headwise.

    The manager makes its masks by the name of that attention, so that it goes on rightly when headwise is gone.
    """

    def __init__(self, model: nn.Module, originals: dict[int, str]) -> None:
        self._model = model
        self._supports_flash_attn = False  # whose keys stay out of sight
        self.config = _plain(model.config, originals)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A forward of the model itself."""
        return self._model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def eval(self) -> View:
        """The model in evaluation mode."""
        self._model.eval()
        return self

    def set_attn_implementation(self, name: str) -> None:
        """Implementation that the model is given at once, or when headwise leaves it."""
        before, self.config._attn_implementation_internal = self.config._attn_implementation_internal, name
        instrumented = self._model.__dict__.get(INSTRUMENTATION)
        if instrumented is None:
            self._model.set_attn_implementation(name)  # type: ignore[operator]
        else:
            instrumented.leave_with(before, name)


def _plain(config: Any, originals: dict[int, str]) -> Any:
    """A copy of a configuration, and of those in it, that names the attention from before."""
    plain = copy.copy(config)
    if id(config) in originals:
        plain.__dict__["_attn_implementation_internal"] = originals[id(config)]
    for name in getattr(config, "sub_configs", {}):
        if getattr(config, name, None) is not None:
            plain.__dict__[name] = _plain(getattr(config, name), originals)
    return plain


def _rehearse(modules: Iterable[AttentionModule], language: str, session: Session) -> None:
    """Shows the fixes of a session one row of a made-up request: what asks for more is refused before any comes."""
    for number, plan in enumerate(session.plans):
        entry = next((e for e in modules if plan.touches(e.site(0), language)), None)
        if entry is None or plan.neutral:
            continue
        heads, stand = head_count(entry.module) or 1, Stand(plan, 3)
        step: Any = FixStep(plan, stand, number)  # type: ignore[arg-type]
        layout = stand.rows(1, 4, torch.device("cpu"))
        here = context(step, entry.tower, layout)
        try:
            if plan.names_rows:
                plan.fix.rows(here, 1)
            if "edit" in plan.steps:
                plan.fix.edit(torch.full((1, heads, 1, 4), 0.25), entry.site(0), here)
            if "scale" in plan.steps:
                plan.fix.scale(torch.ones(1, 1, heads, 4), entry.site(0), here)
        except FixError:
            raise
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):
            continue  # four keys are too few for it; the first request will show
