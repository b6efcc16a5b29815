"""Selections of sites and heads: the values of `sites=`, `maps=` and their like in `capture`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from headwise.errors import CaptureError, InputError
from headwise.probes.attach.sites import AttentionModule, Site, head_count

SiteChoice = bool | str | Mapping[str, Any] | Site | Sequence[str | Mapping[str, Any] | Site]
"""Names of sites: all or none; words as sites print them ("cross", "decoder cross 1-3", "L2H3"); a mapping with the
words of fixes, `tower`, `kind`, `layers` and `heads`, pairs (layer, head); a `Site`; or a list of these.
"""

_KINDS = ("self", "cross")
_NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")
_HEAD = re.compile(r"L(\d+)(?:H(\d+))?", re.IGNORECASE)
_REMEDY = (
    'Use words such as "cross", "decoder self 2-4" or "L2H3", a mapping such as '
    '{"tower": "decoder", "kind": "cross", "layers": [1, 2]} or {"heads": [(2, 3)]}, a Site, or a list of these.'
)


@dataclass(frozen=True)
class Heads:
    """Heads of a site, by the numbers that the model gives them."""

    numbers: tuple[int, ...] | None = None
    """In rising order; None for all."""

    def both(self, other: Heads) -> Heads | None:
        """The heads that are in both; None when there are none."""
        if self.numbers is None or other.numbers is None:
            return other if self.numbers is None else self
        common = tuple(number for number in self.numbers if number in other.numbers)
        return Heads(common) if common else None

    def grouped(self, groups: int) -> Heads:
        """The key heads that these heads read."""
        if self.numbers is None or groups == 1:
            return self
        return Heads(tuple(sorted({number // groups for number in self.numbers})))

    def count(self, heads: int) -> int:
        """Number of these heads at a site."""
        return heads if self.numbers is None else len(self.numbers)

    def of(self, tensor: Tensor, axis: int) -> Tensor:
        """The part of a tensor that belongs to these heads; the tensor itself for all heads."""
        if self.numbers is None:
            return tensor
        if self.numbers[-1] >= tensor.shape[axis]:
            raise CaptureError(
                "A head to keep does not exist.",
                evidence=f"head {self.numbers[-1]} of {tensor.shape[axis]}",
                remedy="Heads count from 0.",
            )
        return tensor.index_select(axis, torch.tensor(self.numbers, device=tensor.device))


@dataclass(frozen=True)
class _Rule:
    tower: str | None = None
    kind: str | None = None
    layers: tuple[int, ...] | None = None
    heads: tuple[tuple[int, int], ...] | None = None
    call: int | None = None
    module: str | None = None

    def covers(self, tower: str, layer: int) -> bool:
        """True for a layer of a tower that the rule names, whatever the kind."""
        if self.tower not in (None, tower) or (self.layers is not None and layer not in self.layers):
            return False
        return self.heads is None or any(own == layer for own, _ in self.heads)

    def heads_of(self, site: Site) -> Heads | None:
        if not self.covers(site.tower, site.layer) or self.kind not in (None, site.kind):
            return None
        if self.call not in (None, site.call) or self.module not in (None, site.module):
            return None
        if self.heads is None:
            return Heads()
        return Heads(tuple(sorted({head for layer, head in self.heads if layer == site.layer})))


@dataclass(frozen=True)
class Selection:
    """Sites of a model, and heads of them: the union of rules."""

    rules: tuple[_Rule, ...]
    source: Any = field(compare=False)
    """As Python would write it."""

    @classmethod
    def of(cls, choice: SiteChoice, option: str) -> Selection:
        """The selection that a value of an option names.

        Raises:
            InputError: the value names no sites.
        """
        if isinstance(choice, bool):
            return EVERYTHING if choice else NOTHING
        parts = [choice] if isinstance(choice, str | Mapping | Site) else choice
        if not isinstance(parts, Iterable):
            raise _unclear(option, choice)
        listed = list(cast("Iterable[Any]", parts))
        rules = tuple(_rule(part, option) for part in listed)
        if not rules:
            raise _unclear(option, choice)
        sources = [str(part) if isinstance(part, Site) else _plain(part) for part in listed]
        return cls(rules, sources[0] if len(sources) == 1 else sources)

    def heads(self, site: Site) -> Heads | None:
        """The heads of a site that are meant; None when the site is not."""
        numbers: set[int] = set()
        for rule in self.rules:
            heads = rule.heads_of(site)
            if heads is not None and heads.numbers is None:
                return heads
            numbers.update(() if heads is None else heads.numbers or ())
        return Heads(tuple(sorted(numbers))) if numbers else None

    def covers(self, tower: str, layer: int) -> bool:
        """True for a layer some site of which is meant."""
        return any(rule.covers(tower, layer) for rule in self.rules)

    @property
    def names_heads(self) -> bool:
        """True when some of the heads of a site are meant."""
        return any(rule.heads is not None for rule in self.rules)

    def check(self, option: str, modules: Iterable[AttentionModule]) -> None:
        """Refuses a selection that names what the model does not have."""
        known = list(modules)
        for rule in self.rules:
            own = [entry for entry in known if _names(rule, entry)]
            layers = {layer for entry in own for layer in entry.layers}
            wanted = {layer for layer, _ in rule.heads or ()} | set(rule.layers or ())
            if not own or not wanted <= layers:
                raise InputError(
                    f"This model has no such site: {option}={self!r}.",
                    evidence=f"it has {'; '.join(describe(known))}",
                    remedy=_REMEDY,
                )
            for layer, head in rule.heads or ():
                counts = [head_count(entry.module) for entry in own if layer in entry.layers]
                if counts and all(count is not None and head >= count for count in counts):
                    raise InputError(
                        f"This model has no head L{layer}H{head}.",
                        evidence=f"layer {layer} has {counts[0]} heads, {option}={self!r}",
                        remedy="Heads are pairs (layer, head), both from 0.",
                    )

    def __bool__(self) -> bool:
        return bool(self.rules)

    def __repr__(self) -> str:
        return repr(self.source)


EVERYTHING = Selection((_Rule(),), True)
NOTHING = Selection((), False)


def describe(modules: Sequence[AttentionModule]) -> Iterator[str]:
    """The towers, kinds and layers of a model, one phrase each: "decoder cross 0-5"."""
    layers: dict[tuple[str, str], set[int]] = {}
    for entry in modules:
        layers.setdefault((entry.tower, entry.kind), set()).update(entry.layers)
    for (tower, kind), numbers in layers.items():
        low, high = min(numbers), max(numbers)
        whole = high - low + 1 == len(numbers) > 1
        yield f"{tower} {kind} " + (f"{low}-{high}" if whole else ", ".join(map(str, sorted(numbers))))


def _names(rule: _Rule, entry: AttentionModule) -> bool:
    return (
        rule.tower in (None, entry.tower)
        and rule.kind in (None, entry.kind)
        and rule.module in (None, entry.name)
    )


def _rule(part: Any, option: str) -> _Rule:
    if isinstance(part, Site):
        return _Rule(part.tower, part.kind, (part.layer,), call=part.call, module=part.module or None)
    if isinstance(part, str):
        return _of_words(part, option)
    if not isinstance(part, Mapping) or not part or not set(part) <= {"tower", "kind", "layers", "heads"}:
        raise _unclear(option, part)
    layers: Any = part.get("layers")
    heads: Any = part.get("heads")
    layers = (layers,) if _is_number(layers) else layers
    try:
        layers = None if layers is None else tuple(layers)
        heads = None if heads is None else tuple((layer, head) for layer, head in heads)
    except (TypeError, ValueError):
        raise _unclear(option, part) from None
    numbers = [*(layers or ()), *(number for pair in heads or () for number in pair)]
    texts = [part.get(name) for name in ("tower", "kind") if part.get(name) is not None]
    if (
        not all(map(_is_number, numbers))
        or not all(isinstance(text, str) for text in texts)
        or () in (layers, heads)
        or part.get("kind") not in (None, *_KINDS)
    ):
        raise _unclear(option, part)
    return _joined(_Rule(part.get("tower"), part.get("kind"), layers, heads), option, part)


def _of_words(text: str, option: str) -> _Rule:
    tower = kind = call = None
    layers: list[int] = []
    heads: list[tuple[int, int]] = []
    words = text.replace(",", " ").split()
    for before, word in zip(["", *words], words, strict=False):
        if (named := _HEAD.fullmatch(word)) and named[2]:
            heads.append((int(named[1]), int(named[2])))
        elif named:
            layers.append(int(named[1]))
        elif (span := _NUMBERS.fullmatch(word)) and before == "call":
            call = int(span[1])
        elif span:
            low, high = int(span[1]), int(span[2] or span[1])
            if high < low:
                raise InputError(
                    f"{option}={text!r} names no layers: {low}-{high} runs backwards.",
                    remedy=f"Write {high}-{low}.",
                )
            layers += range(low, high + 1)
        elif word in _KINDS and kind is None:
            kind = word
        elif word.isidentifier() and tower is None and word not in (*_KINDS, "call"):
            tower = word
        elif word != "call":
            raise _unclear(option, text)
    if not words:
        raise _unclear(option, text)
    return _joined(_Rule(tower, kind, tuple(layers) or None, tuple(heads) or None, call), option, text)


def _joined(rule: _Rule, option: str, part: Any) -> _Rule:
    """The rule; refused where its layers and heads exclude each other."""
    if rule.layers is not None and any(layer not in rule.layers for layer, _ in rule.heads or ()):
        raise InputError(
            f"{option}={part!r} names heads of layers that it leaves out.",
            remedy="Name them in a list, [layers, heads]: any part of a list may hold.",
        )
    return rule


def _plain(part: Any) -> Any:
    """A mapping with lists in place of ranges and tuples, so that it reads well."""
    if not isinstance(part, Mapping):
        return part
    return {name: value if isinstance(value, str | int | None) else [*value] for name, value in part.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _unclear(option: str, value: Any) -> InputError:
    return InputError(f"{option}={value!r} names no sites.", remedy=_REMEDY)
