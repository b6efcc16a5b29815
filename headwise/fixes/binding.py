"""Fixes checked against a model, with everything filled in that depends on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError
from headwise.fixes.registry import in_place_of_a_file
from headwise.probes.attach.sites import head_count
from headwise.probes.engine.instrumentation import Instrumentation, instrument
from headwise.probes.fix_plan import STEPS, FixPlan, plan_fix
from headwise.subject.info import ModelInfo, model_info
from headwise.text import head_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def bound(
    fixes: Any | Iterable[Any], model: PreTrainedModel, instrumented: Instrumentation | None = None
) -> tuple[Any, ...]:
    """One fix or several, checked against a model, with everything filled in that depends on it.

    Raises:
        FixError: an object that is no fix, a layer, head or tower that the model does not have.
        NotFitted: constants are missing.
    """
    instrumented = instrumented or instrument(model)
    several = as_fixes(fixes)
    for fix in several:
        require_fix(fix)
    asking = [plan for plan in map(plan_fix, several) if hasattr(plan.fix, "bind") or plan.needs]
    if asking:
        info = model_info(model, instrumented.modules.values()).require_sizes()
        for plan in asking:
            _require_images(plan, info)
        several = tuple(fix.bind(info) if hasattr(fix, "bind") else fix for fix in several)
    for fix in several:
        _validate(plan_fix(fix), instrumented)
    return several


def missing_constants(fix: Any, model: PreTrainedModel) -> tuple[str, ...]:
    """Parameters of a fix that nobody has given and no table has for a model: what `fit` is to find.

    Raises:
        FixError: the object is no fix, or the model can never use it.
    """
    require_fix(fix)
    if not hasattr(fix, "missing_constants"):
        return ()
    info = model_info(model).require_sizes()
    _require_images(plan_fix(fix), info)
    return tuple(fix.missing_constants(info))


def as_fixes(fixes: Any | Iterable[Any]) -> tuple[Any, ...]:
    """One fix or several as a tuple.

    Raises:
        FixError: there is none.
    """
    one = any(hasattr(fixes, step) for step in STEPS) or not isinstance(fixes, Iterable)
    several = (fixes,) if one or isinstance(fixes, str) else tuple(fixes)
    if not several:
        raise FixError("There is nothing to install.", remedy="Give one fix or more.")
    return several


def require_fix(fix: Any) -> None:
    """Refuses an object that is no fix.

    Raises:
        FixError: it is none; what to give instead is said.
    """
    if isinstance(fix, str):
        raise FixError(
            "This object is not a fix.",
            evidence=repr(fix),
            remedy=in_place_of_a_file(fix) or "A spec is given alone: hw.patch(subject, path).",
        )
    if isinstance(fix, type) or not any(callable(getattr(fix, step, None)) for step in STEPS):
        raise FixError(
            "This object is not a fix.",
            evidence=f"{fix!r} has none of {', '.join(STEPS)}",
            remedy="Pass an instance with edit(pattern, site, context).",
        )


def _require_images(plan: FixPlan, model: ModelInfo) -> None:
    if "image" in plan.needs and not plan.neutral and not model.has_vision:
        raise FixError(
            f"{plan.name} works on images, and this model takes none.",
            evidence=f"{model.name}: {model.family}",
            remedy="Use it on a vision-language model, such as zoo:vlm.",
        )


def _validate(plan: FixPlan, instrumented: Instrumentation) -> None:
    if plan.neutral:
        return
    tower, kind = plan.tower or instrumented.language, plan.kind
    there = [entry for entry in instrumented.modules.values() if (entry.tower, entry.kind) == (tower, kind)]
    if not there:
        have = sorted({f"{entry.tower} {entry.kind}" for entry in instrumented.modules.values()})
        raise FixError(
            f"This model has no {kind}-attention in a tower {tower!r}.",
            evidence=f"it has {', '.join(have)}",
            remedy="Set the fix's tower and kind.",
        )
    layers = {layer for entry in there for layer in entry.layers}
    heads = plan.heads or ()
    missing = sorted(({layer for layer, _ in heads} | set(plan.layers or ())) - layers)
    if missing:
        raise FixError(
            f"{plan.name} names layer {missing[0]}, which this model's {tower} tower does not have.",
            evidence=f"layers {min(layers)} to {max(layers)}",
        )
    for layer, head in heads:
        for entry in there:
            count = head_count(entry.module)
            if count is not None and entry.layer == layer and head >= count:
                raise FixError(
                    f"{plan.name} names {head_name(layer, head)}, which does not exist.",
                    evidence=f"the layer has {count} heads, 0 to {count - 1}",
                )
