"""Arms of a comparison, from what a user calls fixes, and what a manifest says of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from headwise.errors import FixError, InputError
from headwise.evaluation.results.arm import NONE, Arm
from headwise.files import file_name
from headwise.probes.fix_plan import STEPS

if TYPE_CHECKING:
    from headwise.subject import Subject


def parse_arms(fixes: Any, subject: Subject | None = None) -> list[Arm]:
    """Arms of a comparison, not run yet.

    Args:
        fixes: a fix, its name ("VAR:p=0.4"), the path of a spec; or a list of these, where a list inside is one arm
            whose fixes act together; or a mapping label -> one of these.
        subject: the model, if it is there already. A spec that was written for another one is refused.

    Raises:
        InputError: there is none, a label occurs twice, or a name is unknown.
        FixError: a parameter is out of range, or something is no fix.
    """
    if isinstance(fixes, Mapping):
        pairs = [(str(label), item) for label, item in fixes.items()]
    else:
        several = fixes if isinstance(fixes, list | tuple) else [fixes]
        pairs = [(None, item) for item in several]
    if not pairs:
        raise InputError(
            "There is no fix to compare.", evidence="fixes is empty", remedy="For example fixes=[VAR()]."
        )
    names = _file_names(
        [one for _, item in pairs for one in (item if isinstance(item, list | tuple) else [item])]
    )
    arms: list[Arm] = []
    for label, item in pairs:
        members = list(item) if isinstance(item, list | tuple) else [item]
        if not members:
            raise InputError("An arm has no fix.", evidence=f"arm {len(arms) + 1}", remedy="Leave it out.")
        complete = tuple(fix for one in members for fix in _resolved(one, subject))
        own = label or " + ".join(names.get(str(one)) or _label(one) for one in members)
        arms.append(Arm(own, fixes=complete))
    labels = [NONE, *(arm.label for arm in arms)]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(
                f"Two arms are called {label!r}.",
                evidence=f"{NONE!r} is the model without a fix" if label == NONE else ", ".join(labels[1:]),
                remedy="Name them yourself: fixes={label: fix, ...}.",
            )
    return arms


def describe(fix: Any) -> dict[str, Any]:
    """A fix as name and parameters, JSON-able; tensors as their shape and a digest.

    Example:
        >>> from headwise.fixes import ZeroHeads
        >>> describe(ZeroHeads(heads=((0, 1),)))["fix"]
        'zero_heads'
    """
    from headwise.fixes.spec.parameters import to_entry

    try:
        found = to_entry(fix).model_dump()
    except FixError:  # it cannot be in a spec, and is told as well as can be
        kind = type(fix)
        own = {item.name: getattr(fix, item.name) for item in fields(fix)} if is_dataclass(fix) else vars(fix)
        parameters = {name: _to_json(value) for name, value in own.items()}
        found = {"fix": f"{kind.__module__}:{kind.__qualname__}", "parameters": parameters}
    if getattr(fix, "leaks_future", False):
        found["leaks_future"] = True
    return found


def _resolved(item: Any, subject: Subject | None) -> tuple[Any, ...]:
    if isinstance(item, str | Path):
        from headwise.fixes.parsing import read_fixes

        return read_fixes(item, subject)
    if isinstance(item, type) or not any(callable(getattr(item, step, None)) for step in STEPS):
        raise FixError(
            "This is no fix.",
            evidence=f"{type(item).__name__}: {str(item)[:80]}",
            remedy='Give a fix such as hw.fixes.VAR(p=0.4), a name such as "VAR:p=0.4", or the path of a spec.',
        )
    return (item,)


def _file_names(items: Sequence[Any]) -> dict[str, str]:
    """What files are called whose own names are the same: how they lie within the folder that they share."""
    alike: dict[str, dict[str, str]] = {}
    for text in (str(item) for item in items if isinstance(item, str | Path)):
        alike.setdefault(file_name(text), {})[text] = os.path.abspath(text)
    found = {}
    for places in alike.values():
        if len(set(places.values())) > 1:
            shared = os.path.commonpath(map(os.path.dirname, places.values()))
            found |= {text: Path(os.path.relpath(place, shared)).as_posix() for text, place in places.items()}
    return found


def _label(item: Any) -> str:
    """The text that names it, or its class with the plain parameters that are not at their default."""
    if isinstance(item, str | Path):
        return file_name(item)
    kind = type(item)
    own = fields(item) if is_dataclass(item) else ()
    chosen = {
        field.name: getattr(item, field.name)
        for field in own
        if field.compare and (field.default is MISSING or getattr(item, field.name) != field.default)
    }
    parameters = [
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in chosen.items()
        if isinstance(value, str | int | float)
    ]
    return f"{kind.__name__}:{','.join(parameters)}" if parameters else kind.__name__


def _to_json(value: Any) -> Any:
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous()
        digest = sha256(content.float().numpy().tobytes()).hexdigest()[:16]
        return {"tensor": list(content.shape), "sha256": digest}
    if isinstance(value, Mapping):
        return {str(key): _to_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(member) for member in value]
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else type(value).__qualname__
