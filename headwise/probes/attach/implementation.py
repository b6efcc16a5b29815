"""Implementation names of a model's configurations: headwise's while something is attached, else their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.errors import UnsupportedModel
from headwise.probes.attach import interface
from headwise.probes.attach.sites import AttentionModule

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Switch:
    """One configuration, the implementation that it named before, and headwise's name for it."""

    def __init__(self, config: Any, *, supports_sdpa: bool) -> None:
        self.config = config
        self._supports_sdpa = supports_sdpa
        self._eager = False
        self.original: str = config._attn_implementation_internal
        """The implementation that the model's user wants; headwise stands in for it."""
        self.name = ""
        """The name that the configuration has while something is attached."""

    def install(self, *, eager: bool) -> None:
        """Names headwise's attention; with `eager`, by the name whose masks are those of eager attention."""
        self._eager = eager
        self._take_over()

    @property
    def changed(self) -> bool:
        """True when somebody else has named another implementation since."""
        return self.config.__dict__["_attn_implementation_internal"] != self.name

    @property
    def possible(self) -> bool:
        """True when headwise can stand in for what the configuration names now."""
        now = self.config._attn_implementation_internal
        return interface.is_own(now) or interface.is_known(now)

    def resume(self) -> None:
        """Stands in for what somebody else has named meanwhile.

        Raises:
            UnsupportedModel: headwise does not know what that computes.
        """
        now = self.config._attn_implementation_internal
        if interface.is_own(now):  # the name of one configuration, copied to another one
            if "|" not in now:
                self.config._attn_implementation_internal = self.name
            return
        if not interface.is_known(now):
            raise UnsupportedModel(
                f"The attention implementation was changed to {now!r} while headwise was attached.",
                evidence=f"{type(self.config).__name__} named {self.original!r} before",
                remedy='Attach to the model as it is now, or choose "eager" or "sdpa".',
            )
        self._take_over()

    def restore(self) -> None:
        """The configuration names what it named before, or what somebody else has named since."""
        if interface.is_own(self.config._attn_implementation_internal):
            self.config._attn_implementation_internal = self.original

    def _take_over(self) -> None:
        now = self.original = self.config._attn_implementation_internal
        wants_float = self._eager or interface.is_eager(now) or (now != "sdpa" and not self._supports_sdpa)
        self.name = interface.FLOAT_NAME if wants_float else interface.BOOL_NAME
        self.config._attn_implementation_internal = self.name


def switches(model: PreTrainedModel, modules: list[AttentionModule]) -> list[Switch]:
    """The configurations to switch.

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
    return [Switch(config, supports_sdpa=supports) for config, supports in switched.values()]
