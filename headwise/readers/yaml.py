"""YAML from others: the values of JSON, no name twice, and no tags but those that a caller makes something of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from headwise.errors import InputError
from headwise.readers.json import strict_loads
from headwise.readers.limits import current_limits, require_within
from headwise.text import visible

if TYPE_CHECKING:
    from yaml import Node

Place = tuple[str | int, ...]
"""Names and numbers that lead to a value."""
_PLAIN = "tag:yaml.org,2002:"


def parse_yaml(
    content: bytes, *, where: str, construct: Callable[[str, str, int], Any] | None = None
) -> tuple[Any, dict[Place, int]]:
    r"""The value of a YAML text, and the line (from 1) on which every value in it begins.

    Numbers, dates and words mean what they mean in YAML 1.1; dates stay texts. Aliases are copied out.

    Args:
        content: UTF-8 bytes.
        where: the file, for messages.
        construct: gives the value for a tag, such as `!function`, the text behind it, and its line; without it tags
            are refused.

    Raises:
        InputError: it is not YAML; a tag, a name that is no text or stands twice, a number that is none; size, depth or
            values after aliases are copied out, beyond the limits. The line is named.

    Example:
        >>> parse_yaml(b"a: 1\nb: [yes, x]\n", where="example")
        ({'a': 1, 'b': [True, 'x']}, {(): 1, ('a',): 1, ('b',): 2, ('b', 0): 2, ('b', 1): 2})
    """
    import yaml

    limits = current_limits()
    require_within(len(content), limits.yaml_bytes, "bytes", where=where)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = content.decode("utf-8-sig")
        if f"\n{text}".count("\n%"):  # libyaml takes quadratic time for them
            raise InputError("A line begins with %.", evidence=where, remedy="Take directives out.")
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=loader)):  # before composing, which recurses
            require_within(number, 2 * limits.yaml_values, "events", where=where)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > limits.depth:
                _refuse(f"Lists and mappings stand more than {limits.depth} deep.", event, where)
        node = yaml.compose(text, Loader=loader)
    except UnicodeError as error:
        raise InputError(
            "The text is not UTF-8.", evidence=where, remedy="Convert it, for example with iconv."
        ) from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{where} is not YAML.",
            evidence=visible(f"{problem or error}{line}", limit=200),
            remedy="Check the text there.",
        ) from error
    if node is None:
        return None, {}
    require_within(_count(node, {}, where), limits.yaml_values, "values", where=where)
    lines: dict[Place, int] = {}
    return _value(node, (), lines, where, construct), lines


def _count(node: Node, counted: dict[int, int], where: str) -> int:
    """Values in a node with every alias copied out, 64 letters for one; each node is looked at once."""
    if id(node) in counted:
        if not counted[id(node)]:
            _refuse("A value holds itself.", node, where)
        return counted[id(node)]
    counted[id(node)] = 0
    total = 1 + (len(node.value) // 64 if isinstance(node.value, str) else 0)
    for pair in node.value if isinstance(node.value, list) else []:
        total += sum(_count(part, counted, where) for part in (pair if isinstance(pair, tuple) else (pair,)))
    counted[id(node)] = total
    return counted[id(node)]


def _value(
    node: Node,
    place: Place,
    lines: dict[Place, int],
    where: str,
    construct: Callable[[str, str, int], Any] | None,
) -> Any:
    import yaml

    lines[place] = node.start_mark.line + 1
    kind = node.tag.removeprefix(_PLAIN)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [
            _value(part, (*place, number), lines, where, construct) for number, part in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        found: dict[str, Any] = {}
        for key, part in node.value:
            name = key.value
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_PLAIN}str":
                _refuse("A name is no text.", key, where)
            if name in found:
                _refuse(f"The name {visible(repr(name), limit=60)} stands twice.", key, where)
            found[name] = _value(part, (*place, name), lines, where, construct)
        return found
    if not isinstance(node, yaml.ScalarNode):
        _refuse(f"There is a tag: {visible(kind, limit=60)}.", node, where)
    if kind in ("str", "timestamp"):
        return node.value
    if kind in ("null", "bool", "int", "float"):
        try:
            value = getattr(yaml.SafeLoader(""), f"construct_yaml_{kind}")(node)
            strict_loads(str(value) if kind in ("int", "float") else "0")
        except ValueError:
            _refuse(f"{visible(node.value, limit=60)} is out of range.", node, where)
        return value
    if construct is None or not node.tag.startswith("!"):
        _refuse(f"There is a tag: {visible(f'{kind} {node.value}', limit=100)}.", node, where)
    return construct(node.tag, node.value, lines[place])


def _refuse(fact: str, what: Any, where: str) -> NoReturn:
    """Raise what is wrong with a node or an event.

    Raises:
        InputError: always.
    """
    raise InputError(
        fact, evidence=f"{where}, line {what.start_mark.line + 1}", remedy="Check the text there."
    )
