"""Which configurations of a model are switched to headwise's attention, and to which of its names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.probes import interface
from headwise.probes.sites import AttentionModule

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def switches(model: PreTrainedModel, modules: list[AttentionModule]) -> list[tuple[Any, str]]:
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
